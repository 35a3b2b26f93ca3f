"""Why the reward of a job stays flat, or what may keep it from rising: findings from what the run wrote. Pure functions.

Every finding names its evidence in numbers of this run and one thing to do. They are ranked by how directly they stop learning, not
proven: two may hold at once, and the first is the one to look at first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from tunesmith.server.reward_audit import AuditRow, Correlation, normalised, spearman
from tunesmith.server.score_course import Course, held_out_course, training_course

CONSTANT_SHARE, SATURATED = 0.7, 0.95
"""Share of groups without difference that is named; first mean score that leaves nothing to gain."""
BARELY_MOVED = 0.01
"""Nats: a policy whose log-probabilities on the canary changed by less, at most, has not moved."""
MANY_STEPS, FEW_STEPS = 3, 10
"""Optimizer steps after which a policy that did not move is told; below which a flat curve says little."""
CLIPPED, DIVERGED_KL, WILD_GRADIENT = 0.3, 0.5, 10.0
TRUNCATED, INVALID, TOO_SMALL = 0.25, 0.1, 0.2
MISMATCH_MEAN, STALE, LOW_ESS = 0.05, 2.0, 0.5
COLLAPSED_ENTROPY, COLLAPSED_SHARE = 0.02, 0.2
"""Entropy in nats, and as a share of the first steps', below which sampling has collapsed."""
FEWEST_PAIRS = 10
"""Answers given twice to a row, from which something is said of the evaluator's determinism."""
NOISE = 0.1
"""Share of repeated answers with different scores from which an evaluator is called nondeterministic."""
INDEPENDENT = 0.7
"""Share of the scores' variance within rows that equal answers show too, from which scores do not depend on the answer."""
LENGTH_DRIVES = 0.5


@dataclass(frozen=True)
class Finding:
    """One thing to look at."""

    code: str
    """What it is, for programs: `no_variance`, `learning_rate_small`, ..."""
    weight: int
    """From 0 to 100: how directly it stops learning."""
    title: str
    evidence: str
    remedy: str


@dataclass(frozen=True)
class HeldOut:
    """The first and the newest evaluation of held-out rows by one evaluator version."""

    first_version: int
    last_version: int
    first: Mapping[int, float]
    """Valid scores by row."""
    last: Mapping[int, float]


@dataclass(frozen=True)
class Run:
    """What is known of a job."""

    events: Sequence[Mapping[str, Any]]
    """Lines of events.jsonl."""
    metrics: Sequence[Mapping[str, Any]]
    """Lines of metrics.jsonl."""
    rows: Sequence[AuditRow] = ()
    """Scored training rollouts, the latest."""
    learning_rate: float = 0.0
    default_learning_rate: float | None = None
    """Of the base model, where it is known."""
    moved: float | None = None
    """Largest change of a canary log-probability from version 0 to the newest, in nats; None where it is not known."""
    prompts: tuple[int, int] | None = None
    """(different prompts, rows) among the rollouts; None where prompts are too long to tell."""
    held_out: HeldOut | None = None
    """None where there are no two evaluations of held-out rows."""
    state: str = ""
    message: str = ""
    """Of the job's status."""
    chunks: list[Mapping[str, Any]] = field(init=False)
    course: Course | None = field(init=False)
    """Of the training score."""

    def __post_init__(self) -> None:
        chunks = [event for event in self.events if event.get("kind") == "chunk"]
        scored = [(line["step"], float(line["mean_score"])) for line in chunks if _values([line], "mean_score")]
        object.__setattr__(self, "chunks", chunks)
        object.__setattr__(self, "course", training_course(scored, self.rows))


def diagnose(run: Run) -> dict[str, Any]:
    """`{"summary", "gain", "interval", "heldOut", "flat", "steps", "findings": [{"code", "weight", "title", "evidence", "remedy"}]}`.

    Findings are heaviest first. `flat`: the training score did not rise beyond its noise.
    """
    course, held_out = run.course, run.held_out
    flat = course is None or not course.rose
    apart = held_out_course(held_out.first, held_out.last) if held_out else None
    found = [finding for look in LOOKS for finding in look(run, flat)]
    found.sort(key=lambda finding: -finding.weight)
    return {
        "summary": _summary(run, apart, found),
        "gain": None if course is None else round(course.change, 4),
        "interval": None if course is None else [round(course.low, 4), round(course.high, 4)],
        "heldOut": None
        if apart is None or held_out is None
        else {
            "versions": [held_out.first_version, held_out.last_version],
            "gain": round(apart.change, 4),
            "interval": [round(apart.low, 4), round(apart.high, 4)],
        },
        "flat": flat,
        "steps": len(run.metrics),
        "findings": [asdict(finding) for finding in found],
    }


