"""The scoreboard as plain text, for a terminal and for a report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tunesmith.agent.document import CandidateResult, Score
from tunesmith.agent.durations import duration
from tunesmith.agent.markdown import table
from tunesmith.schemas.names import short_id


def scoreboard_table(
    results: Sequence[CandidateResult],
    *,
    winner: int | None = None,
    costs: Mapping[int, float] | None = None,
    currency: str | None = None,
    markdown: bool = False,
) -> str:
    """One line a candidate; columns in which nobody has a value are left out.

    Args:
        results: as `scoreboard.judge` leaves them.
        winner: marked with an asterisk.
        costs: training cost by number, in `currency`.
        markdown: as a Markdown table.
    """
    head = ["#", "base model", "rank", "learning rate", "beta", "loss", "bits/byte", "score", "invalid", "p (Holm)", "better", "time", "cost"]  # fmt: skip
    rows = [_cells(result, winner, costs or {}, currency) for result in results]
    used = [column for column in range(len(head)) if any(row[column] for row in rows)]
    lines = [[row[column] or "-" for column in used] for row in [head, *rows]]
    for line, result in zip(lines[1:], results, strict=True):
        if result.failed:
            line[-1] += f"  FAILED: {result.failed}"
    if markdown:
        return table(lines[0], lines[1:])
    widths = [max(len(line[column]) for line in lines) for column in range(len(used) - 1)]
    return "\n".join("  ".join([*map(str.ljust, line[:-1], widths), line[-1]]).rstrip() for line in lines)


def _cells(result: CandidateResult, winner: int | None, costs: Mapping[int, float], currency: str | None) -> list[str]:
    one, run = result.candidate, result.run
    mark = "*" if result.number and result.number == winner else ""
    trained = one if result.number else None
    cost = costs.get(result.number)
    better = {True: "yes", False: "no", None: ""}[result.better]
    return [
        f"{result.number}{mark}" if result.number else "base",
        short_id(one.base_model) if one else "",
        ("full" if trained.lora_rank == 0 else str(trained.lora_rank)) if trained else "",
        f"{trained.learning_rate:g}" if trained else "",
        f"{trained.beta:g}" if trained and trained.beta is not None else "",
        interval(result.loss),
        f"{result.bits_per_byte:.3f}" if result.bits_per_byte is not None else "",
        interval(result.score),
        str(result.score.invalid) if result.score and result.score.invalid else "",
        ("<0.001" if result.p_value < 0.001 else f"{result.p_value:.3f}") if result.p_value is not None else "",
        better,
        duration(run.seconds) if run and run.seconds is not None else "",
        f"{cost:.2f} {currency or ''}".strip() if cost is not None and result.number else "",
    ]


def interval(score: Score | None, digits: int = 3) -> str:
    """`0.412 [0.390, 0.433]`; empty without one."""
    return f"{score.mean:.{digits}f} [{score.low:.{digits}f}, {score.high:.{digits}f}]" if score and score.rows else ""
