"""What a host runs: one evaluation with one parametrization."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from eval_protocol.errors import UsageError
from eval_protocol.evaluation.discovery import load_entry
from eval_protocol.evaluation.spec import EvaluationSpec
from eval_protocol.host.wire import Answers
from eval_protocol.rollouts import NoOpRolloutProcessor
from eval_protocol.rollouts.remote import RemoteRolloutProcessor

DEFAULT_TIMEOUT_SECONDS = 60.0


@dataclass(frozen=True)
class HostedEvaluator:
    """The evaluation behind an entry point."""

    spec: EvaluationSpec
    kwargs: dict[str, Any]
    """Further arguments of its function."""
    file: str
    timeout: float
    """Seconds that the evaluator may take for one row."""

    def described(self) -> dict[str, Any]:
        """The answer to `describe`."""
        return {
            "type": "described",
            "name": self.spec.name,
            "mode": self.spec.parameters.mode,
            "file": self.file,
            "line": self.spec.line,
            "timeout": self.timeout,
            "answers": [*Answers],
            "passed_threshold": threshold.success if (threshold := self.spec.parameters.passed_threshold) else None,
            "listens": "fd",
            "agent_server": self.agent_server,
        }

    @property
    def agent_server(self) -> str | None:
        """The URL of the agent server that rollouts go to, where its processor has one."""
        parameters = self.spec.parameters
        processor = parameters.processor()
        if not isinstance(processor, RemoteRolloutProcessor):
            return None
        return processor.server_url(parameters.rollout_processor_kwargs or {}) or None

    @property
    def rolls_out(self) -> bool:
        """Whether its processor makes answers. If not, the assistant turns at a row's end are what is scored; else they are gold."""
        return not isinstance(self.spec.parameters.processor(), NoOpRolloutProcessor)


def load(entry: str, timeout: float = DEFAULT_TIMEOUT_SECONDS) -> HostedEvaluator:
    """Import the entry point.

    Raises:
        DiscoveryError: no such file or function, or it does not import.
        UsageError: several parametrizations; the message lists them.
    """
    test = load_entry(entry)
    found = test.parametrizations()
    if len(found) > 1:
        listed = "".join(f"\n  - {label}" for label in found)
        raise UsageError(
            f"{test.node_id} has {len(found)} parametrizations, but a training job runs one:{listed}\n"
            "Leave one entry in completion_params and evaluation_test_kwargs, or make an evaluation of each."
        )
    kwargs = next((dict(kwargs) for kwargs in test.spec.parameters.evaluation_test_kwargs if kwargs), {})
    return HostedEvaluator(test.spec, kwargs, test.file, timeout)
