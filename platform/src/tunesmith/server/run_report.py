"""What `run.html` holds of a job (`RunData`, `docs/reference/dashboard.md`), and the file around it.

The file has to be small enough to mail: it holds every step's figures, but only some rollouts, and tokens as long as there is room.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import html
import re
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic_core import to_json
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from tunesmith import __version__
from tunesmith.db.rollouts import list_events
from tunesmith.db.session import reading
from tunesmith.db.tables import Job, Rollout
from tunesmith.errors import Internal, Unavailable
from tunesmith.server.control import ControlPlane
from tunesmith.server.dashboard import pages
from tunesmith.server.routes.reinforcement_fine_tuning_jobs import rft_job_wire
from tunesmith.server.routes.rft_audit import audit_of, audited_rows
from tunesmith.server.routes.rft_rollouts import summaries, turns_of
from tunesmith.server.run_sources import evaluator_versions

FORMAT = 1
ROLLOUTS_PER_STEP = 8
"""Rather this many of some steps than fewer of every step."""
MOST_TOKENS = 250_000
"""Tokens of all rollouts together; about 2 MB in the file."""
LONGEST_TEXT = 20_000
"""Characters of one message part, or of whatever else is text; the rest is cut."""
PLAIN_BYTES = 64 * 1024
"""Larger data is packed."""
_DATA = '<script type="application/json" id="run-data"></script>'
_SCRIPT = re.compile(r"<script(?![^>]*application/json)[^>]*>(.*?)</script>", re.DOTALL)


@dataclass(frozen=True)
class _Slot:
    """The rollouts of one step that are kept."""

    kind: str
    step: int
    ids: list[int]
    total: int


def run_data(control: ControlPlane, name: str, job: Job, rollouts: int) -> dict[str, Any]:
    """`RunData` of a job with at most `rollouts` rollouts."""
    with reading(control.sessions) as session:
        events = [line.record for line in list_events(session, name, "events.jsonl")]
        metrics = [line.record for line in list_events(session, name, "metrics.jsonl")]
        slots = _slots(session, name, rollouts)
        shown = _rollouts(session, control, job, slots)
        kept = sum(len(slot.ids) for slot in slots)
        of = sum(slot.total for slot in slots)
        used = [
            event["evaluator_version"]
            for event in events
            if event["kind"] in ("chunk", "evaluation") and event.get("evaluator_version")
        ]
        versions = evaluator_versions(session, control, job, used)
        audited = audit_of(session, job, audited_rows(session, name))
    return {
        "format": FORMAT,
        "made": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "platform": __version__,
        "job": {field: value for field, value in rft_job_wire(job).items() if field != "processes"},
        "metrics": metrics,
        "events": events,
        "evaluator": {"name": job.spec["evaluator"], "versions": versions},
        "steps": _steps(events, slots, shown),
        "evaluations": _evaluations(events, slots, shown),
        "audit": audited,
        "kept": {"rollouts": kept, "of": of, "withTokens": sum(1 for each in shown.values() if each["turns"])},
    }


def run_page(data: dict[str, Any], title: str) -> Iterator[str]:
    """The file, in pieces. Raises Unavailable when the viewer was not built."""
    viewer = pages.BUNDLE / "run-viewer.html"
    try:
        page = viewer.read_text().replace("\r\n", "\n")
    except FileNotFoundError:
        raise Unavailable("The viewer of run.html was not built: run `make setup` in Tunesmith's repository.") from None
    if page.count(_DATA) != 1 or "<head>" not in page:
        raise Internal(f"{viewer} has no place for the data of a run; build it anew with `make setup`.")
    return _pieces(page, data, title)


def _pieces(page: str, data: dict[str, Any], title: str) -> Iterator[str]:
    head, tail = page.split(_DATA)
    meta = f'<head><meta http-equiv="Content-Security-Policy" content="{policy(page)}" />'
    head = head.replace("<head>", meta, 1)
    yield re.sub(r"<title>.*?</title>", lambda _: f"<title>{html.escape(title)}</title>", head, count=1)
    yield _DATA.removesuffix("</script>")
    yield packed(data)
    yield "</script>" + tail


def policy(page: str) -> str:
    """The page's own Content-Security-Policy: its own scripts, by their hash, and nothing from anywhere."""
    hashes = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in _SCRIPT.findall(page)]
    scripts = " ".join(f"'sha256-{digest}'" for digest in hashes) or "'none'"
    return (
        f"default-src 'none'; script-src {scripts}; style-src 'unsafe-inline'; img-src data: blob:; font-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def packed(data: dict[str, Any]) -> str:
    """As JSON that may stand inside a script element: itself, or packed in `{"encoding", "data"}` where it is large."""
    text = to_json(data, inf_nan_mode="null")
    if len(text) > PLAIN_BYTES:
        coded = base64.b64encode(gzip.compress(text, 9, mtime=0)).decode()
        return f'{{"encoding": "gzip+base64", "data": "{coded}"}}'
    return text.decode().replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029")


def _slots(session: Session, job: str, budget: int) -> list[_Slot]:
    """Which rollouts of which steps are kept: half the room for held-out rows where there are any, the rest for training."""
    counts = (
        select(Rollout.kind, Rollout.step, func.count()).where(Rollout.job == job).group_by(Rollout.kind, Rollout.step)
    )
    totals: dict[str, dict[int, int]] = defaultdict(dict)
    for kind, step, total in session.execute(counts.order_by(Rollout.step)):
        totals[kind][step] = total
    held_out = min(budget // 2, sum(totals["evaluation"].values()))
    slots = []
    for kind, room in (("evaluation", held_out), ("train", budget - held_out)):
        steps = list(totals[kind])
        chosen = set(spread(steps, max(1, room // ROLLOUTS_PER_STEP)) if room else [])
        share = room // len(chosen) if chosen else 0
        for step in steps:
            ids = _ids(session, job, kind, step, share) if step in chosen else []
            slots.append(_Slot(kind, step, ids, totals[kind][step]))
    return slots


def spread(items: Sequence[int], most: int) -> list[int]:
    """At most `most` of the items, evenly, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    if most == 1:
        return [items[-1]]
    return [items[round(number * (len(items) - 1) / (most - 1))] for number in range(most)]


def _ids(session: Session, job: str, kind: str, step: int, most: int) -> list[int]:
    """Rollouts of the first rows of a step, of each row the best and the worst one; more of them where there is room."""
    where = [Rollout.job == job, Rollout.kind == kind, Rollout.step == step]
    score = func.coalesce(Rollout.score, -1.0)
    rows: dict[int, list[int]] = defaultdict(list)
    found = session.execute(
        select(Rollout.id, Rollout.row_index).where(*where).order_by(Rollout.row_index, score.desc())
    )
    for identity, row_index in found:
        rows[row_index].append(identity)
    ends = [[members[0], *members[-1:][: len(members) - 1]] for members in rows.values()]
    between = [members[1:-1] for members in rows.values()]
    ordered = [identity for part in (ends, between) for members in part for identity in members]
    return ordered[:most]


def _rollouts(session: Session, control: ControlPlane, job: Job, slots: list[_Slot]) -> dict[int, dict[str, Any]]:
    """`RunRollout` by id of the record. Tokens go to the first of each step first."""
    shown: dict[int, dict[str, Any]] = {}
    room = MOST_TOKENS
    for rank in range(max((len(slot.ids) for slot in slots), default=0)):
        ids = [slot.ids[rank] for slot in slots if rank < len(slot.ids)]
        rows = list(session.scalars(select(Rollout).where(Rollout.id.in_(ids))))
        for row, summary in zip(rows, summaries(session, rows), strict=True):
            turns = _turns(turns_of(control, job, row)) if room > 0 else None
            length = sum(len(turn["tokens"]) for turn in turns or [])
            fits = turns is not None and length <= room
            room -= length if fits else 0
            messages = cut(row.row.get("messages") or [])
            shown[row.id] = {**cut(summary), "messages": messages, "turns": turns if fits else None}
        session.expunge_all()
    return shown


def _turns(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [
        {
            **{name: turn[name] for name in ("turn", "model", "finishReason", "temperature", "start")},
            "tokens": [[token["text"], _rounded(token["logprob"])] for token in turn["tokens"]],
        }
        for turn in turns
    ]


def _rounded(logprob: float | None) -> float | None:
    return None if logprob is None else round(logprob, 4)


def cut(value: Any) -> Any:
    """The same with long texts cut."""
    if isinstance(value, str):
        return value if len(value) <= LONGEST_TEXT else f"{value[:LONGEST_TEXT]}… ({len(value)} characters in all)"
    if isinstance(value, list):
        return [cut(item) for item in value]
    if isinstance(value, dict):
        return {name: cut(item) for name, item in value.items()}
    return value


def _steps(events: list[dict[str, Any]], slots: list[_Slot], shown: dict[int, dict[str, Any]]) -> list[dict[str, Any]]:
    chunks = {event["step"]: event for event in events if event["kind"] == "chunk"}
    return [
        {
            "step": slot.step,
            "epoch": (chunk := chunks.get(slot.step, {})).get("epoch"),
            "version": chunk.get("version"),
            "evaluatorVersion": chunk.get("evaluator_version"),
            "learningRate": chunk.get("learning_rate"),
            "meanScore": chunk.get("mean_score"),
            "rollouts": [shown[identity] for identity in slot.ids],
            "total": slot.total,
        }
        for slot in slots
        if slot.kind == "train"
    ]


def _evaluations(
    events: list[dict[str, Any]], slots: list[_Slot], shown: dict[int, dict[str, Any]]
) -> list[dict[str, Any]]:
    scored = {event["version"]: event for event in events if event["kind"] == "evaluation"}
    return [
        {
            "step": slot.step,
            "epoch": None,
            "version": slot.step,
            "evaluatorVersion": scored.get(slot.step, {}).get("evaluator_version"),
            "learningRate": None,
            "meanScore": scored.get(slot.step, {}).get("score"),
            "rollouts": [shown[identity] for identity in slot.ids],
            "total": slot.total,
        }
        for slot in slots
        if slot.kind == "evaluation"
    ]
