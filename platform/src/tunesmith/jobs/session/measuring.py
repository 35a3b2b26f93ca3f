"""How fast this machine trains and reads a base model: what jobs were seen to do, else a few seconds of measurement."""

from __future__ import annotations

import json
import os
import sys

from sqlalchemy.orm import Session

from tunesmith.catalog import BaseModelEntry
from tunesmith.db import throughputs
from tunesmith.errors import Unavailable
from tunesmith.jobs.session.desk import Desk

MEASURE_SECONDS = 120.0
"""A measurement that takes longer is given up; it is bounded to some ten seconds where the model allows."""
MEASURED = "measured"
MEASURE = "measure"
"""Name of the measuring process, and of its log."""


async def throughput(desk: Desk, base: BaseModelEntry, work: str) -> list[tuple[float, str]]:
    """(tokens per second, source) of recent work of this kind on a base model, newest first; measured where none was seen yet.

    `work`: `sft`, `dpo`, `generate` or `score`. A generation that was never seen has no measure: empty.
    """
    seen = await _recent(desk, base.name, work)
    if not seen and work in ("sft", "dpo", "score"):
        await _measure(desk, base)
        seen = await _recent(desk, base.name, work)
    return seen


async def _recent(desk: Desk, base_model: str, work: str) -> list[tuple[float, str]]:
    rows = await desk.context.query(lambda session: throughputs.recent(session, base_model, work))
    return [(row.tokens_per_second, row.source) for row in rows]


async def _measure(desk: Desk, base: BaseModelEntry) -> None:
    """Run a few steps as a child process, and record what they did."""
    await desk.say(f"Measuring how fast this machine trains {base.display_name}")
    argv = [sys.executable, "-m", "tunesmith.training", "--measure", str(base.path)]
    if base.family:
        argv += ["--family", base.family]
    log = desk.context.log(MEASURE)
    log.write_text("")
    env = {**os.environ, "OMP_NUM_THREADS": str(desk.settings.torch_threads)}
    process = desk.context.start(argv, name=MEASURE, env=env)
    waited = 0.0
    while process.running and waited < MEASURE_SECONDS:
        await desk.rest(0.2)
        waited += 0.2
    code = await process.stop()
    found = next((line for line in reversed(log.read_text().splitlines()) if line.startswith("{")), None)
    if found is None:
        raise Unavailable(f"Measuring {base.name} ended with status {code} and said nothing: {process.log_tail(5)}")
    rates = json.loads(found)

    def record(session: Session) -> None:
        for work, name in (("sft", "sft"), ("dpo", "sft"), ("score", "forward")):
            throughputs.record(session, base.name, work, rates[f"{name}_tokens_per_second"], MEASURED)

    await desk.context.transaction(record)
