"""run.html: everything of a job in one file that fetches nothing, whatever its model wrote, and that is small enough to mail."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tunesmith.db.completions import CorrelationIds
from tunesmith.db.jobs import enqueue
from tunesmith.db.rollouts import add_events, add_rollouts
from tunesmith.db.tables import EvaluatorVersion
from tunesmith.evaluators.sources import SourceFile, compare
from tunesmith.server.run_report import packed, spread

from tests.server.conftest import BASE_MODEL, Platform
from tests.server.test_rft_monitoring import spec
from tests.server.test_rft_rollouts import call, line, record

NAME = "accounts/local/reinforcementFineTuningJobs/j"
PATH = "/reinforcementFineTuningJobs/j/report"
EVALUATOR = "accounts/local/evaluators/e"
SCRIPT = "const a = 1 < 2;"
VIEWER = (
    '<!doctype html><html><head><meta charset="utf-8" /><title>A run</title><style>p{}</style></head><body>'
    '<script type="application/json" id="run-data"></script>'
    f'<script type="module" id="run-viewer">{SCRIPT}</script></body></html>'
)
HOSTILE = "</script><script>alert(1)</script><!--\u2028"


def evaluations(step: int, row: int) -> dict[str, Any]:
    return line(step, row, 0, kind="evaluation", rollout_id=f"j-e{step}-r{row}-k0-a0")


def archive(source: str, top: str) -> bytes:
    """As clients pack a project, in a folder of its name, which an edit calls `project`."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:gz") as tar:
        for name, text in (("evaluation.py", source), ("same.txt", "same")):
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    return content.getvalue()


@pytest.fixture
def job(platform: Platform, bundle: Path) -> Platform:
    (bundle / "run-viewer.html").write_text(VIEWER)
    events = [
        {"kind": "control", "step": 1, "evaluator_version": 2, "learning_rate": 2e-3, "time": 2.0},
        *(
            {"kind": "chunk", "chunk": s, "step": s, "epoch": 0, "version": s, "sealed": 1, "mean_score": s / 10,
             "evaluator_version": 1 + s, "learning_rate": 1e-3 * (1 + s), "time": 3.0}
            for s in (0, 1)
        ),
        {"kind": "evaluation", "step": 1, "version": 1, "score": 0.5, "evaluator_version": 2, "time": 4.0},
    ]  # fmt: skip
    control = platform.control
    with control.sessions.begin() as session:
        given = {**spec(), "base_model": BASE_MODEL, "evaluator": EVALUATOR, "evaluator_version": 1}
        enqueue(session, NAME, "accounts/local", "rft", given, state="JOB_STATE_RUNNING")
        lines = [line(step, row, k) for step in (0, 1) for row in range(4) for k in range(4)]
        lines[0]["row"]["messages"][-1]["content"] = HOSTILE
        lines[1]["row"]["messages"][-1]["content"] = "x" * 100_000
        add_rollouts(
            session, NAME, "rollouts.jsonl", [*enumerate(lines), *enumerate(evaluations(1, r) for r in range(3))]
        )
        add_events(session, NAME, "events.jsonl", [*enumerate(events)])
        add_events(session, NAME, "metrics.jsonl", [(1, {"step": 0, "loss": 0.5})])
        for version in (1, 2, 3):
            key = f"evaluators/local/e/{version}/source.tar.gz"
            target = control.settings.path("objects", *key.split("/"))
            target.write_bytes(archive(f"score = {version}\n", "mine" if version == 1 else "project"))
            session.add(EvaluatorVersion(
                name=f"{EVALUATOR}/versions/{version}", evaluator=EVALUATOR, version=version, archive_key=key,
                state="ACTIVE", message="more red", origin="edit",
            ))  # fmt: skip
    return platform


def data_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="run-data">(.*?)</script>', page, re.DOTALL)
    assert found
    data = json.loads(found[1])
    if "encoding" in data:
        assert data["encoding"] == "gzip+base64"
        data = json.loads(gzip.decompress(base64.b64decode(data["data"])))
    return data


