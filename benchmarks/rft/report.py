"""What was measured, judged against its targets and written down."""

from __future__ import annotations

import platform
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

Section = Callable[[Any], list[str]]
"""Writes what a part found."""
RECORD = Path(__file__).resolve().parents[1] / "results" / "bench_rft.json"
STEP_TARGET, WHOLE_TARGET = 2.0, 1.3
PROCESSES = ("engine", "learner", "web", "worker", "orchestrator", "evaluator host", "other")
"""Of the platform; `other` are the supervisor and the sandbox of the evaluator host."""
CORES = "2 virtual cores shared with other work; CPU-seconds of one thread a process"


def ratio_of_step(rounds: list[dict[str, Any]]) -> float:
    """TRL's fastest layout by ours, within a round; the median of the rounds."""
    return median(_best(each)["cpu_seconds"] / _ours(each) for each in rounds)


def ratio_of_whole(rounds: list[dict[str, Any]]) -> float:
    """CPU-seconds by trained token, TRL's by ours, within a round; the median of the rounds."""
    return median(_by_token(each["trl"]) / _by_token(each["ours"]) for each in rounds)


def missed(record: dict[str, Any]) -> list[str]:
    """The targets that do not hold."""
    judged = {
        f"a step on fixed samples at least {STEP_TARGET:g} times as fast": ("step", ratio_of_step, STEP_TARGET),
        f"a whole step at least {WHOLE_TARGET:g} times as fast": ("whole", ratio_of_whole, WHOLE_TARGET),
    }
    return [claim for claim, (part, ratio, least) in judged.items() if part in record and ratio(record[part]) < least]


def render(record: dict[str, Any], sections: dict[str, Section]) -> str:
    """The page: of each part that was measured its section, in the order of `sections`."""
    lines = [
        "# RFT beside TRL 1.16's GRPOTrainer",
        "",
        f"Written by `make bench-rft`, part by part. {platform.machine()}, {CORES}. `tiny-math-v1`, LoRA rank 16 on all linear layers, float32, "
        "10 prompts x 8 rollouts a step, no KL term. TRL samples with transformers' `generate`, in an environment of its own with the same torch, "
        "transformers and peft.",
    ]
    for part, write in sections.items():
        if part in record:
            lines += ["", *write(record[part])]
            made, note = record.get("made", {}).get(part), record.get("notes", {}).get(part)
            lines += (
                [
                    "",
                    f"{'Last measured' if part == 'reward' else 'Measured'} {made['date']} at {made['commit']}: `{made['command']}`.",
                ]
                if made
                else []
            )
            lines += ["", f"Note: {note}"] if note else []
    lines += ["", *(f"NOT MET: {claim}." for claim in missed(record))]
    return "\n".join(lines).rstrip() + "\n"


def step(rounds: list[dict[str, Any]]) -> list[str]:
    """A step on fixed samples, by round."""
    ours = {name: median(each["ours"][name] for each in rounds) for name in rounds[0]["ours"]}
    total = ours["engine"] + ours["learner"]
    lines = [
        "## A step on fixed samples",
        "",
        f"Every answer has 46 tokens and every group varies; {ours['tokens']:.0f} trained tokens a step on both sides, {len(rounds)} round(s), medians, "
        "CPU-seconds. Ours: the engine's process (HTTP and loading the adapter included) and the learner's (checkpoint, canary and publishing "
        f"included); what stands between them is a driver here ({ours['driver']:.2f}, not counted) and is counted in the whole step. Seed 0.",
        "",
        *_heads("| | sampling | update | step |"),
        f"| ours | {ours['engine']:.2f} | {ours['learner']:.2f} | {total:.2f} |",
    ]
    for micro in rounds[0]["trl"]:
        theirs = {name: median(each["trl"][micro][name] for each in rounds) for name in rounds[0]["trl"][micro]}
        sampling, step = theirs["generate"], theirs["cpu_seconds"]
        lines.append(f"| TRL, {micro} rollouts a forward pass | {sampling:.2f} | {step - sampling:.2f} | {step:.2f} |")
    best = [_best(each) for each in rounds]
    sampling = median(b["generate"] / e["ours"]["engine"] for b, e in zip(best, rounds, strict=True))
    update = median(
        (b["cpu_seconds"] - b["generate"]) / e["ours"]["learner"] for b, e in zip(best, rounds, strict=True)
    )
    ratios = ", ".join(f"{_best(each)['cpu_seconds'] / _ours(each):.2f}" for each in rounds)
    return [
        *lines,
        "",
        f"Against TRL's fastest layout of each round: **{ratio_of_step(rounds):.2f} times** (sampling {sampling:.2f}, update {update:.2f}). "
        "Also set for TRL: no gradient checkpointing, float32, no reference model, one generation for the whole step; a static key-value cache gave nothing. "
        f"Ratios of rounds: {ratios}.",
    ]


