"""A job in a notebook's output: a line of facts and a small curve of the mean reward, as HTML without scripts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

WIDTH, HEIGHT, EDGE = 320, 64, 4
"""Pixels of the curve."""


def line_of(chunk: Mapping[str, Any], job: Mapping[str, Any]) -> str:
    """`epoch 0  step 3/20  mean reward 0.525  10 of 10 groups used`."""
    total = (job.get("run") or {}).get("total_steps") or "?"
    mean = chunk.get("mean_score")
    kept, groups = chunk.get("kept_groups", 0), chunk.get("kept_groups", 0) + chunk.get("dropped_groups", 0)
    reward = "no valid score" if mean is None else f"mean reward {mean:.3f}"
    return f"epoch {chunk['epoch']}  step {chunk['chunk'] + 1}/{total}  {reward}  {kept} of {groups} groups used"


def as_html(job: Mapping[str, Any], events: Sequence[Mapping[str, Any]]) -> str:
    """The job's name, state, last figures, message and reward curve."""
    chunks = [event for event in events if event["kind"] == "chunk"]
    scores = [event for event in events if event["kind"] == "evaluation"]
    rewards = [float(chunk["mean_score"]) for chunk in chunks if chunk.get("mean_score") is not None]
    state = str(job.get("state", "")).removeprefix("JOB_STATE_")
    facts = [state.lower()] + ([line_of(chunks[-1], job)] if chunks else [])
    if scores:
        last = scores[-1]
        facts.append(f"held-out {last['score']:.3f} [{last['low']:.3f}, {last['high']:.3f}]")
    message = (job.get("status") or {}).get("message") or ""
    return (
        '<div style="font:13px sans-serif">'
        f"<b>{escape(str(job.get('name', '')).rsplit('/', 1)[-1])}</b> {escape(' · '.join(facts))}"
        f"{f'<br>{escape(message)}' if message else ''}{f'<br>{reward_curve(rewards)}' if len(rewards) > 1 else ''}</div>"
    )


def reward_curve(rewards: Sequence[float]) -> str:
    """An SVG of mean rewards (0 to 1) by step."""
    step = (WIDTH - 2 * EDGE) / (len(rewards) - 1)
    points = " ".join(
        f"{EDGE + index * step:.1f},{EDGE + (1 - min(1.0, max(0.0, reward))) * (HEIGHT - 2 * EDGE):.1f}"
        for index, reward in enumerate(rewards)
    )
    return (
        f'<svg width="{WIDTH}" height="{HEIGHT}" role="img" aria-label="mean reward by step, last {rewards[-1]:.3f}">'
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="none" stroke="#8886"/>'
        f'<polyline points="{points}" fill="none" stroke="#2a78d6" stroke-width="2"/></svg>'
    )
