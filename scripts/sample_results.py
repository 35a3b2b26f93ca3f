"""Fill a results store with rows that look like real ones, for looking at the local UI and for measuring it.

    python -m scripts.sample_results --store /tmp/results.db --rows 2000
    python -m scripts.sample_results --store /tmp/results.db --rows 200 --live     # goes on: a row runs, ends, gets its score

Drawings (SVG), sums, tool calls, reasoning, pictures, failed and unscored rollouts, and text that must not become script. The same
seed gives the same rows.
"""

from __future__ import annotations

import argparse
import base64
import json
import random
import struct
import time
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from eval_protocol.models import EvalMetadata, EvaluateResult, EvaluationRow, Message, MetricResult, Status
from eval_protocol.models.metadata import CompletionUsage, CostMetrics
from eval_protocol.models.status import Code
from eval_protocol.results import ResultsStore

MODELS = ("accounts/tunesmith/models/tiny-svg-v1", "fireworks_ai/accounts/fireworks/models/gpt-oss-120b", "gpt-4.1")
SKILL = {MODELS[0]: 0.45, MODELS[1]: 0.7, MODELS[2]: 0.6}
EVALUATIONS = ("test_svg_generation_evaluation", "test_math", "test_weather_tools", "test_vision")
RUNS = 4
COLORS = ("crimson", "teal", "gold", "slateblue", "coral", "seagreen")
HOSTILE = (
    "<script>window.__ran = 1</script>",
    '<img src=x onerror="window.__ran = 1">',
    "[click](javascript:window.__ran=1) ![p](https://example.invalid/track.png)",
    '"><svg onload="window.__ran = 1">',
    "\u202egnp.exe\u202c \u0000 \ufffd 👩‍🚀 ${7*7} {{7*7}} ' OR 1=1 --",
)


