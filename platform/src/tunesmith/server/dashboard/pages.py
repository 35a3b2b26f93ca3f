"""The pages: an index, and one page each for an evaluator, a dataset, an RFT job and a model."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from tunesmith.db.datasets import get_dataset, list_datasets
from tunesmith.db.evaluators import get_evaluator, list_evaluators
from tunesmith.db.jobs import FINAL_STATES
from tunesmith.db.listing import ListQuery
from tunesmith.db.models import get_model, list_models
from tunesmith.db.reinforcement_fine_tuning_jobs import get_rft_job, list_rft_jobs
from tunesmith.db.rollout_pages import page_of_rollouts
from tunesmith.db.rollouts import list_events
from tunesmith.db.tables import Job, JobEvent, Model
from tunesmith.schemas.names import account_name, resource_name
from tunesmith.server.control import Control, Reader
from tunesmith.server.dashboard.access import viewer
from tunesmith.server.dashboard.curve import HeldOut, reward_curve
from tunesmith.server.dashboard.render import render
from tunesmith.server.dashboard.transcript import answer_of, prompt_of
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import NOUN, rft_job_wire

router = APIRouter(include_in_schema=False)
Viewer = Annotated[str, Depends(viewer)]
ROLLOUTS_SHOWN = 20
ROWS_SHOWN = 5
_PREVIEW_BYTES = 64 * 1024


@router.get("/")
def root() -> Response:
    """The front door leads to the index."""
    return RedirectResponse("/dashboard")


@router.get("/dashboard")
def index(account: Viewer, session: Reader) -> HTMLResponse:
    """The newest of everything."""
    name, newest = account_name(account), ListQuery(page_size=50)
    return render(
        "index.html",
        title=name,
        jobs=list_rft_jobs(session, name, newest)[0],
        evaluators=list_evaluators(session, name, newest)[0],
        datasets=list_datasets(session, name, newest)[0],
        models=list_models(session, name, newest)[0],
    )


@router.get("/dashboard/evaluators/{evaluator_id}")
def evaluator(account: Viewer, evaluator_id: str, session: Reader) -> HTMLResponse:
    """State of the newest version, and its build log."""
    row = get_evaluator(session, resource_name(account, "evaluators", evaluator_id))
    return render("evaluator.html", title=row.name, evaluator=row, refresh=row.state == "BUILDING")


@router.get("/dashboard/datasets/{dataset_id}")
def dataset(account: Viewer, dataset_id: str, session: Reader, control: Control) -> HTMLResponse:
    """State, size and the first rows."""
    row = get_dataset(session, resource_name(account, "datasets", dataset_id))
    head = control.objects.head(row.object_key, _PREVIEW_BYTES) if row.object_key else b""
    rows = [line.decode(errors="replace") for line in head.split(b"\n")[:ROWS_SHOWN] if line]
    return render("dataset.html", title=row.name, dataset=row, rows=rows, refresh=False)


@router.get("/dashboard/fine-tuning/reinforcement/{job_id}")
def rft_job(account: Viewer, job_id: str, session: Reader, request: Request) -> HTMLResponse:
    """State, progress, reward curve, the latest rollouts, and how to call what came out."""
    job = get_rft_job(session, resource_name(account, NOUN, job_id))
    events = list_events(session, job.name, "events.jsonl")
    output = session.get(Model, str(job.spec["output_model"]))
    rollouts, _ = page_of_rollouts(session, job.name, ListQuery(page_size=ROLLOUTS_SHOWN, order_by="id desc"))
    return render(
        "rft_job.html",
        title=job.name,
        job=job,
        wire=rft_job_wire(job),
        curve=_curve(events),
        rollouts=[{"record": row, "prompt": prompt_of(row.row), "answer": answer_of(row.row)} for row in rollouts],
        output=output,
        base_url=str(request.base_url).rstrip("/"),
        refresh=job.state not in FINAL_STATES,
        percent=_percent(job),
    )


@router.get("/dashboard/models/{model_id}")
def model(account: Viewer, model_id: str, session: Reader, request: Request) -> HTMLResponse:
    """What it is, where it came from, how to call it."""
    row = get_model(session, resource_name(account, "models", model_id))
    base_url = str(request.base_url).rstrip("/")
    return render("model.html", title=row.name, model=row, base_url=base_url, refresh=False)


def _percent(job: Job) -> int:
    value: Any = job.progress.get("percent", 0)
    return min(100, max(0, int(value)))


def _curve(events: list[JobEvent]) -> str:
    records = [event.record for event in events]
    training = [
        (float(number), float(record["mean_score"]))
        for number, record in enumerate((r for r in records if r.get("kind") == "chunk"), start=1)
        if record.get("mean_score") is not None
    ]
    held_out = [
        HeldOut(float(r["step"]), float(r["score"]), float(r["low"]), float(r["high"]))
        for r in records
        if r.get("kind") == "evaluation"
    ]
    return reward_curve(training, held_out)
