"""What `ep create rft` settles on this machine before anything is sent: evaluator, rows, archive, secrets."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval_protocol.cli.evaluators import LocalEvaluator
from eval_protocol.cli.local_test import TestRun, run_environment, run_evaluator
from eval_protocol.cli.rows import Rows, adapt, dataset_paths, read_jsonl, rows_of_test
from eval_protocol.cli.secrets import Secrets, find_secrets
from eval_protocol.cli.selection import LocalTest, dataset_id, evaluator_id, select_test
from eval_protocol.cli.session import Printer
from eval_protocol.client.packing import EXPORT_MARK, pack
from eval_protocol.errors import DatasetError, EvalProtocolError

if TYPE_CHECKING:
    from eval_protocol.settings import Profile

REQUIREMENTS = "requirements.txt"
VALIDATION_ROWS = 3
"""Rows on which the evaluator is tried here before anything is uploaded."""


@dataclass(frozen=True)
class Request:
    """What the author asked for: the flags, with the job's own fields already in `body`."""

    body: dict[str, Any]
    yes: bool = False
    dry_run: bool = False
    force: bool = False
    skip_validation: bool = False
    wait: bool = False
    as_json: bool = False
    dataset: str | None = None
    evaluator: str | None = None
    job_id: str | None = None
    env_file: str | None = None
    ignore_docker: bool = False
    docker_build_extra: str = ""
    docker_run_extra: str = ""

    @property
    def asks(self) -> bool:
        """Whether questions may be asked."""
        return not self.yes and not self.dry_run and sys.stdin.isatty()


@dataclass(frozen=True)
class DatasetPlan:
    """A dataset to use: one that is there (`rows` None), or rows to upload under an id."""

    id: str
    rows: Rows | None = None
    filename: str = ""


@dataclass(frozen=True)
class Plan:
    """Everything that was prepared here."""

    evaluator_id: str
    local: LocalEvaluator | None
    """None: the evaluator is only on the platform."""
    dataset: DatasetPlan
    evaluation: DatasetPlan | None
    secrets: Secrets
    body: dict[str, Any]
    """The job's own fields; names of evaluator and datasets are filled in when they are known."""
    test: LocalTest | None = None
    """The evaluator's test, where it is here."""


def prepare(
    root: Path, request: Request, profile: Profile, say: Printer, *, missing_in: str | None = None
) -> Plan | None:
    """Steps on this machine but for `try_evaluator`. None when nothing was selected (said so).

    Args:
        missing_in: the platform's account, when it is known to have no evaluator of the id that was asked for.

    Raises EvalProtocolError's branches for a project or a dataset that is not in order.
    """
    test = select_test(
        root, say, evaluator=request.evaluator, missing_in=missing_in, assume_yes=request.yes or request.dry_run
    )
    if test is None and not request.evaluator:
        return None
    name = request.evaluator or (evaluator_id(test) if test else "")
    local = pack_evaluator(root, test, name.rsplit("/", 1)[-1], say) if test else None
    body = json.loads(json.dumps(request.body))
    dataset = _training_rows(root, request, test, name, say)
    evaluation = _evaluation_rows(root, body.pop("evaluationDataset", None), test, name)
    secrets = find_secrets(root, request.env_file, profile.api_key)
    return Plan(name, local, dataset, evaluation, secrets, body, test)


def try_evaluator(root: Path, request: Request, plan: Plan, profile: Profile, say: Printer) -> bool:
    """Run the evaluator on a few rows here, where it is here and that is wanted. False when it failed (said so)."""
    if plan.test is None:
        say(
            f"Evaluator '{plan.evaluator_id}' is not in this project: it is used as it is on the platform, and not tried here."
        )
        return True
    if request.skip_validation:
        return True
    if request.dry_run:
        say(f"--dry-run: {plan.test.entry_point} is not run here; without it, {VALIDATION_ROWS} rows would be.")
        return True
    return _validate(root, request, plan.test, profile, say)


