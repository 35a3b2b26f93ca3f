"""The reward audit: what the scores of a run go with, besides the answers being good. Pure functions of arrays.

It tells a person where to look; it prevents nothing, and a run without findings may still be gamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 400
"""Of the bootstrap behind an interval; its noise is far below the interval's width."""
FEWEST = 20
"""Rollouts below which nothing is concluded."""
STRONG, NOTABLE = 0.5, 0.3
"""Rank correlations from which one is called strong, or worth a word; the lower end of the interval must reach them."""
GROWTH = 1.25
"""Factor by which answers must have grown over the run before length is called a way to score."""
DUPLICATE_SHARE = 0.2
"""Share of rollouts with one and the same answer to different rows from which that is worth a warning."""
DOMINANCE = 0.8
"""Share of the score's variance that one of several metrics must explain to be said to decide it alone."""
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class AuditRow:
    """One scored rollout."""

    rollout_id: str
    row: int
    step: int
    score: float
    tokens: int | None
    """Sampled tokens; None where they are not known."""
    answer: str
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Correlation:
    """Spearman's rank correlation with a 95 % interval; None where one of the two does not vary."""

    value: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Duplicate:
    """One answer that was given to different rows."""

    answer: str
    rollout_ids: list[str]
    share: float
    """Of all rollouts."""
    mean_score: float


def spearman(x: Sequence[float], y: Sequence[float], clusters: Sequence[int], seed: int = 0) -> Correlation:
    """Rank correlation of x and y [N], ties at their mean rank.

    The interval is a percentile bootstrap over clusters (rollouts of one row are not independent), with ranks held fixed; from one
    cluster it is (-1, 1).
    """
    ranks_x, ranks_y = _ranks(x), _ranks(y)
    value = _pearson(ranks_x, ranks_y)
    if value is None:
        return Correlation(None, None, None)
    labels, index_N = np.unique(np.asarray(clusters), return_inverse=True)
    if len(labels) < 2:
        return Correlation(value, -1.0, 1.0)
    centred_x, centred_y = ranks_x - ranks_x.mean(), ranks_y - ranks_y.mean()
    terms = [np.ones_like(centred_x), centred_x, centred_y, centred_x**2, centred_y**2, centred_x * centred_y]
    sums_CT = np.stack([np.bincount(index_N, weights=term, minlength=len(labels)) for term in terms], axis=1)
    rng = np.random.default_rng(seed)
    drawn_RC = rng.multinomial(len(labels), np.full(len(labels), 1 / len(labels)), size=RESAMPLES)
    n, sx, sy, sxx, syy, sxy = (drawn_RC @ sums_CT).T
    with np.errstate(divide="ignore", invalid="ignore"):
        found = (n * sxy - sx * sy) / np.sqrt((n * sxx - sx**2) * (n * syy - sy**2))
    found = found[np.isfinite(found)]
    if not len(found):
        return Correlation(value, -1.0, 1.0)
    low, high = np.percentile(found, [2.5, 97.5])
    return Correlation(value, max(-1.0, min(float(low), value)), min(1.0, max(float(high), value)))


def duplicates(rows: Sequence[AuditRow]) -> list[Duplicate]:
    """Answers that at least two different rows were given, by how often; case and white space do not count, empty ones are left out."""
    by_text: dict[str, list[AuditRow]] = {}
    for row in rows:
        if text := normalised(row.answer):
            by_text.setdefault(text, []).append(row)
    found = [
        Duplicate(
            answer=members[0].answer,
            rollout_ids=[member.rollout_id for member in members],
            share=len(members) / len(rows),
            mean_score=float(np.mean([member.score for member in members])),
        )
        for members in by_text.values()
        if len({member.row for member in members}) > 1
    ]
    return sorted(found, key=lambda each: -len(each.rollout_ids))


def normalised(answer: str) -> str:
    """An answer as it is compared with others."""
    return " ".join(answer.split()).casefold()