def whole(rounds: list[dict[str, Any]]) -> list[str]:
    """A whole job's step, by round."""
    lines = [
        "## A whole step",
        "",
        "A job through `ep create rft` on a real `tunesmith up`: HTTP, capture, evaluator host in its sandbox, sealing, learning, publishing; the CPU-seconds of "
        "all processes, from the end of the first chunk to the end of the last. Scores are a coin, so that hardly any group is dropped, at learning rate 1e-5, so that "
        "both go on sampling from the same distribution. TRL counts everything in its process, the first step left out. Ours looks for news by the clock, so that a step "
        "that takes longer because the cores are busy also costs more.",
        "",
        *_heads(
            "| round | ours, CPU-s a step | tokens trained | TRL, CPU-s a step | tokens trained | ratio by token | ours, s a step | programs that wait for a core |"
        ),
    ]
    for number, each in enumerate(rounds):
        ours, theirs = each["ours"], each["trl"]
        ratio = _by_token(theirs) / _by_token(ours)
        lines.append(
            f"| {number + 1} | {ours['cpu_seconds']:.2f} | {ours['trained']:.0f} | {theirs['cpu_seconds']:.2f} | {theirs['trained']:.0f} | {ratio:.2f} "
            f"| {ours['seconds']:.0f} | {ours['load']:.0f} |"
        )
    shares = {name: median(each["ours"]["processes"].get(name, 0.0) for each in rounds) for name in PROCESSES}
    parts = ", ".join(f"{name} {seconds:.2f}" for name, seconds in shares.items())
    return [
        *lines,
        "",
        f"Median: **{ratio_of_whole(rounds):.2f} times**. Ours by process, CPU-seconds a step: {parts}.",
    ]


