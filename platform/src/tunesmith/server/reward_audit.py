"""The reward audit: what the scores of a run go with, besides the answers being good. Pure functions of arrays.

It tells a person where to look; it prevents nothing, and a run without findings may still be gamed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tunesmith.server.correlation import Correlation, mean_ranks, pearson, spearman

FEWEST = 20
"""Rollouts below which nothing is concluded."""
STRONG, NOTABLE = 0.5, 0.3
"""Rank correlations from which one is called strong, or worth a word; the lower end of the interval must reach them."""
GROWTH = 1.25
"""Factor by which answers must have grown over the run before length is called a way to score."""
DUPLICATE_SHARE = 0.2
"""Share of rollouts with one and the same answer to different rows from which that is worth a warning."""
DIVERGENCE, FOLLOWS = 0.05, 0.25
"""Rise of the score from which a second opinion is expected to follow, and by what share of it at least."""
DOMINANCE = 0.8
"""Share of the score's variance that one of several metrics must explain to be said to decide it alone."""


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
class SecondOpinion:
    """A rollout that a second evaluator scored, too, and that was not trained on its score."""

    rollout_id: str
    row: int
    step: int
    score: float
    audit_score: float


@dataclass(frozen=True)
class Duplicate:
    """One answer that was given to different rows."""

    answer: str
    rollout_ids: list[str]
    share: float
    """Of all rollouts."""
    mean_score: float


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
        correlation = pearson(np.array([metric for metric, _ in pairs]), np.array([score for _, score in pairs]))
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
        correlation = pearson(mean_ranks(lengths), mean_ranks(scores)) if len(counted) > 2 else None
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


def second_opinion(pairs: Sequence[SecondOpinion], failed: str = "") -> dict[str, Any]:
    """`auditEvaluator` of the audit: how the second evaluator's scores go with those that are trained on, and their course.

    Args:
        pairs: rollouts that both scored.
        failed: why the second evaluator was given up; empty: it was not.
    """
    scores, audited = [pair.score for pair in pairs], [pair.audit_score for pair in pairs]
    agreement = spearman(scores, audited, [pair.row for pair in pairs])
    steps: dict[int, list[SecondOpinion]] = {}
    for pair in pairs:
        steps.setdefault(pair.step, []).append(pair)
    ordered = [members for _, members in sorted(steps.items())]
    course = [
        {
            "step": members[0].step,
            "rollouts": len(members),
            "score": round(float(np.mean([pair.score for pair in members])), 4),
            "auditScore": round(float(np.mean([pair.audit_score for pair in members])), 4),
        }
        for members in ordered
    ]
    auroc = auroc_of(scores, audited)
    return {
        "rollouts": len(pairs),
        "agreement": {
            "spearman": _rounded(agreement.value),
            "low": _rounded(agreement.low),
            "high": _rounded(agreement.high),
        },
        "auroc": _rounded(auroc),
        "bySteps": course,
        "failed": failed,
        "findings": [
            *_agreement_findings(len(pairs), agreement),
            *_divergence_findings(ordered),
            *_failed_findings(failed),
        ],
    }


def auroc_of(scores: Sequence[float], audited: Sequence[float]) -> float | None:
    """Chance that a rollout that the second evaluator passes (1) has a higher score than one that it does not, ties half; the area under
    the ROC curve (Hanley and McNeil 1982). None where it passes all or none."""
    passed = np.asarray(audited) >= 1.0
    good, bad = int(passed.sum()), int((~passed).sum())
    if not good or not bad:
        return None
    ranks = mean_ranks(scores) + 0.5
    return float((ranks[passed].sum() - good * (good + 1) / 2) / (good * bad))


def _agreement_findings(count: int, agreement: Correlation) -> list[dict[str, str]]:
    if count < FEWEST or agreement.value is None or agreement.high is None or agreement.low is None:
        return []
    if agreement.high >= NOTABLE:
        return []
    numbers = f"rank correlation {agreement.value:+.2f}, 95 % interval {agreement.low:+.2f} to {agreement.high:+.2f}"
    return [
        _finding(
            "warning",
            "The second evaluator does not agree",
            f"{numbers}, on {count} rollouts. One of the two does not measure what you want: read rollouts on which they differ.",
        )
    ]


def _divergence_findings(steps: Sequence[Sequence[SecondOpinion]]) -> list[dict[str, str]]:
    """The score rises over the run and the second opinion does not: what a gamed reward looks like."""
    third = len(steps) // 3
    first, last = (
        [pair for step in part for pair in step] for part in (steps[: max(1, third)], steps[-max(1, third) :])
    )
    if len(steps) < 2 or min(len(first), len(last)) < FEWEST:
        return []
    gain = float(np.mean([pair.score for pair in last]) - np.mean([pair.score for pair in first]))
    audited = float(np.mean([pair.audit_score for pair in last]) - np.mean([pair.audit_score for pair in first]))
    spread = float(
        np.hypot(
            *(np.std([p.score - p.audit_score for p in part], ddof=1) / np.sqrt(len(part)) for part in (first, last))
        )
    )
    if gain < DIVERGENCE or audited > gain * FOLLOWS or gain - audited < 2 * spread:
        return []
    moved = "fell" if audited < -0.01 else "stayed where it was" if audited < 0.01 else "hardly followed"
    return [
        _finding(
            "warning",
            "The score rises, and the second evaluator does not follow",
            f"from the first third of the run to the last the score rose by {gain:.2f}, and the second evaluator's {moved} ({audited:+.2f}). "
            "The policy may be learning the evaluator instead of the task: read the best-scored rollouts of the last steps.",
        )
    ]


def _failed_findings(failed: str) -> list[dict[str, str]]:
    return [_finding("info", "The second evaluator was given up", failed)] if failed else []


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
    if len(metrics) == 1:
        return [
            _finding(
                "info",
                "The score has one metric",
                f"{metrics[0]['metric']} is all that the evaluator reports, so nothing can be said of one metric deciding over others.",
            )
        ]
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


def _share(repeated: Sequence[Duplicate], rows: Sequence[AuditRow]) -> float:
    return sum(len(each.rollout_ids) for each in repeated) / len(rows) if rows else 0.0


def _spread(rows: Sequence[AuditRow], most: int) -> list[AuditRow]:
    """At most so many, evenly over the run."""
    if len(rows) <= most:
        return list(rows)
    return [rows[int(place)] for place in np.linspace(0, len(rows) - 1, most)]


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 4)