def rows(count: int, seed: int = 0, now: datetime | None = None) -> Iterator[EvaluationRow]:
    """Rows, oldest invocation first: per invocation one evaluation, 2 models, 25 prompts, 4 runs each.

    Args:
        count: how many in all; the last invocation may be cut short.
        now: when the newest invocation began; None = an hour ago.
    """
    generator = random.Random(seed)
    each = 25 * RUNS * 2
    invocations = -(-count // each)
    newest = now or datetime.now(UTC) - timedelta(hours=1)
    for number in range(count):
        invocation, place = divmod(number, each)
        began = newest - timedelta(hours=3 * (invocations - 1 - invocation))
        yield _row(generator, seed, invocation, place, began)


def _row(generator: random.Random, seed: int, invocation: int, place: int, began: datetime) -> EvaluationRow:
    experiment, rest = divmod(place, 25 * RUNS)
    run, prompt = divmod(rest, 25)
    model = MODELS[(invocation + experiment) % len(MODELS)]
    name = EVALUATIONS[invocation % len(EVALUATIONS)]
    row = EvaluationRow(created_at=began + timedelta(seconds=0.7 * place + generator.random()))
    ids = row.execution_metadata
    ids.invocation_id = f"sample-{seed}-{invocation:04d}"
    ids.experiment_id = f"{ids.invocation_id}-e{experiment}"
    ids.run_id = f"{ids.experiment_id}-run{run}"
    ids.rollout_id = f"{ids.run_id}-{prompt:02d}"
    ids.rollout_duration_seconds = round(generator.uniform(0.4, 9), 3)
    ids.usage = CompletionUsage(prompt_tokens=120, completion_tokens=generator.randint(20, 900), total_tokens=0)
    ids.usage.total_tokens = ids.usage.prompt_tokens + ids.usage.completion_tokens
    ids.cost_metrics = CostMetrics(total_cost_dollar=round(ids.usage.total_tokens * 2e-6, 6))
    row.input_metadata.row_id = f"{name}-{prompt:02d}"
    row.input_metadata.completion_params = {"model": model, "temperature": 0.8, "max_tokens": 1024}
    row.input_metadata.dataset_info = {
        "split": "test",
        "difficulty": ("easy", "hard")[prompt % 2],
        "source name": "made up",
    }
    row.eval_metadata = EvalMetadata(
        name=name, description="Made-up rows.", version="0.1.0", status=Status.eval_finished(), num_runs=RUNS
    )
    make = (_drawing, _sum, _tools, _picture)[invocation % len(EVALUATIONS)]
    row.messages, scores = make(generator, prompt, SKILL[model])
    _end(generator, row, scores, place)
    return row


def _end(generator: random.Random, row: EvaluationRow, scores: dict[str, float], place: int) -> None:
    """How it went: mostly well; every 17th failed, every 23rd has no valid score, every 29th is hostile."""
    assert row.eval_metadata is not None
    row.rollout_status = Status.rollout_finished("stop")
    if place % 17 == 16:
        code = generator.choice((Code.DEADLINE_EXCEEDED, Code.UNAVAILABLE, Code.INTERNAL))
        row.rollout_status = Status.of(code, f"The model's server did not answer within 120 s ({code.name}).")
        row.eval_metadata.status = Status.error("Not scored: the rollout failed.")
        return
    score = round(sum(scores.values()) / len(scores), 3)
    row.evaluation_result = EvaluateResult(
        score=score,
        is_score_valid=place % 23 != 22,
        reason=f"{sum(value >= 0.5 for value in scores.values())} of {len(scores)} requirements are met."
        if place % 23 != 22
        else "The judge's answer could not be read.",
        metrics={
            name: MetricResult(score=round(value, 3), reason=f"{name}: {value:.2f}") for name, value in scores.items()
        },
    )
    if place % 29 == 28:
        row.messages[-1].content = "\n\n".join([HOSTILE[(place // 29 + k) % len(HOSTILE)] for k in range(3)])
        row.evaluation_result.reason = HOSTILE[1]


def _drawing(generator: random.Random, prompt: int, skill: float) -> tuple[list[Message], dict[str, float]]:
    color, size = COLORS[prompt % len(COLORS)], 20 + generator.randrange(60)
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 200 200">'
        f'<rect width="200" height="200" fill="#f4f1ea"/><circle cx="{60 + prompt * 3}" cy="100" r="{size}" fill="{color}"/>'
        f'<rect x="20" y="150" width="160" height="{10 + prompt}" fill="{COLORS[(prompt + 2) % 6]}"/></svg>'
    )
    script = "<script>window.__ran = 1</script></svg>" if prompt == 24 else "</svg>"
    answer = f"Here is the drawing.\n\n```svg\n{svg.removesuffix('</svg>')}{script}\n```"
    messages = [
        Message(role="system", content="You draw with SVG. Answer with one `svg` code block."),
        Message(role="user", content=f"Draw {prompt + 1} things: a {color} circle above a bar, on paper."),
        Message(
            role="assistant", content=answer, reasoning_content=f"A circle of radius {size} fits in 200 by 200." * 3
        ),
    ]
    return messages, {name: _hit(generator, skill) for name in ("shape", "color", "layout")}


def _sum(generator: random.Random, prompt: int, skill: float) -> tuple[list[Message], dict[str, float]]:
    a, b, correct = 17 + prompt, 3 + prompt * 2, generator.random() < skill
    value = a * b if correct else a * b + generator.randint(1, 9)
    text = (
        f"**Step 1.** {a} × {b} = {value}\n\n| factor | value |\n|---|---|\n| a | {a} |\n| b | {b} |\n\n`#### {value}`"
    )
    return [
        Message(role="user", content=f"Each of {a} boxes holds {b} pencils. How many pencils are there?"),
        Message(role="assistant", content=text),
    ], {"correct": float(correct)}


def _tools(generator: random.Random, prompt: int, skill: float) -> tuple[list[Message], dict[str, float]]:
    city = ("Oslo", "Quito", "Lagos", "Kyoto", "Perth")[prompt % 5]
    call = {
        "id": f"call_{prompt}",
        "type": "function",
        "function": {"name": "get_weather", "arguments": json.dumps({"city": city, "days": prompt % 4 + 1})},
    }
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": f"Do I need an umbrella in {city} this week?"},
        {"role": "assistant", "content": None, "reasoning_content": "I should look it up.", "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": json.dumps({"city": city, "rain_mm": prompt * 1.5})},
        {"role": "assistant", "content": f"{'Yes' if prompt > 4 else 'No'}: {prompt * 1.5} mm of rain in {city}."},
    ]
    return [Message.model_validate(message) for message in messages], {
        "called the tool": 1.0,
        "answer": _hit(generator, skill),
    }


def _picture(generator: random.Random, prompt: int, skill: float) -> tuple[list[Message], dict[str, float]]:
    shade = (prompt * 10 % 256, 120, 255 - prompt * 10 % 256)
    parts = [
        {"type": "text", "text": "What colour is this square?"},
        {"type": "image_url", "image_url": {"url": _png(shade)}},
    ]
    return [
        Message.model_validate({"role": "user", "content": parts}),
        Message(role="assistant", content=f"It is rgb{shade}, a shade of blue-green."),
    ], {"colour": _hit(generator, skill)}


def _hit(generator: random.Random, skill: float) -> float:
    return min(1.0, max(0.0, generator.gauss(skill, 0.25)))


def _png(color: tuple[int, int, int], side: int = 24) -> str:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    pixels = (b"\0" + bytes(color) * side) * side
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(pixels)) + chunk(b"IEND", b"")
    return "data:image/png;base64," + base64.b64encode(png).decode()


def fill(store: Path, count: int, seed: int = 0) -> None:
    """Write the rows; the last three are running (and count as aborted once this process has ended)."""
    with ResultsStore(store) as writer:
        for number, row in enumerate(rows(count, seed)):
            writer.log(running(row) if number >= count - 3 else row)
            if number % 1000 == 999:
                writer.flush()


def running(row: EvaluationRow) -> EvaluationRow:
    """The same row while it ran."""
    made = row.model_copy(deep=True)
    made.messages = [message for message in made.messages if message.role in ("system", "user")]
    made.rollout_status, made.evaluation_result = Status.rollout_running(), None
    if made.eval_metadata is not None:
        made.eval_metadata.status = Status.eval_running()
    return made


def live(store: Path, seed: int, pause: float) -> None:
    """An eval that never ends: eight rows run at a time."""
    with ResultsStore(store) as writer:
        waiting: list[EvaluationRow] = []
        for row in rows(1_000_000, seed, datetime.now(UTC) + timedelta(hours=3 * 4999)):
            row.created_at = datetime.now(UTC)
            writer.log(running(row))
            waiting.append(row)
            if len(waiting) > 8:
                writer.log(waiting.pop(0))
            time.sleep(pause)


def main() -> None:
    """Parse the flags and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", type=Path, required=True, help="the SQLite file; made when it is not there")
    parser.add_argument("--rows", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--live", action="store_true", help="then go on writing until Ctrl-C")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two live rows")
    flags = parser.parse_args()
    fill(flags.store, flags.rows, flags.seed)
    print(f"{flags.rows} rows are in {flags.store}.", flush=True)
    if flags.live:
        try:
            live(flags.store, int(time.time()), flags.pause)
        except KeyboardInterrupt:
            print("Ended; the rows that were running count as aborted.")


if __name__ == "__main__":
    main()