def reward(found: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Runs to a reward, by contender."""
    lines = [
        "## To a reward of 0.7",
        "",
        "The mean reward of five steps at temperature 1 reaches 0.7; the example's rows and its reading of an answer, up to 80 tokens. CPU-seconds from the first "
        "step on, of all processes on our side; the start (evaluator build, model load) stands apart. A learning rate that only one of both has tried "
        "says nothing about the other. Both: AdamW with betas 0.9 and 0.95, constant rate, gradient norm clipped at 1, LoRA rank 16 and alpha 32 as PEFT "
        "initializes it, no KL term. Different by default: ours divides advantages by the deviation over all groups that vary, TRL by that of each group; ours divides "
        "the loss by the tokens of the groups that vary, TRL by those of all groups.",
        "",
        *_heads(
            "| | learning rate | seed | steps | rollouts | CPU-s | start, CPU-s | measured | reward after 400 | 800 | 1600 | 2400 rollouts |"
        ),
    ]
    for name, runs in found.items():
        for run in sorted(runs, key=lambda run: (run["rate"], run["seed"])):
            after = " | ".join(
                str(run["after"].get(mark, run["after"].get(str(mark), ""))) for mark in (400, 800, 1600, 2400)
            )
            reached = run["steps"] or f"not in {len(run['rewards'])}"
            cells = [
                name,
                f"{run['rate']:g}",
                run["seed"],
                reached,
                run["rollouts"] or "",
                run["cpu_seconds"] or "",
                run["start"],
                f"{run.get('date', '')} {run.get('commit', '')}".strip(),
            ]
            lines.append(f"| {' | '.join(map(str, cells))} | {after} |")
    return lines


def overlap(runs: list[dict[str, Any]]) -> list[str]:
    """Runs by staleness."""
    lines = [
        "## Overlap",
        "",
        "An agent that waits 200 ms after each model call; 20 steps at learning rate 2e-3, seed 0. Steps a minute are of the wall clock, on a machine that is busy "
        "with other work (programs that wait for a core: the mean of five minutes). Smallest effective sample size and largest masked fraction of a step. A mean "
        "staleness below what is allowed says that rollouts take longer than learning: they never get further ahead.",
        "",
        *_heads(
            "| round | staleness allowed | mean | steps a minute | by staleness 0 of the round | CPU-s a step | waited for the learner, s a step | reward of the last 5 "
            "steps | smallest ESS | masked | programs that wait |"
        ),
    ]
    plain = {run["round"]: run["steps_per_minute"] for run in runs if run["staleness"] == 0}
    gains: dict[int, list[float]] = {}
    for run in sorted(runs, key=lambda run: (run["round"], run["staleness"])):
        gain = run["steps_per_minute"] / plain[run["round"]]
        gains.setdefault(run["staleness"], []).append(gain)
        cells = [run["round"] + 1, run["staleness"], run["staleness_mean"], run["steps_per_minute"], f"{gain:.2f}"]
        cells += [run[name] for name in ("cpu_per_step", "wait_seconds", "reward", "ess", "clip_fraction", "load")]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    said = ", ".join(f"staleness {each} {median(found):.2f} times" for each, found in gains.items() if each)
    return [*lines, "", f"Steps a minute by those of staleness 0, median of the rounds: **{said}**."]


def turns(found: list[dict[str, float]]) -> list[str]:
    """Turns of a long conversation."""
    return [
        "## Growth: turns",
        "",
        "A conversation of 30 turns in which every turn sends all of it again, as agents do: CPU-seconds of the turn (mean of the five up to it).",
        "",
        *_heads("| turn | prompt tokens | gateway | engine | gateway, ms by 1,000 tokens |"),
        *(
            f"| {t['turn']} | {t['tokens']:.0f} | {t['gateway']:.4f} | {t['engine']:.3f} | {1e6 * t['gateway'] / t['tokens']:.2f} |"
            for t in found
        ),
    ]


def lengths(found: list[dict[str, float]]) -> list[str]:
    """The learner by length of a sequence."""
    return [
        "## Growth: length of a sequence",
        "",
        "Learner, forward and backward pass: microseconds of CPU a token as one sequence, and for as many tokens in sequences of 1,024; the difference is "
        "attention, whose cost by token grows with the length.",
        "",
        *_heads("| tokens | one sequence | in pieces | attention's part |"),
        *(
            f"| {t['tokens']} | {1e6 * t['whole']:.1f} | {1e6 * t['pieces']:.1f} | {1e6 * (t['whole'] - t['pieces']):.1f} |"
            for t in found
        ),
    ]


def rows(found: list[dict[str, Any]]) -> list[str]:
    """Datasets by number of rows."""
    lines = [
        "## Growth: rows",
        "",
        "Orchestrator after three chunks of a dataset (rows of about 1 KB), start included.",
        "",
        *_heads("| rows | peak memory, MiB | CPU-s |"),
        *(f"| {t['rows']} | {t['peak_mib']:.1f} | {t['cpu_seconds']:.2f} |" for t in found),
    ]
    if all("job" in each for each in found):
        names = list(found[0]["job"])
        lines += [
            "",
            "Every process during a job over such a dataset, from its upload by `ep create rft` to the end of the first chunk: peak memory, MiB.",
            "",
            *_heads(f"| rows | {' | '.join(names)} |"),
            *(f"| {t['rows']} | {' | '.join(format(t['job'][name], '.1f') for name in names)} |" for t in found),
        ]
    return lines


def _heads(line: str) -> list[str]:
    """A table's first two lines."""
    return [line, "|" + "---|" * (line.count("|") - 1)]


def _ours(each: dict[str, Any]) -> float:
    return each["ours"]["engine"] + each["ours"]["learner"]


def _best(each: dict[str, Any]) -> dict[str, float]:
    return min(each["trl"].values(), key=lambda theirs: theirs["cpu_seconds"])


def _by_token(side: dict[str, float]) -> float:
    return side["cpu_seconds"] / side["trained"]