def _summary(run: Run, apart: Course | None, found: Sequence[Finding]) -> str:
    if run.course is None:
        course = "There is no course of the reward yet"
    else:
        ends = f"{run.course.first:.3f} at first, {run.course.last:.3f} at last: {run.course.figures()}"
        steps = f"{len(run.metrics)} optimizer step{'' if len(run.metrics) == 1 else 's'}"
        course = f"The reward {run.course.verb()} ({ends}; {steps})"
    if apart is not None and run.held_out is not None:
        versions = f"{apart.first:.3f} at version {run.held_out.first_version}, {apart.last:.3f} at version {run.held_out.last_version}"
        course += f". On held-out rows it {apart.verb()} ({versions}: {apart.figures()}, the same rows)"
    if not found:
        return f"{course}; nothing stands out in what the run wrote."
    return f"{course}. Look first at this: {found[0].title[0].lower()}{found[0].title[1:]}."


def _failed(run: Run, flat: bool) -> list[Finding]:
    if run.state != "JOB_STATE_FAILED":
        return []
    remedy = "Do what the message says, then `tunesmith rftj resume JOB`."
    return [Finding("failed", 100, "The job failed", run.message, remedy)]


def _variance(run: Run, flat: bool) -> list[Finding]:
    groups = sum(_values(run.chunks, "kept_groups")) + sum(_values(run.chunks, "dropped_groups"))
    constant = sum(_values(run.chunks, "constant_groups"))
    if not groups or constant < CONSTANT_SHARE * groups:
        return []
    none, all_ = _mean(run.chunks, "solved_none"), _mean(run.chunks, "solved_all")
    first = _values(run.chunks, "mean_score")[:1]
    evidence = f"{constant:.0f} of {groups:.0f} groups have equal scores and were dropped"
    if first and first[0] >= SATURATED:
        return [
            Finding(
                "saturated",
                95,
                "The reward is full from the start",
                f"{evidence}; the first mean score is {first[0]:.3f}",
                "Take harder rows, or have the evaluator ask for more: nothing is left to learn.",
            )
        ]
    if none is not None and none >= CONSTANT_SHARE:
        return [
            Finding(
                "never_solved",
                95,
                "The model hardly ever scores",
                f"{evidence}; in {none:.0%} every score is 0",
                "Give partial credit, easier rows first, more candidates, or start from an SFT model (warmStartFrom).",
            )
        ]
    solved = f"; in {all_:.0%} every score is 1" if all_ else ""
    return [
        Finding(
            "no_variance",
            90,
            "The rollouts of a row score alike",
            evidence + solved,
            "Score in finer steps, raise the temperature or the number of candidates; a constant score teaches nothing.",
        )
    ]


def _learning_rate(run: Run, flat: bool) -> list[Finding]:
    steps = len(run.metrics)
    found: list[Finding] = []
    known = run.default_learning_rate
    compared = f"; the base model's default is {known:g}" if known else ""
    if flat and steps >= MANY_STEPS and run.moved is not None and run.moved < BARELY_MOVED:
        found.append(
            Finding(
                "learning_rate_small",
                85,
                "The policy has hardly moved: the learning rate is too small",
                f"after {steps} steps at {run.learning_rate:g} the largest change of a canary log-probability is {run.moved:.2g} nats{compared}",
                f"Raise learningRate{f' to about {known:g}' if known and run.learning_rate < known else ' tenfold'}: "
                "`tunesmith rftj control JOB --learning-rate X` does so while it runs.",
            )
        )
    clipped, kl, gradient = (_tail(run.metrics, name) for name in ("clip_fraction", "kl", "grad_norm"))
    fell = run.course is not None and run.course.fell
    wild = gradient is not None and gradient > WILD_GRADIENT
    if (clipped or 0.0) > CLIPPED or (kl or 0.0) > DIVERGED_KL or (wild and fell):
        found.append(
            Finding(
                "learning_rate_large",
                80,
                "The policy moves too fast: the learning rate is too large",
                f"in the last third of the steps clip fraction {_shown(clipped)}, KL {_shown(kl)} nats, gradient norm {_shown(gradient)}{compared}",
                "Lower learningRate to a third, and rewind to the best version (`tunesmith rftj rewind`).",
            )
        )
    return found


