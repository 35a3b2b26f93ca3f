"""Bring an evaluator to the platform and wait until it can be used.

An evaluator whose source did not change is not sent again: the content hash of what was packed is kept in its
`commitHash`. One that changed, or whose build failed, gets a next version; the platform keeps the earlier ones.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eval_protocol.cli.session import Printer
from eval_protocol.client.errors import PlatformError, Refused
from eval_protocol.client.wire import Evaluator, EvaluatorState

if TYPE_CHECKING:
    from eval_protocol.client.control_plane import ControlPlane
    from eval_protocol.client.packing import PackedProject

BUILD_TIMEOUT_SECONDS = 600.0
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 10.0
LOG_TAIL_LINES = 30


@dataclass(frozen=True)
class LocalEvaluator:
    """An evaluator as it lies in the author's project."""

    id: str
    function: str
    entry_point: str
    """`path/to/file.py::function`, relative to the project root."""
    archive: PackedProject

    @property
    def commit_hash(self) -> str:
        """Identifies source and entry point."""
        return f"src-{self.archive.source_hash[:32]}"

    @property
    def request(self) -> dict[str, Any]:
        """The `evaluator` of the create call."""
        module = self.entry_point.removesuffix(f"::{self.function}").removesuffix(".py").replace("/", ".")
        return {
            "displayName": self.id,
            "description": f"Evaluator for {module}.{self.function}",
            "commitHash": self.commit_hash,
            "entryPoint": self.entry_point,
        }


@dataclass(frozen=True)
class Decision:
    """Whether to upload, and the reason in words."""

    upload: bool
    again: bool
    """There is one already: what is uploaded becomes its next version."""
    reason: str


def decide(local: LocalEvaluator, remote: Evaluator | None, force: bool) -> Decision:
    """Compare what is here with what is there."""
    if remote is None:
        return Decision(True, False, "it is not on the platform yet")
    if force:
        return Decision(True, True, "--force")
    if remote.state == EvaluatorState.BUILD_FAILED:
        return Decision(True, True, "its last build failed")
    if remote.entry_point and remote.entry_point != local.entry_point:
        return Decision(
            False, False, f"it was built from {remote.entry_point}, which is not {local.entry_point}; --force replaces it"
        )  # fmt: skip
    if remote.commit_hash != local.commit_hash:
        return Decision(True, True, "its source changed")
    return Decision(
        False, False, f"Evaluator exists (state: {remote.state}). Skipping upload (use --force to overwrite)."
    )


async def ensure_evaluator(
    platform: ControlPlane, local: LocalEvaluator, force: bool, links: str, say: Printer
) -> Evaluator:
    """Upload the evaluator unless the same source is there already. Returns it as it was uploaded, or found."""
    found = await platform.get_evaluator(local.id)
    decision = decide(local, found, force)
    if found is not None and not decision.upload:
        say(f"✓ {decision.reason}")
        return found
    say(f"Uploading evaluator '{local.id}' for {local.function}...")
    say(f"   because {decision.reason}" if decision.again else f"   {local.entry_point}")
    if decision.again:
        # The hash comes last: were it there without its code, the next run would take the code for uploaded.
        current = await platform.update_evaluator(local.id, {**local.request, "commitHash": ""}, awaits_code=True)
    else:
        current = await platform.create_evaluator(local.id, local.request)
    say(f"   {local.archive.filename} ({local.archive.size:,} bytes, {len(local.archive.files)} files)")
    try:
        await platform.upload_evaluator_code(local.id, local.archive.filename, local.archive.content)
    except PlatformError:
        if not decision.again:
            await _forget(platform, local.id, say)
        raise
    if decision.again:
        await platform.update_evaluator(local.id, {"commitHash": local.commit_hash})
    say()
    say(f"✅ Successfully uploaded evaluator: {local.id}")
    say("📊 View in the dashboard:")
    say(f"   {links}/dashboard/evaluators/{local.id}")
    say()
    return current


async def wait_until_active(
    platform: ControlPlane,
    evaluator_id: str,
    links: str,
    say: Printer,
    *,
    timeout_seconds: float | None = None,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> bool:
    """Poll until ACTIVE: quickly at first, then every ten seconds. False when the build failed or took too long (said so)."""
    timeout_seconds = BUILD_TIMEOUT_SECONDS if timeout_seconds is None else timeout_seconds
    say(f"Waiting for evaluator '{evaluator_id}' to become ACTIVE...")
    say(f"Polling evaluator status (timeout: {timeout_seconds / 60:.0f}m)...")
    start, pause, last_line = clock(), FIRST_PAUSE_SECONDS, ""
    while True:
        minutes = (clock() - start) / 60
        try:
            found = await platform.get_evaluator(evaluator_id)
            line = _progress_line(found, minutes)
        except PlatformError as error:
            if isinstance(error, Refused) and error.status in (401, 403):
                raise
            found, line = None, f"Warning: Failed to check evaluator status: {error}"
        if found and found.state == EvaluatorState.ACTIVE:
            say("✅ Evaluator is ACTIVE and ready!")
            return True
        if found and found.state == EvaluatorState.BUILD_FAILED:
            await _explain_failure(platform, evaluator_id, found, say)
            break
        if line != last_line:
            say(line)
            last_line = line
        if clock() - start >= timeout_seconds:
            say(f"⏰ Timeout after {timeout_seconds / 60:.1f}m - evaluator is not yet ACTIVE")
            say()
            say("❌ Evaluator is not ready within the timeout period.")
            say(f"📊 Please check the evaluator status at: {links}/dashboard/evaluators/{evaluator_id}")
            say("   Wait for it to become ACTIVE, then run 'ep create rft' again.")
            return False
        await sleep(pause)
        pause = min(pause * 1.5, LONGEST_PAUSE_SECONDS)
    say(f"📊 The evaluator: {links}/dashboard/evaluators/{evaluator_id}")
    say("   Correct its source and run the command again: it is uploaded anew.")
    return False


def _progress_line(found: Evaluator | None, minutes: float) -> str:
    if found is None:
        return "⏳ Evaluator is not there yet..."
    if found.state == EvaluatorState.BUILDING:
        return f"⏳ Evaluator is still building... ({minutes:.1f}m elapsed)"
    return f"⏳ Evaluator state: {found.state}, status: {found.status.message if found.status else ''}"


async def _explain_failure(platform: ControlPlane, evaluator_id: str, found: Evaluator, say: Printer) -> None:
    code, message = (found.status.code, found.status.message) if found.status else ("", "no reason given")
    say(f"❌ Evaluator build failed. Status: {code} {message}".replace("  ", " "))
    try:
        log = await platform.evaluator_build_log(evaluator_id)
    except PlatformError as error:
        say(f"   The build log could not be fetched: {error}")
        return
    if log and log.strip():
        lines = log.rstrip().splitlines()
        say(f"   End of the build log ({min(len(lines), LOG_TAIL_LINES)} of {len(lines)} lines):")
        for line in lines[-LOG_TAIL_LINES:]:
            say(f"   │ {line}")


async def _forget(platform: ControlPlane, evaluator_id: str, say: Printer) -> None:
    """Remove an evaluator whose code never arrived, so that the next run starts clean instead of waiting for a build."""
    try:
        await platform.delete_evaluator(evaluator_id)
    except PlatformError as error:
        say(f"Warning: evaluator '{evaluator_id}' has no code and could not be removed: {error}", err=True)
