"""Public import path of `RemoteRolloutProcessor`."""

from __future__ import annotations

from eval_protocol.rollouts.remote import RemoteRolloutProcessor

__all__ = ["RemoteRolloutProcessor"]
