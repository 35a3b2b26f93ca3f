"""What an estimate is made from: the plan that a create would make, a sample of the rows, and what this machine is known to do."""

from __future__ import annotations

import itertools
import json
from typing import Any

from sqlalchemy.orm import Session

from tunesmith.agent.tokens import TokenCounter
from tunesmith.catalog import BaseModelEntry
from tunesmith.catalog.prices import load_prices
from tunesmith.db import throughputs
from tunesmith.db.datasets import get_dataset
from tunesmith.db.observed_runs import observed_runs
from tunesmith.db.session import reading
from tunesmith.errors import InvalidArgument, NotFound, TunesmithError
from tunesmith.jobs.rft_inputs import evaluation_interval
from tunesmith.rendering.renderer import Renderer
from tunesmith.runs.carve_out import CARVE_OUT_MOST, carved_out
from tunesmith.schemas.names import account_name
from tunesmith.schemas.reinforcement_fine_tuning_jobs import RftJobInput
from tunesmith.server.base_models import base_model_details, find_base_model
from tunesmith.server.control import ControlPlane
from tunesmith.server.estimates import Machine, RftWork, estimate_rft, estimate_tuning, steps_of
from tunesmith.server.render_preview import find_entry, loaded_renderer
from tunesmith.server.rft_options import check_options
from tunesmith.server.rft_plan import named_base, plan_job
from tunesmith.server.tuning_jobs import planned
from tunesmith.server.tuning_options import Tuning

SAMPLED_ROWS = 300
"""Rows whose tokens are counted, from the start of the dataset."""
CHARACTERS_PER_TOKEN = 4


def rft(control: ControlPlane, account: str, body: RftJobInput) -> dict[str, Any]:
    """Estimate of an RFT job. Raises what its create would raise."""
    check_options(body)
    training = body.training_config
    with reading(control.sessions) as session:
        base_name = named_base(session, account, training.base_model, training.warm_start_from)
    settings = control.settings
    base = find_base_model(base_name, settings, account)
    with reading(control.sessions) as session:
        spec = plan_job(session, account, "unnamed", body, base)
        carved = carved_out(spec.example_count) if spec.eval_auto_carveout else 0
        held_out = get_dataset(session, spec.evaluation_dataset).example_count if spec.evaluation_dataset else carved
        rows = spec.example_count - carved
        steps = steps_of(rows, spec.epochs, spec.chunk_size)
        every = evaluation_interval(spec, steps)
        renderer, machine = _model(control, session, account, base.name)
        prompt, known = _prompt_tokens(control, session, spec.dataset, renderer)
        runs = observed_runs(session, account_name(account), base.name)
    work = RftWork(
        rows=rows,
        epochs=spec.epochs,
        chunk_size=spec.chunk_size,
        n=spec.n,
        max_tokens=spec.max_tokens,
        prompt_tokens=prompt,
        prompt_tokens_known=known,
        evaluated_rollouts=min(held_out, CARVE_OUT_MOST) * (-(-steps // every) + 1) if held_out else 0,
        evaluator=spec.evaluator,
    )
    return estimate_rft(work, base.name, runs, machine, load_prices(settings.data_dir))


def tuning(control: ControlPlane, account: str, options: Tuning) -> dict[str, Any]:
    """Estimate of an SFT or DPO job. Raises what its create would raise."""
    spec = planned(control, account, options)
    with reading(control.sessions) as session:
        renderer, machine = _model(control, session, account, spec.base_model, "sft" if spec.loss == "SFT" else "dpo")
        read, trained, known = _row_tokens(control, session, spec.dataset, renderer, spec.max_context_length)
    carved = carved_out(spec.example_count) if spec.eval_auto_carveout else 0
    return estimate_tuning(
        rows=spec.example_count - carved,
        epochs=spec.epochs,
        batch=spec.batch_size_samples,
        tokens_per_row=read,
        trained_per_row=trained,
        tokens_known=known,
        kind=spec.loss,
        base_model=spec.base_model,
        machine=machine,
        prices=load_prices(control.settings.data_dir),
    )


def _model(
    control: ControlPlane, session: Session, account: str, base_model: str, work: str = "sft"
) -> tuple[Renderer | None, Machine]:
    """The model's renderer, None where it is not on this machine, and its speeds."""
    entry: BaseModelEntry | None = None
    renderer: Renderer | None = None
    try:
        entry = find_entry(control, account, base_model)
        renderer = loaded_renderer(entry)
    except NotFound:
        pass
    machine = Machine(
        generated_per_second=[row.tokens_per_second for row in throughputs.recent(session, base_model, "generate")],
        trained_per_second=[row.tokens_per_second for row in throughputs.recent(session, base_model, work)],
        parameters=base_model_details(entry.path).parameter_count if entry is not None else None,
    )
    return renderer, machine


def _prompt_tokens(
    control: ControlPlane, session: Session, dataset: str, renderer: Renderer | None
) -> tuple[float, bool]:
    """Mean tokens of a prompt, and whether they were counted. Rows that the evaluator adapts are not conversations yet."""
    lengths, guessed = [], []
    for line in _sample(control, session, dataset):
        guessed.append(len(line.decode(errors="replace")) / CHARACTERS_PER_TOKEN)
        try:
            row = json.loads(line)
            messages = row["messages"]
            while messages and messages[-1].get("role") == "assistant":
                messages = messages[:-1]
            if renderer is not None and messages:
                lengths.append(len(renderer.render(messages, tools=row.get("tools"))))
        except (InvalidArgument, ValueError, KeyError, TypeError, AttributeError):
            continue  # the job would tell; an estimate needs the others
    if len(lengths) * 2 > len(guessed):
        return sum(lengths) / len(lengths), True
    return sum(guessed) / max(1, len(guessed)), False


def _row_tokens(
    control: ControlPlane, session: Session, dataset: str, renderer: Renderer | None, max_context: int | None
) -> tuple[float, float, bool]:
    """Mean tokens of a row, those that are trained, and whether they were counted."""
    lines = _sample(control, session, dataset)
    if renderer is not None:
        counter = TokenCounter(renderer, max_context)
        for number, line in enumerate(lines):
            try:
                counter.count(json.loads(line), number)
            except (TunesmithError, ValueError, KeyError, TypeError):
                continue
        found = counter.found()
        if found is not None and found.total:
            return found.total / len(lines), found.trained / len(lines), True
    guessed = sum(len(line) for line in lines) / CHARACTERS_PER_TOKEN / max(1, len(lines))
    return guessed, guessed / 2, False


def _sample(control: ControlPlane, session: Session, dataset: str) -> list[bytes]:
    key = get_dataset(session, dataset).object_key
    if key is None:
        return []
    lines = (line for _, line in control.objects.lines(key) if line.strip())
    return list(itertools.islice(lines, SAMPLED_ROWS))
