"""Every kind of job that this platform runs, with how many of each one worker takes at a time."""

from __future__ import annotations

from tunesmith.db.tuning_jobs import DPO, SFT
from tunesmith.jobs.deployment import DeploymentHandler
from tunesmith.jobs.evaluation import EvaluationHandler
from tunesmith.jobs.evaluator_build import EvaluatorBuild
from tunesmith.jobs.handler import Handler
from tunesmith.jobs.rft import RftHandler
from tunesmith.jobs.session import SessionHandler
from tunesmith.jobs.tuning import TuningHandler
from tunesmith.settings import Settings

CONCURRENT_DEPLOYMENTS = 8
"""Each waits for an engine, and does nothing itself."""
CONCURRENT_SESSIONS = 64
"""Each waits for its jobs, and holds no process; at a gate it holds nothing at all."""


def handlers(settings: Settings) -> list[tuple[Handler, int]]:
    """Each handler and its limit."""
    return [
        (EvaluatorBuild(), settings.concurrent_builds),
        (RftHandler(), settings.concurrent_rft_jobs),
        *((TuningHandler(kind), settings.concurrent_tuning_jobs) for kind in (SFT, DPO)),
        (EvaluationHandler(), settings.concurrent_evaluations),
        (DeploymentHandler(), CONCURRENT_DEPLOYMENTS),
        (SessionHandler(), CONCURRENT_SESSIONS),
    ]