def pack_evaluator(root: Path, test: LocalTest, name: str, say: Printer) -> LocalEvaluator:
    """Pack the project of an evaluator; say what is left out of it. Raises EvalProtocolError when it has no requirements.txt or cannot be packed."""
    if not (root / REQUIREMENTS).exists():
        raise EvalProtocolError(
            f"Upload requires {REQUIREMENTS} in the project root ({root}), because the platform builds the evaluator's "
            f"environment from it. Write one (it may be empty but for `eval-protocol`), or run the command where it lies."
        )
    if len(shapes := test.found.parametrizations()) > 1:
        raise EvalProtocolError(
            f"{test.entry_point} has {len(shapes)} parametrizations ({', '.join(shapes)}), and a job trains against one. "
            "Leave one in completion_params and evaluation_test_kwargs."
        )
    archive = pack(root, required=(REQUIREMENTS, test.file))
    for folder in archive.exports:
        say(f"Not sent: {folder}/ (an export; remove {folder}/{EXPORT_MARK} to have it sent)")
    return LocalEvaluator(name, test.function, test.entry_point, archive)


def _training_rows(root: Path, request: Request, test: LocalTest | None, name: str, say: Printer) -> DatasetPlan:
    """Which dataset to train on: `--dataset` (a file or an id), else the test's own rows."""
    new_id = dataset_id(name, datetime.now())
    if request.dataset:
        file = _as_file(root, request.dataset)
        if file is None:
            return DatasetPlan(request.dataset)
        rows = adapt(read_jsonl(file), test.found.spec if test else None)
        say(f"✓ Using JSONL from --dataset: {request.dataset} ({rows.count} rows)")
        return DatasetPlan(new_id, rows, file.name)
    if test is None:
        raise DatasetError(
            f"Evaluator '{name}' is not in this project, so its dataset is not known here. Give it with --dataset (id or JSONL file)."
        )
    paths = dataset_paths(test.found.spec)
    rows = rows_of_test(test.found.spec)
    if not paths:
        say(f"✓ Using the rows given in {test.entry_point} ({rows.count} rows)")
        return DatasetPlan(new_id, rows, f"{new_id}.jsonl")
    say(f"✓ Using JSONL from input_dataset: {', '.join(_relative(path, root) for path in paths)}")
    say(f"✓ Transformed dataset via dataset_adapter into EvaluationRow JSONL ({rows.count} rows)")
    return DatasetPlan(new_id, rows, Path(paths[0]).name)


def _evaluation_rows(root: Path, given: str | None, test: LocalTest | None, name: str) -> DatasetPlan | None:
    if not given:
        return None
    file = _as_file(root, given)
    if file is None:
        return DatasetPlan(given)
    rows = adapt(read_jsonl(file), test.found.spec if test else None)
    return DatasetPlan(dataset_id(name, datetime.now(), kind="evaluation"), rows, file.name)


def _as_file(root: Path, given: str) -> Path | None:
    """The file that `--dataset` names, or None when it is an id."""
    path = root / Path(given).expanduser()
    if path.is_file():
        return path
    if given.endswith((".jsonl", ".json")) or given.startswith((".", "/", "~")):
        raise DatasetError(
            f"The dataset {given} does not exist (looked for {path}). Give a JSONL file or a dataset id."
        )
    return None


def _validate(root: Path, request: Request, test: LocalTest, profile: Profile, say: Printer) -> bool:
    """Run the evaluator on a few rows here. A score of 0 is fine: the model is yet to learn."""
    run = TestRun(
        root, test.entry_point, threshold="0", max_rows=VALIDATION_ROWS, ignore_docker=request.ignore_docker,
        docker_build_extra=request.docker_build_extra, docker_run_extra=request.docker_run_extra,
        output="-vs" if say.verbose else "-qqs",
    )  # fmt: skip
    say(
        f"Validating the evaluator on {VALIDATION_ROWS} rows before anything is uploaded (--skip-validation leaves this out)..."
    )
    status = run_evaluator(run, run_environment(root, request.env_file, profile), say)
    if status:
        say(f"❌ The evaluator failed here (exit status {status}); nothing was uploaded.", err=True)
        say(
            "   Correct it and try it alone with 'ep local-test', or go on regardless with --skip-validation.", err=True
        )
    else:
        say("✓ The evaluator runs here.")
        say()
    return status == 0


def _relative(source: str, root: Path) -> str:
    path = Path(source)
    return str(path.relative_to(root)) if path.is_absolute() and path.is_relative_to(root) else source
