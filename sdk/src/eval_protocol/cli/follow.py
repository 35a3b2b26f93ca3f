"""Follow a job in the terminal: a bar with epoch, step and mean reward, a small curve, and how it ended.

With a terminal the picture is redrawn in place (rich); without one, each step is a line. Leaving with Ctrl-C leaves the job
running.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from eval_protocol.cli.curve import curve
from eval_protocol.cli.session import Printer
from eval_protocol.client.watch import JobView, watch
from eval_protocol.client.wire import Job, JobMetrics

if TYPE_CHECKING:
    from rich.console import RenderableType

    from eval_protocol.client.control_plane import ControlPlane
    from eval_protocol.client.wire import RunEvent

PLAIN_STATE = "JOB_STATE_"


class Display(Protocol):
    """Shows views of a job as they come."""

    def show(self, view: JobView) -> None:
        """Show one view."""
        ...


async def follow(platform: ControlPlane, job: Job, say: Printer) -> JobView:
    """Show the job until it ends; returns the last view."""
    last = JobView(job, JobMetrics())
    with _display(say) as display:
        async for view in watch(platform, job):
            last = view
            display.show(view)
    return last


def facts(view: JobView) -> str:
    """One line about where the job stands."""
    run, chunks = view.job.run, view.metrics.chunks
    parts = [state_of(view.job)]
    total = run.total_steps if run else 0
    if chunks:
        parts.append(f"epoch {chunks[-1].epoch}")
    if chunks or total:
        parts.append(_step(chunks[-1].number if chunks else 0, total))
    reward = chunks[-1].mean_score if chunks else run.mean_score if run else None
    if reward is not None:
        parts.append(f"mean reward {reward:.3f}")
    if view.metrics.evaluations:
        parts.append(held_out(view.metrics.evaluations[-1]))
    return "  ".join(parts)


def held_out(event: RunEvent) -> str:
    """`held-out 0.640 [0.601, 0.678] (v12)`."""
    interval = f" [{event.low:.3f}, {event.high:.3f}]" if event.low is not None and event.high is not None else ""
    version = f" (v{event.version})" if event.version is not None else ""
    return f"held-out {event.score:.3f}{interval}{version}"


def _step(number: int, total: int) -> str:
    return f"step {number}/{total}" if total else f"step {number}"


def state_of(job: Job) -> str:
    """`RUNNING`."""
    return job.state.removeprefix(PLAIN_STATE)


def closing_lines(view: JobView) -> Iterator[str]:
    """How it ended: the curve, the final state with its reason, the first and the best held-out score."""
    rewards = [event.mean_score for event in view.metrics.chunks if event.mean_score is not None]
    if rewards:
        yield ""
        yield f"Mean reward by step ({len(rewards)} steps):"
        yield from curve(rewards)
    yield ""
    job = view.job
    message = job.status.message if job.status else ""
    if job.is_deleted:
        yield f"❌ Job {job.id} was deleted while it ran."
    else:
        yield f"{_mark(job)} Job {state_of(job)}{f': {message}' if message else ''}"
    scores = view.metrics.evaluations
    if scores:
        best = _best(scores, job.run.best_version if job.run else None)
        yield f"   First: {held_out(scores[0])}"
        yield f"   Best:  {held_out(best)}"
    for note in job.notes:
        yield f"   Note: {note if isinstance(note, str) else json.dumps(note, ensure_ascii=False)}"


def _mark(job: Job) -> str:
    if not job.is_good:
        return "❌"
    return "✅" if _made_model(job) else "•"


def _made_model(job: Job) -> bool:
    """Whether a job that ended well has a model to show: without an optimizer step there is none."""
    return job.is_good and (job.run is None or job.run.optimizer_steps != 0)


def _best(scores: list[RunEvent], version: int | None) -> RunEvent:
    """The evaluation of the version that the platform calls the best; without one, the last of the highest."""
    named = [event for event in scores if event.version == version and version is not None]
    return named[-1] if named else max(reversed(scores), key=lambda event: event.score or 0.0)


def output_model(job: Job, account: str) -> str | None:
    """Full name of the model that a job made; None when it made none."""
    if not _made_model(job):
        return None
    name = (job.training_config.output_model if job.training_config else None) or job.id
    return name if name.startswith("accounts/") else f"accounts/{account}/models/{name}"


def snippet(api_base: str, model: str, messages: list[dict[str, Any]], key_file: str | None) -> Iterator[str]:
    """Lines that call a model from a shell and from Python, with the prompt of the first row."""
    body = json.dumps({"model": model, "messages": messages, "temperature": 0}, ensure_ascii=False)
    yield "Call it from a shell:"
    yield ""
    if key_file:
        read = f"import json; print(json.load(open({key_file!r}))['api_key'])"
        yield f'  export FIREWORKS_API_KEY=$(python3 -c "{read}")'
    yield f"  curl -s {api_base}/inference/v1/chat/completions \\"
    yield '    -H "Authorization: Bearer $FIREWORKS_API_KEY" -H "Content-Type: application/json" \\'
    yield f"    -d {shlex.quote(body)}"
    yield ""
    yield "or with the openai client:"
    yield ""
    yield "  import os"
    yield "  from openai import OpenAI"
    yield f'  client = OpenAI(base_url="{api_base}/inference/v1", api_key=os.environ["FIREWORKS_API_KEY"])'
    yield f"  answer = client.chat.completions.create(model={model!r}, temperature=0,"
    yield f"                                          messages={messages!r})"
    yield "  print(answer.choices[0].message.content)"


@contextmanager
def _display(say: Printer) -> Iterator[Display]:
    if not say.is_terminal:
        yield LineDisplay(say)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=say.as_json), refresh_per_second=4, transient=True) as live:
        yield LiveDisplay(live.update)


@dataclass
class LineDisplay:
    """For logs: a line per step, per held-out score and per change of state; nothing is redrawn."""

    say: Printer
    shown_steps: int = 0
    shown_scores: int = 0
    last: str = ""
    state: str = ""

    def show(self, view: JobView) -> None:
        """Print what is new since the last view."""
        total = view.job.run.total_steps if view.job.run else 0
        if (state := state_of(view.job)) != self.state and not view.job.is_final:
            self.state = state
            self.say(
                f"⏳ {state}{f': {view.job.status.message}' if view.job.status and view.job.status.message else ''}"
            )
        chunks = view.metrics.chunks
        for event in chunks[self.shown_steps :]:
            self.say(self._line(event, total))
        self.shown_steps = len(chunks)
        scores = view.metrics.evaluations
        for event in scores[self.shown_scores :]:
            self.say(f"   after {event.step} steps  {held_out(event)}")
        self.shown_scores = len(scores)
        if view.trouble and view.trouble != self.last:
            self.say(f"Warning: {view.trouble} The job goes on; trying again.", err=True)
        self.last = view.trouble

    @staticmethod
    def _line(event: RunEvent, total: int) -> str:
        reward = "no valid score" if event.mean_score is None else f"mean reward {event.mean_score:.3f}"
        groups = f"{event.kept_groups} of {event.groups} groups used"
        invalid = f", {event.invalid} invalid" if event.invalid else ""
        return f"   epoch {event.epoch}  {_step(event.number, total)}  {reward}  {groups}{invalid}"


@dataclass
class LiveDisplay:
    """For people: bar, figures and curve, redrawn in place."""

    update: Any
    """Takes what rich can draw."""
    width: int = field(default=60)

    def show(self, view: JobView) -> None:
        """Redraw."""
        self.update(self.picture(view))

    def picture(self, view: JobView) -> RenderableType:
        """What is on the screen for one view."""
        from rich.console import Group
        from rich.padding import Padding
        from rich.progress_bar import ProgressBar
        from rich.text import Text

        run, progress = view.job.run, view.job.job_progress
        percent = progress.percent if progress else 0
        done, total = (len(view.metrics.chunks), run.total_steps) if run and run.total_steps else (percent, 100)
        rewards = [event.mean_score for event in view.metrics.chunks if event.mean_score is not None]
        lines: list[RenderableType] = [
            Text(facts(view), style="bold"),
            Padding(ProgressBar(total=max(total, 1), completed=done, width=self.width + 7), 0),  # a bar ends no line
        ]
        if rewards:
            lines += [Text(line, style="green") for line in curve(rewards, self.width)]
        lines += [
            Text(f"{held_out(event)} after {event.step} steps", style="cyan") for event in view.metrics.evaluations[-3:]
        ]
        if view.trouble:
            lines.append(Text(f"{view.trouble} The job goes on; trying again.", style="yellow"))
        lines.append(Text("Ctrl-C stops watching; the job goes on.", style="dim"))
        return Group(*lines)