def _rollouts(run: Run, flat: bool) -> list[Finding]:
    found: list[Finding] = []
    truncated = _mean(run.chunks, "truncated")
    if truncated is not None and truncated > TRUNCATED:
        found.append(
            Finding(
                "truncated",
                75,
                "Answers are cut off before they end",
                f"{truncated:.0%} of the rollouts reached their token limit",
                "Raise inferenceParameters.maxOutputTokens, or ask for shorter answers in the prompt.",
            )
        )
    rollouts, invalid = sum(_values(run.chunks, "rollouts")), sum(_values(run.chunks, "invalid"))
    if rollouts and invalid > INVALID * rollouts:
        found.append(
            Finding(
                "invalid",
                70,
                "Many rollouts have no valid score",
                f"{invalid:.0f} of {rollouts:.0f}; they are left out, not counted as 0",
                "`tunesmith rftj rollouts JOB --invalid` shows the reasons; `ep local-test` repeats them.",
            )
        )
    groups = sum(_values(run.chunks, "kept_groups")) + sum(_values(run.chunks, "dropped_groups"))
    small = sum(_values(run.chunks, "dropped_groups")) - sum(_values(run.chunks, "constant_groups"))
    if groups and small > TOO_SMALL * groups:
        late = sum(_values(run.chunks, "stragglers"))
        found.append(
            Finding(
                "groups_too_small",
                60,
                "Many groups have fewer than two valid scores",
                f"{small:.0f} of {groups:.0f} groups were dropped for it; {late:.0f} rollouts were left behind as stragglers",
                "Mend what makes rollouts invalid, or give slow agents a longer groupDeadlineSeconds.",
            )
        )
    if run.prompts is not None and run.prompts[1] > 1 and run.prompts[0] == 1:
        found.append(
            Finding(
                "same_prompts",
                75,
                "Every row asks the same",
                f"{run.prompts[1]} rows, one prompt",
                "Look at the dataset and the dataset_adapter: what differs between rows does not reach the model.",
            )
        )
    return found


