"""From a plan with gaps to one with every field decided, by the documented defaults; and from there to the candidates. Pure.

Defaults: the grid (8, 1.5e-4), (16, 1e-4), (32, 5e-5) for each base model, epochs min(5, ceil(2500 / rows)), 1000 rows of the sweep
where there are more, 6 active jobs. What the plan states wins over each of them.
"""

from __future__ import annotations

import math

from tunesmith.agent.plan import (
    GRID,
    PARALLEL,
    SUBSAMPLE,
    Candidate,
    Evaluation,
    EvaluationPath,
    Grid,
    GridPoint,
    Method,
    Plan,
)

MOST_EPOCHS, EPOCH_ROWS = 5, 2500
"""Documented: epochs = min(5, ceil(2500 / rows))."""
LONE_RANK = 8
"""LoRA rank where only learning rates were given: the documented default of a job."""
DEFAULT_BETA = 0.1
"""Of DPO (Rafailov et al. 2023), and ORPO's lambda (Hong et al. 2024)."""


def default_epochs(rows: int) -> int:
    """The documented number of passes over so many rows."""
    return min(MOST_EPOCHS, max(1, math.ceil(EPOCH_ROWS / max(rows, 1))))


def decide(plan: Plan, *, rows: int, method: Method) -> Plan:
    """The plan with every field decided.

    Args:
        plan: names resolved.
        rows: usable rows of the dataset.
        method: what the data shows, where the plan names none.
    """
    chosen = plan.method or method
    preference = chosen in (Method.DPO, Method.ORPO)
    path = plan.evaluation.path
    if path is None and plan.evaluation.evaluator:
        path = EvaluationPath.EVALUATOR
    if path is None:
        path = EvaluationPath.GENERATED if chosen is Method.CLASSIFICATION else EvaluationPath.VALIDATION_LOSS
    return plan.model_copy(
        update={
            "method": chosen,
            "grid": Grid(points=points(plan.grid, preference=preference)),
            "epochs": plan.epochs if plan.epochs is not None else float(default_epochs(rows)),
            "subsample": plan.subsample if plan.subsample is not None else (SUBSAMPLE if rows > SUBSAMPLE else 0),
            "parallel": plan.parallel or PARALLEL,
            "evaluation": Evaluation(path=path, evaluator=plan.evaluation.evaluator),
            "final_run": plan.final_run if plan.final_run is not None else not preference,
            "deploy": plan.deploy if plan.deploy is not None else True,
        }
    )


def points(grid: Grid, *, preference: bool) -> list[GridPoint]:
    """The settings to try on each base model, none twice."""
    given = list(grid.points)
    if not given:
        if grid.lora_ranks and grid.learning_rates:
            pairs = [(rank, rate) for rank in grid.lora_ranks for rate in grid.learning_rates]
        elif grid.lora_ranks:
            pairs = [(rank, _documented_rate(rank)) for rank in grid.lora_ranks]
        elif grid.learning_rates:
            pairs = [(LONE_RANK, rate) for rate in grid.learning_rates]
        else:
            pairs = list(GRID)
        given = [GridPoint(lora_rank=rank, learning_rate=rate) for rank, rate in pairs]
    betas: list[float | None] = list(grid.betas) or ([DEFAULT_BETA] if preference else [None])
    found = [
        point.model_copy(update={"beta": beta})
        for point in given
        for beta in (betas if point.beta is None else [point.beta])
    ]
    return list({point.model_dump_json(): point for point in found}.values())


def candidates(plan: Plan) -> list[Candidate]:
    """The training runs of the sweep, in order; candidate n is the n-th, counted from 1."""
    return [
        Candidate(base_model=model, lora_rank=point.lora_rank, learning_rate=point.learning_rate, beta=point.beta)
        for model in plan.base_models
        for point in plan.grid.points
    ]


def _documented_rate(rank: int) -> float:
    """The learning rate that the documented grid pairs with the nearest rank."""
    return min(GRID, key=lambda point: abs(math.log2(point[0]) - math.log2(max(rank, 1))))[1]