def test_the_file_has_the_jobs_figures_rollouts_and_sources(job: Platform) -> None:
    answer = job.call("GET", PATH)
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-disposition"] == 'attachment; filename="j.html"'
    data = data_of(answer.text)
    assert (data["format"], data["job"]["name"]) == (1, NAME)
    assert [event["kind"] for event in data["events"]] == ["control", "chunk", "chunk", "evaluation"]
    assert data["metrics"] == [{"step": 0, "loss": 0.5}]
    assert [
        (s["step"], s["evaluatorVersion"], s["learningRate"], s["meanScore"], s["total"]) for s in data["steps"]
    ] == [
        (0, 1, 1e-3, 0.0, 16),
        (1, 2, 2e-3, 0.1, 16),
    ]
    assert [(e["step"], e["version"], e["meanScore"], len(e["rollouts"])) for e in data["evaluations"]] == [
        (1, 1, 0.5, 3)
    ]
    assert data["kept"] == {"rollouts": 35, "of": 35, "withTokens": 0}
    rollout = data["steps"][1]["rollouts"][0]
    assert (rollout["rowIndex"], rollout["score"], rollout["messages"][1]["content"]) == (0, 0.4, "What is 0 + 0?")
    whole = job.ok("GET", PATH.replace("/report", "/audit"))
    assert data["audit"] == {name: value for name, value in whole.items() if name != "topScored"}
    assert data["audit"]["rollouts"] == 32
    versions = data["evaluator"]["versions"]
    assert [(v["version"], v["used"], v["message"]) for v in versions] == [(1, True, "more red"), (2, True, "more red")]
    assert versions[0]["diff"] is None
    assert [file["path"] for file in versions[1]["diff"]] == ["evaluation.py"]
    assert "-score = 1\n+score = 2" in versions[1]["diff"][0]["diff"]


def test_only_its_own_script_may_run_and_nothing_is_fetched(job: Platform) -> None:
    page = job.call("GET", PATH).text
    policy = re.search(r'<head><meta http-equiv="Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    digest = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    assert policy[1].startswith(f"default-src 'none'; script-src 'sha256-{digest}'; ")
    assert "connect-src" not in policy[1]
    assert "<title>j: a Tunesmith run</title>" in page


@pytest.mark.parametrize("rollouts", [0, 300])
def test_no_answer_ends_the_data_early(job: Platform, rollouts: int) -> None:
    """Small data stands in the file as it is, large data packed: in neither can an answer leave its place."""
    page = job.call("GET", f"{PATH}?rollouts={rollouts}").text
    assert page.count("</script>") == 2
    assert page.count("<script") == 2
    plain = packed({"answer": HOSTILE})
    assert "<" not in plain
    assert "\u2028" not in plain
    assert json.loads(plain) == {"answer": HOSTILE}


def test_few_rollouts_are_spread_over_steps_and_show_the_ends_of_a_group(job: Platform) -> None:
    data = data_of(job.call("GET", f"{PATH}?rollouts=12").text)
    assert data["kept"]["rollouts"] <= 12
    assert [s["total"] for s in data["steps"]] == [16, 16]
    shown = data["steps"][-1]["rollouts"]
    assert [(r["rowIndex"], r["k"]) for r in shown[:4]] == [(0, 3), (0, 0), (1, 3), (1, 0)]
    longest = max(
        len(m["content"])
        for s in data_of(job.call("GET", PATH).text)["steps"]
        for r in s["rollouts"]
        for m in r["messages"]
    )
    assert longest < 25_000


async def test_tokens_come_with_their_log_probabilities(job: Platform) -> None:
    given = call(0, [1, 2], [3, 4], ids=CorrelationIds(rollout_id="j-c1-r0-k3-a0"))
    await record(job, [given])
    rollouts = data_of(job.call("GET", PATH).text)["steps"][1]["rollouts"]
    [shown] = [r for r in rollouts if r["rolloutId"] == "j-c1-r0-k3-a0"]
    [turn] = shown["turns"]
    assert [logprob for _, logprob in turn["tokens"]] == [None, None, -0.5, -0.5]
    assert turn["start"] == 0
    assert all(r["turns"] == [] for r in rollouts if r is not shown), "recorded nowhere"


def test_without_the_viewer_it_says_what_to_do(job: Platform, bundle: Path) -> None:
    (bundle / "run-viewer.html").unlink()
    assert "make setup" in job.fails(503, "GET", PATH)
    (bundle / "run-viewer.html").write_text("<html></html>")
    assert job.call("GET", PATH).status_code == 500
    assert job.call("GET", PATH.replace("/j/", "/nobody/")).status_code == 404


@pytest.mark.parametrize(("count", "most"), [(3, 5), (10, 4), (100, 2), (7, 1), (0, 3)])
def test_steps_are_thinned_evenly_with_both_ends(count: int, most: int) -> None:
    found = spread(range(count), most)
    assert len(found) == len(set(found)) == min(count, most)
    assert found == sorted(found)
    if most > 1 and count:
        assert (found[0], found[-1]) == (0, count - 1)


def test_differences_name_each_file_once() -> None:
    before = [*files(a="1", binary="t", gone="x", same="s")]
    after = [*files(a="2", binary=None, new="y", same="s")]
    assert [(file["path"], file["status"], file["diff"] is None) for file in compare(before, after)] == [
        ("a", "changed", False),
        ("binary", "changed", True),
        ("gone", "removed", False),
        ("new", "added", False),
    ]


def files(**texts: str | None) -> Iterator[SourceFile]:
    for path, text in texts.items():
        yield SourceFile(path, 1, text, f"digest of {text}")