def _learner(run: Run, flat: bool) -> list[Finding]:
    found: list[Finding] = []
    mismatch = _tail(run.metrics, "mismatch_mean")
    if mismatch is not None and mismatch > MISMATCH_MEAN:
        found.append(
            Finding(
                "mismatch",
                65,
                "Engine and learner do not agree on log-probabilities",
                f"mean difference {mismatch:.3g} nats a token in the last third of the steps",
                "It should be below 0.01: compare number formats of engine and learner, and report it with `tunesmith job export`.",
            )
        )
    entropies = _values(run.metrics, "entropy")
    if len(entropies) >= MANY_STEPS:
        third = max(1, len(entropies) // 3)
        first, last = float(np.mean(entropies[:third])), float(np.mean(entropies[-third:]))
        if last < COLLAPSED_ENTROPY and last < COLLAPSED_SHARE * first:
            found.append(
                Finding(
                    "entropy_collapse",
                    55 if flat else 25,
                    "Sampling has collapsed: the candidates of a row are the same",
                    f"entropy fell from {first:.3g} to {last:.3g} nats",
                    "Lower learningRate, raise the temperature, or stop at the best version: without differences nothing is learned.",
                )
            )
    stale, ess = _mean(run.metrics, "staleness_mean"), _tail(run.metrics, "ess")
    if stale is not None and ess is not None and stale > STALE and ess < LOW_ESS:
        found.append(
            Finding(
                "stale",
                50,
                "Rollouts are too old for the policy that learns from them",
                f"{stale:.1f} versions behind on average, effective sample size {ess:.0%}",
                "Lower maxStaleness or learningRate.",
            )
        )
    if run.chunks and 0 < len(run.metrics) < FEW_STEPS and flat:
        found.append(
            Finding(
                "few_steps",
                20,
                "There were few optimizer steps",
                f"{len(run.metrics)}, where curves usually bend after ten or more",
                "Lower chunkSize, raise epochs, or let it go on (`tunesmith job extend`).",
            )
        )
    return found


def _evaluator(run: Run, flat: bool) -> list[Finding]:
    found: list[Finding] = []
    noise = repeated_answers(run.rows)
    if noise is not None and noise["pairs"] >= FEWEST_PAIRS and noise["different"] >= NOISE:
        if noise["share"] >= INDEPENDENT:
            found.append(
                Finding(
                    "score_independent",
                    88,
                    "Scores do not depend on the answer",
                    f"equal answers to a row differ in score as much as different ones: {noise['share']:.0%} of the variance within rows",
                    "Score some answers by hand with `ep local-test`: the evaluator reads something else than the answer, or nothing.",
                )
            )
        else:
            found.append(
                Finding(
                    "nondeterministic",
                    68,
                    "The evaluator is not deterministic",
                    f"{noise['different']:.0%} of {noise['pairs']} answers that were given again to the same row got another score",
                    "Fix its seeds and clocks; a judge model should run at temperature 0, or be asked several times.",
                )
            )
    counted = [row for row in run.rows if row.tokens is not None]
    length = (
        spearman(
            [float(row.tokens or 0) for row in counted], [row.score for row in counted], [row.row for row in counted]
        )
        if len(counted) >= 20
        else Correlation(None, None, None)
    )
    if length.value is not None and length.low is not None and length.high is not None:
        strongest = max(length.low, -length.high)
        if strongest >= LENGTH_DRIVES:
            which = "longer" if length.value > 0 else "shorter"
            found.append(
                Finding(
                    "length",
                    45,
                    f"The score follows length: {which} answers score higher",
                    f"rank correlation {length.value:+.2f} (95 % interval {length.low:+.2f} to {length.high:+.2f})",
                    "Read the top-scored rollouts (`tunesmith rftj audit JOB`): the policy learns length first.",
                )
            )
    return found


LOOKS = (_failed, _variance, _learning_rate, _rollouts, _learner, _evaluator)


def repeated_answers(rows: Sequence[AuditRow]) -> dict[str, Any] | None:
    """Of answers given at least twice to one row: how many (`pairs`, repeats beyond the first), the share of those answers whose scores
    differ (`different`), and the variance among equal answers over that among all of a row (`share`). None without any."""
    by_row: dict[int, list[AuditRow]] = {}
    for row in rows:
        by_row.setdefault(row.row, []).append(row)
    pairs, differing, answers = 0, 0, 0
    within, between = [], []
    for members in by_row.values():
        by_answer: dict[str, list[float]] = {}
        for member in members:
            by_answer.setdefault(normalised(member.answer), []).append(member.score)
        again = [scores for scores in by_answer.values() if len(scores) > 1]
        if not again:
            continue
        between += list(np.array([member.score for member in members]) - np.mean([member.score for member in members]))
        for scores in again:
            answers += 1
            pairs += len(scores) - 1
            differing += max(scores) - min(scores) > 1e-9
            # A mean of m scores takes up one of their degrees of freedom.
            within.append(np.var(scores, ddof=1))
    if not pairs:
        return None
    total = float(np.mean(np.square(between)))
    return {
        "pairs": pairs,
        "different": differing / answers,
        "share": min(1.0, float(np.mean(within)) / total) if total > 1e-12 else 0.0,
    }


def _values(lines: Sequence[Mapping[str, Any]], name: str) -> list[float]:
    return [float(line[name]) for line in lines if isinstance(line.get(name), int | float)]


def _mean(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = _values(lines, name)
    return float(np.mean(values)) if values else None


def _tail(lines: Sequence[Mapping[str, Any]], name: str) -> float | None:
    """Mean over the last third."""
    values = _values(lines, name)
    return float(np.mean(values[-max(1, len(values) // 3) :])) if values else None


def _shown(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.3g}"
