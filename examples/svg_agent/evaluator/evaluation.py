"""Does the drawing show what was asked for? The evaluator of the SVG agent.

The agent runs on a server of its own (`server_py/`, `server_ts/`). Its drawing is rendered, then judged: by a vision model where
`SVG_JUDGE_MODEL` names one, else by its geometry, offline. Run it with `python evaluation.py`; train with `ep create rft`.
"""

import asyncio
from pathlib import Path

import geometric
import pytest
import vision
from eval_protocol.models import EvaluateResult, EvaluationRow, MetricResult
from eval_protocol.pytest import RemoteRolloutProcessor, evaluation_test
from extract import NoDrawing, extract_svg
from guard import BadDrawing
from render import Picture, RendererUnavailable, default_renderer

HERE = Path(__file__).parent
UNSEEN_SIDE = 64
"""Pixels where nobody looks at the picture, and it only matters that there is one."""


@evaluation_test(
    input_dataset=[str(HERE / "drawings_dataset.jsonl")],
    completion_params=[{"model": "accounts/tunesmith/models/tiny-svg-v1", "temperature": 0.7, "max_tokens": 128}],
    # EP_REMOTE_ROLLOUT_PROCESSOR_BASE_URL names another server.
    rollout_processor=RemoteRolloutProcessor(remote_base_url="http://localhost:3000"),
    max_dataset_rows=20,
    num_runs=1,
    passed_threshold=0.0,
    mode="pointwise",
)
async def svg_agent(row: EvaluationRow) -> EvaluationRow:
    """The share of the requirements that the drawing fulfils."""
    requirements = (row.input_metadata.dataset_info or {}).get("requirements")
    if not isinstance(requirements, list) or not requirements:
        row.evaluation_result = invalid("The row has no list of requirements in input_metadata.dataset_info.")
        return row
    message = row.last_assistant_message()
    try:
        svg = extract_svg(str(message.content or "") if message else "")
        judge = vision.JudgeSettings.from_environment()
        renderer = default_renderer() if judge else default_renderer(UNSEEN_SIDE)
        picture = await asyncio.to_thread(renderer.render, svg)
        if judge is None:
            row.evaluation_result = by_geometry(svg, requirements)
        else:
            row.evaluation_result = await by_sight(picture, requirements, judge)
    except (NoDrawing, BadDrawing) as error:
        row.evaluation_result = EvaluateResult(
            score=0.0,
            reason=str(error),
            metrics={"rendered": MetricResult(score=0.0, reason=str(error))},
        )
    except geometric.UnknownRequirement as error:
        row.evaluation_result = invalid(f"{error} Set SVG_JUDGE_MODEL to have such requirements judged by sight.")
    except (vision.JudgeFailed, RendererUnavailable) as error:
        row.evaluation_result = invalid(str(error))
    return row


def by_geometry(svg: str, requirements: list[str]) -> EvaluateResult:
    """What the geometric judge says."""
    verdicts = geometric.judge(svg, requirements)
    metrics = {
        f"requirement_{number}": MetricResult(
            score=verdict.met, reason=f"{verdict.requirement}: {verdict.seen}", data={"parts": verdict.parts, "factor": verdict.factor}
        )
        for number, verdict in enumerate(verdicts, start=1)
    }  # fmt: skip
    met = sum(verdict.met == 1.0 for verdict in verdicts)
    return judged(geometric.score(verdicts), "geometric", met, metrics, {"judge": "geometric"})


async def by_sight(picture: Picture, requirements: list[str], settings: vision.JudgeSettings) -> EvaluateResult:
    """What the vision judge says."""
    judgement = await vision.judge(picture, requirements, settings)
    verdicts = zip(requirements, judgement.fulfilled, judgement.seen, strict=True)
    metrics = {
        f"requirement_{number}": MetricResult(score=float(fulfilled), reason=f"{requirement}: {seen}")
        for number, (requirement, fulfilled, seen) in enumerate(verdicts, start=1)
    }
    raw = {"judge": "vision", "model": settings.model, "raw": judgement.raw}
    return judged(judgement.score, f"vision ({settings.model})", sum(judgement.fulfilled), metrics, raw)


def judged(score: float, judge: str, met: int, metrics: dict[str, MetricResult], raw: dict) -> EvaluateResult:
    """The result, with the verdict on each requirement as a metric and the judge's own words in `judge`."""
    reason = f"{met} of {len(metrics)} requirements fulfilled, by the {judge} judge."
    rendered = MetricResult(score=1.0, reason="The drawing was rendered.")
    own = MetricResult(score=score, reason=reason, data=raw)
    return EvaluateResult(score=score, reason=reason, metrics={"rendered": rendered, "judge": own, **metrics})


def invalid(reason: str) -> EvaluateResult:
    """Not the drawing's fault: left out of every average."""
    return EvaluateResult(score=0.0, is_score_valid=False, reason=reason)


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-vs"]))