def dominance(rows: Sequence[AuditRow]) -> list[dict[str, Any]]:
    """Of each metric its Pearson correlation with the score, and its square: the share of the score's variance that a straight line
    through the metric explains. Strongest first; metrics that not every second rollout has, or that do not vary, are left out."""
    found = []
    for name in sorted({name for row in rows for name in row.metrics}):
        pairs = [(row.metrics[name], row.score) for row in rows if name in row.metrics]
        if len(pairs) * 2 < len(rows) or len(pairs) < 3:
            continue
        correlation = _pearson(np.array([metric for metric, _ in pairs]), np.array([score for _, score in pairs]))
        if correlation is not None:
            found.append({"metric": name, "correlation": round(correlation, 4), "share": round(correlation**2, 4)})
    return sorted(found, key=lambda each: -each["share"])


def by_steps(rows: Sequence[AuditRow]) -> list[dict[str, Any]]:
    """Share of duplicates, rank correlation of length and score, and mean length, of each step."""
    found = []
    steps: dict[int, list[AuditRow]] = {}
    for row in rows:
        steps.setdefault(row.step, []).append(row)
    for step, members in sorted(steps.items()):
        counted = [row for row in members if row.tokens is not None]
        lengths, scores = [float(row.tokens or 0) for row in counted], [row.score for row in counted]
        correlation = _pearson(_ranks(lengths), _ranks(scores)) if len(counted) > 2 else None
        found.append(
            {
                "step": step,
                "duplicateShare": round(_share(duplicates(members), members), 4),
                "lengthCorrelation": _rounded(correlation),
                "meanTokens": round(float(np.mean(lengths)), 2) if lengths else None,
            }
        )
    return found


def audit(rows: Sequence[AuditRow]) -> dict[str, Any]:
    """The audit of a run's scored rollouts, as on the wire, without the rollouts that it points at."""
    counted = [row for row in rows if row.tokens is not None]
    lengths = [float(row.tokens or 0) for row in counted]
    length = spearman(lengths, [row.score for row in counted], [row.row for row in counted])
    repeated, metrics, steps = duplicates(rows), dominance(rows), by_steps(rows)
    return {
        "rollouts": len(rows),
        "lengthCorrelation": {
            "spearman": _rounded(length.value),
            "low": _rounded(length.low),
            "high": _rounded(length.high),
            "points": [[row.tokens, row.score, row.rollout_id] for row in _spread(counted, 500)],
        },
        "duplicates": [
            {
                "answer": each.answer,
                "count": len(each.rollout_ids),
                "share": round(each.share, 4),
                "meanScore": round(each.mean_score, 4),
                "rolloutIds": each.rollout_ids[:20],
            }
            for each in repeated[:20]
        ],
        "duplicateShare": round(_share(repeated, rows), 4),
        "metricDominance": metrics,
        "bySteps": steps,
        "findings": findings(rows, length, repeated, metrics, steps),
    }


def findings(
    rows: Sequence[AuditRow],
    length: Correlation,
    repeated: Sequence[Duplicate],
    metrics: Sequence[Mapping[str, Any]],
    steps: Sequence[Mapping[str, Any]],
) -> list[dict[str, str]]:
    """What a person should look at, in plain words, warnings first."""
    if len(rows) < FEWEST:
        return [
            _finding(
                "info",
                "Too few rollouts to judge",
                f"{len(rows)} scored rollouts; from {FEWEST} on there is something to say.",
            )
        ]
    found = [
        *_length_findings(length, steps),
        *_duplicate_findings(rows, repeated),
        *_dominance_findings(metrics),
        *_spread_findings(rows),
    ]
    return sorted(found, key=lambda each: each["severity"] != "warning")


