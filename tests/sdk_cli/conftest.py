"""A fake platform on a socket, a small evaluator project, and the CLI called in this process."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click
import pytest

from tests.sdk_cli.fake_platform import KEY, FakePlatform, serve

EVALUATION = '''
"""Scores an answer by its digits."""
from eval_protocol.models import EvaluateResult, EvaluationRow, Message
from eval_protocol.pytest import NoOpRolloutProcessor, evaluation_test


def adapt(rows):
    return [
        EvaluationRow(messages=[Message(role="user", content=row["question"])], ground_truth=row["answer"])
        for row in rows
    ]


@evaluation_test(
    input_dataset=["rows.jsonl"],
    dataset_adapter=adapt,
    completion_params=[{"model": "accounts/tunesmith/models/tiny-math-v1"}],
    rollout_processor=NoOpRolloutProcessor(),
    passed_threshold=None,
    mode="pointwise",
)
def digits_match(row: EvaluationRow) -> EvaluationRow:
    row.evaluation_result = EvaluateResult(score=1.0 if row.ground_truth else 0.0, reason="compared")
    return row
'''


@pytest.fixture
def platform() -> Iterator[FakePlatform]:
    with serve(FakePlatform()) as fake:
        yield fake


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty home folder and an environment without any platform."""
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    for name in ("FIREWORKS_API_KEY", "FIREWORKS_API_BASE", "EP_MODEL_BASE_URL", "EP_LLM_API_BASE"):
        monkeypatch.delenv(name, raising=False)
    return folder


@pytest.fixture
def profile(home: Path, platform: FakePlatform) -> Path:
    """The client profile that `tunesmith up` writes, pointing at the fake."""
    file = home / ".tunesmith" / "profile.json"
    file.parent.mkdir()
    file.write_text(json.dumps({"api_base": platform.base, "api_key": KEY, "account_id": "local"}))
    return file


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with one evaluator, its requirements and three rows; the working directory."""
    root = tmp_path / "my-project"
    root.mkdir()
    (root / "evaluation.py").write_text(EVALUATION)
    (root / "requirements.txt").write_text("eval-protocol\n")
    rows = [{"question": f"What is {n} + {n}?", "answer": str(n + n)} for n in range(1, 4)]
    (root / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.chdir(root)
    return root


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    status: int
    out: str
    err: str


@pytest.fixture
def ep(capfd: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Call the CLI in this process: `ep("create", "rft", "--yes")`."""
    from eval_protocol.cli import cli

    def call(*arguments: str) -> Result:
        capfd.readouterr()
        try:
            status = cli.main(list(arguments), prog_name="ep", standalone_mode=False)
        except click.ClickException as error:
            error.show()
            status = error.exit_code
        captured = capfd.readouterr()
        return Result(status if isinstance(status, int) else 0, captured.out, captured.err)

    return call
