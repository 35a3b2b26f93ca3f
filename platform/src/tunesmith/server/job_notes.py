"""`notes` that a job gets while it runs, beside those on its options."""

from __future__ import annotations

from typing import Any


def sandbox_notes(sandbox: dict[str, Any] | None) -> list[dict[str, str]]:
    """That its evaluator is not fully confined, where it is not. `sandbox`: as the job shows it; None: no host has started yet."""
    if not sandbox or not sandbox.get("degraded"):
        return []
    return [
        {"option": "sandbox", "reason": f"The evaluator of this job is not fully confined: {sandbox.get('reason')}."}
    ]


def preflight_notes(preflight: dict[str, Any] | None) -> list[dict[str, str]]:
    """What a preflight warns of."""
    return [{"option": "preflight", "reason": warning} for warning in (preflight or {}).get("warnings", [])]