def _length_findings(length: Correlation, steps: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    if length.value is None or length.low is None or length.high is None:
        return []
    means = [step["meanTokens"] for step in steps if step["meanTokens"] is not None]
    third = max(1, len(means) // 3)
    growth = float(np.mean(means[-third:]) / max(1e-9, np.mean(means[:third]))) if len(means) > 1 else 1.0
    numbers = f"rank correlation {length.value:+.2f}, 95 % interval {length.low:+.2f} to {length.high:+.2f}"
    if length.low >= NOTABLE and growth >= GROWTH:
        return [
            _finding(
                "warning",
                "Longer answers score higher, and answers grow",
                f"{numbers}; answers became {growth:.1f} times as long over the run. Read the longest top-scored answers: if the extra text is "
                "padding, have the evaluator ignore or punish length, or lower the longest completion.",
            )
        ]
    if -length.high >= NOTABLE and growth <= 1 / GROWTH:
        return [
            _finding(
                "warning",
                "Shorter answers score higher, and answers shrink",
                f"{numbers}; answers became {1 / growth:.1f} times as short over the run. Read the shortest top-scored answers: if they leave out "
                "what you want, have the evaluator ask for it.",
            )
        ]
    if length.low >= STRONG or -length.high >= STRONG:
        which = "Longer" if length.value > 0 else "Shorter"
        return [
            _finding(
                "info", f"{which} answers score higher", f"{numbers}, but their length does not follow it over the run."
            )
        ]
    return []


def _duplicate_findings(rows: Sequence[AuditRow], repeated: Sequence[Duplicate]) -> list[dict[str, str]]:
    mean = float(np.mean([row.score for row in rows]))
    if not repeated or repeated[0].share < DUPLICATE_SHARE:
        return []
    most = repeated[0]
    rewarded = most.mean_score > mean
    shown = normalised(most.answer)[:80]
    detail = (
        f"{len(most.rollout_ids)} of {len(rows)} rollouts answer different rows with “{shown}”; their mean score is {most.mean_score:.2f}, "
        f"that of all is {mean:.2f}. "
    )
    if rewarded:
        detail += "An answer that fits every row should not score well: check what the evaluator reads of it."
        return [_finding("warning", "One answer to different rows is rewarded", detail)]
    detail += "It is not rewarded; if its share grows, the policy has collapsed: raise the temperature or lower the learning rate."
    return [_finding("info", "One answer is given to different rows", detail)]


def _dominance_findings(metrics: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    if len(metrics) < 2 or metrics[0]["share"] < DOMINANCE or metrics[1]["share"] > metrics[0]["share"] / 2:
        return []
    first, second = metrics[0], metrics[1]
    return [
        _finding(
            "warning",
            f"The score is decided by {first['metric']} alone",
            f"{first['metric']} explains {first['share']:.0%} of the score's variance, {second['metric']} {second['share']:.0%}. The policy can "
            "ignore the others: weigh them more, or multiply instead of adding.",
        )
    ]


def _spread_findings(rows: Sequence[AuditRow]) -> list[dict[str, str]]:
    scores = np.array([row.score for row in rows])
    if scores.min() == scores.max():
        return [
            _finding(
                "warning",
                "Every rollout has the same score",
                f"All {len(rows)} scores are {scores[0]:g}: there is nothing to learn from. Give partial credit, or easier rows.",
            )
        ]
    return []


def _finding(severity: str, title: str, detail: str) -> dict[str, str]:
    return {"severity": severity, "title": title, "detail": detail}


def _ranks(values: Sequence[float]) -> Floats:
    """Mean ranks [N], from 0.5."""
    array = np.asarray(values, dtype=np.float64)
    _, index_N, counts = np.unique(array, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - counts / 2)[index_N]


def _pearson(x: Floats, y: Floats) -> float | None:
    if len(x) < 2:
        return None
    x, y = x - x.mean(), y - y.mean()
    scale = float(np.sqrt((x @ x) * (y @ y)))
    return max(-1.0, min(1.0, float(x @ y) / scale)) if scale > 1e-12 else None


def _share(repeated: Sequence[Duplicate], rows: Sequence[AuditRow]) -> float:
    return sum(len(each.rollout_ids) for each in repeated) / len(rows) if rows else 0.0


def _spread(rows: Sequence[AuditRow], most: int) -> list[AuditRow]:
    """At most so many, evenly over the run."""
    if len(rows) <= most:
        return list(rows)
    return [rows[int(place)] for place in np.linspace(0, len(rows) - 1, most)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
