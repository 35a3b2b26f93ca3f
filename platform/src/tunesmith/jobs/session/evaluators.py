"""The evaluator in force: the user's, which must be ACTIVE, or the generated one, which is built and validated before it is used."""

from __future__ import annotations

import gzip
import io
import tarfile

from tunesmith.agent import evaluator_source
from tunesmith.agent.document import Document, EventKind, GateKind
from tunesmith.agent.inspection import Inspection
from tunesmith.agent.plan import EvaluationPath
from tunesmith.jobs.session import children, evaluations, staging, training
from tunesmith.jobs.session.desk import Desk, Event
from tunesmith.jobs.session.gates import ask
from tunesmith.schemas.names import short_id

ACTIVE, BUILD_FAILED = "ACTIVE", "BUILD_FAILED"
ARCHIVE = "evaluator.tar.gz"
SHUFFLED = "shuffled"


async def ready(desk: Desk) -> None:
    """Go on only with an evaluator that can be used; ask where there is none."""
    if desk.plan.evaluation.path is EvaluationPath.GENERATED:
        await _generated(desk)
    elif desk.document.evaluator is None:
        await _users(desk)


async def _users(desk: Desk) -> None:
    name = desk.plan.evaluation.evaluator
    assert name is not None
    found = await desk.api.find(f"evaluators/{short_id(name)}")
    if found is None or found["state"] != ACTIVE:
        state = "is not there any more" if found is None else f"is {found['state']}"
        reason = ((found or {}).get("status") or {}).get("message")
        await ask(
            desk,
            GateKind.QUESTION,
            f"The evaluator {name} {state}{f' ({reason})' if reason else ''}. "
            "Repair it and say `go on`, or cancel this session.",
        )

    def edit(document: Document) -> None:
        document.evaluator = name

    await desk.change(edit, Event("evaluator", EventKind.STATUS_INFO, f"Evaluator: {name}."))


async def _generated(desk: Desk) -> None:
    """Build what was shown at the plan gate, then hold it against gold and shuffled answers."""
    if desk.document.generated.get("verdict") == "ok":
        return
    identity = f"agent-{desk.id}"
    name = desk.name("evaluators", identity)
    await _build(desk, identity)

    def edit(document: Document) -> None:
        document.evaluator = name

    await desk.change(edit, Event("evaluator", EventKind.STATUS_INFO, f"Evaluator {name} is built."))
    part = staging.SELECT_GOLD if training.is_preference(desk.plan) else staging.SELECT
    rows = desk.rows(part)
    datasets = desk.document.datasets
    assert desk.plan.dataset is not None
    answers = Inspection.model_validate(desk.document.inspection[desk.plan.dataset]).answers
    swapped, chance = evaluator_source.shuffle(rows, answers)
    shuffled = await children.dataset(desk, SHUFFLED, swapped, adapted=True, what=f"Session {desk.id}: others' answers")
    wanted = [
        evaluations.Asked("gold", datasets[part], None, "gold answers"),
        evaluations.Asked("shuffled", shuffled, None, "answers of other rows"),
    ]
    gold, wrong = await evaluations.evaluate(desk, name, wanted, "Validating the evaluator")
    failed = gold.failed or wrong.failed
    verdict = None if failed else evaluator_source.validate(gold.scores, wrong.scores, chance)
    problem = failed if verdict is None else "" if verdict.ok else verdict.reason
    if problem:
        await ask(
            desk,
            GateKind.QUESTION,
            f"The evaluator that I wrote cannot be used: {problem} "
            "Cancel this session, and start one with an evaluator of your own or with validation loss.",
        )
    assert verdict is not None
    text = f"The evaluator is validated. {verdict.reason}"

    def pass_on(document: Document) -> None:
        document.generated |= {"verdict": "ok", "validation": text}

    await desk.change(pass_on, Event("evaluator/validated", EventKind.RESULT, text))


async def _build(desk: Desk, identity: str) -> None:
    """Upload the generated project and wait for its build. Asks where it failed."""
    files = project(desk.document.generated)
    found = await desk.api.find(f"evaluators/{identity}")
    if found is None or found["state"] not in (ACTIVE, BUILD_FAILED):
        spec = {"entryPoint": evaluator_source.ENTRY_POINT, "displayName": f"Session {desk.id}"}
        await desk.api.post("evaluatorsV2", {"evaluator": spec, "evaluatorId": identity})
        content = archive(files)
        urls = await desk.api.post(
            f"evaluators/{identity}:getUploadEndpoint", {"filenameToSize": {ARCHIVE: str(len(content))}}
        )
        await desk.api.upload(urls["filenameToSignedUrls"][ARCHIVE], content)
        await desk.api.post(f"evaluators/{identity}:validateUpload")
        found = await desk.api.get(f"evaluators/{identity}")
    while found["state"] not in (ACTIVE, BUILD_FAILED):
        await desk.say("Building the evaluator")
        await desk.rest(children.POLL_SECONDS)
        found = await desk.api.get(f"evaluators/{identity}")
    if found["state"] == BUILD_FAILED:
        reason = (found.get("status") or {}).get("message") or "it gave no reason"
        await ask(
            desk, GateKind.QUESTION, f"The evaluator that I wrote could not be built: {reason} Cancel this session."
        )


def project(generated: dict[str, str]) -> dict[str, str]:
    """The files of the evaluator's project, by name."""
    return {name: text for name, text in generated.items() if "." in name}


def archive(files: dict[str, str]) -> bytes:
    """A .tar.gz of these files, the same bytes for the same files."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", mtime=0) as zipped, tarfile.open(fileobj=zipped, mode="w") as tar:
        for name, text in sorted(files.items()):
            content = text.encode()
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return packed.getvalue()
