"""One RFT run, top to bottom: publish, evaluate, roll out, group, seal, and wait for the next policy version.

Staleness: batch k is sampled from version k - max_staleness or newer. At 0 the loop waits for version k before chunk k; above 0
rollouts overlap with training, with no other change. Before each chunk, and while paused, it looks at what a person asks of the run
(`runs/control.py`).
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

from tunesmith.errors import FailedPrecondition
from tunesmith.evaluators.client import HostClient
from tunesmith.orchestrator.curated import Stopwatch, curated
from tunesmith.orchestrator.deadlines import GroupDeadline
from tunesmith.orchestrator.evaluation import best_version, interval
from tunesmith.orchestrator.gateway import Gateway
from tunesmith.orchestrator.groups import ScoredRollout, commonest_reasons, group, seal
from tunesmith.orchestrator.preflight import SOLVED, Baseline, chosen_rows, figures, no_valid_score
from tunesmith.orchestrator.publish import publish
from tunesmith.orchestrator.record import Record, RunState
from tunesmith.orchestrator.rolling import Roller, RolloutPlan, mean_score
from tunesmith.orchestrator.rows import Rows
from tunesmith.orchestrator.schedule import Chunk, chunks
from tunesmith.runs.config import RunConfig
from tunesmith.runs.control import Control, InForce, version_number
from tunesmith.runs.files import adapter_path, batch_path, write_atomic
from tunesmith.runs.held_out import comparable

POLL_SECONDS = 0.02
LONGEST_POLL_SECONDS = 0.25
POLL_SHARE = 0.02
"""An adapter is looked for the less often the longer it has been waited for, so that it is found at most this share of the time late."""
PAUSED_POLL_SECONDS = 0.2
"""How often a paused run looks whether it may go on."""


class Run:
    """The state of one run: its configuration, its clients, and its record on disk."""

    def __init__(self, run_dir: Path, config: RunConfig, gateway: Gateway, record: Record) -> None:
        self.run_dir = run_dir
        self.config = config
        self.gateway = gateway
        self.record = record
        self.roller = Roller(HostClient(config.host_socket), gateway, self.record, config.max_concurrent_rollouts)
        self.rows = Rows(config.dataset)
        self.held_out = Rows(config.evaluation.dataset) if config.evaluation.dataset else None
        self.chunks = chunks(
            len(self.rows),
            epochs=config.epochs,
            chunk_size=config.chunk_size,
            shuffle=config.shuffle,
            seed=config.seed,
        )
        self.left_over = sorted(record.published)[-(config.max_staleness + 2) :]
        """Versions that an earlier process of this run may have left live."""
        self.control = InForce.of(config, record.events)
        """What chunks are rolled out and scored with. The rollouts of a chunk that was begun belong to it: it ends as it began."""
        self.roller.use(self.host(self.control.evaluator_version, Control.read(run_dir)))
        self.deadline = (
            GroupDeadline(config.group_deadline_seconds, config.group_quorum)
            if config.group_deadline_seconds is not None and config.group_quorum is not None
            else None
        )
        """When a group goes on without its stragglers."""
        self.live: list[int] = []
        """Versions that the gateway serves, oldest first."""
        self.spent = Stopwatch()
        """Where the time of the chunk in progress goes."""

    async def train(self) -> RunState:
        """Run to the end. Raises TunesmithError with the cause of a failure; the caller writes it to status.json."""
        self.record.update(total_steps=len(self.chunks), message="", control=self.shown_control())
        await self.reach(0)
        await self.preflight()
        if self.config.preflight.only:
            return await self.finish(0, RunState.COMPLETED)
        step, informative = 0, False
        for chunk in self.chunks:
            event = self.record.finished_chunks.get(chunk.index)
            if event is None:
                begun = bool(self.record.recorded(self.invocation(chunk)))
                if not begun:
                    self.take_control(chunk, step)
                newest = await self.reach(max(0, step - self.config.max_staleness))
                if not begun:
                    await self.while_paused(chunk, step)
                event = await self.roll_out(chunk, step, newest)
            step += event["sealed"]
            informative = informative or bool(event["sealed"])
            if chunk.last_of_epoch:
                if not informative:
                    return await self.finish(step, RunState.EARLY_STOPPED)
                informative = False
        return await self.finish(step, RunState.COMPLETED)

    async def preflight(self) -> None:
        """Roll out a few rows with version 0, once, and say what they promise. Raises FailedPrecondition when no score is valid."""
        config, wanted = self.config, self.config.preflight
        if not wanted.rows or self.record.preflight is not None or self.record.finished_chunks:
            return
        self.record.update(message="preflight: rolling out a few rows before the first step")
        invocation, started = f"{config.job}-preflight", time.monotonic()
        anew = not self.record.recorded(invocation)
        rows = {index: self.rows[index] for index in chosen_rows(len(self.rows), wanted.rows, config.seed)}
        rollouts = await self.roller.roll(
            RolloutPlan(
                kind="preflight",
                invocation_id=invocation,
                prefix=f"{config.job}-p",
                rows=rows,
                n=config.n,
                version=0,
                model=config.policy_name(0),
                completion_params=self.completion_params(),
                labels={"chunk": None, "step": 0, "epoch": 0},
                deadline=self.deadline,
            )
        )
        seconds = time.monotonic() - started if anew else None
        if failure := no_valid_score(rollouts):
            raise FailedPrecondition(failure)
        baselines = [Baseline(each, await self.baseline(each, rows, rollouts)) for each in wanted.temperatures]
        threshold = await self.roller.passed_threshold()
        event = self.record.event(
            "preflight",
            step=0,
            version=0,
            **figures(
                rollouts,
                config,
                threshold=threshold if threshold is not None else SOLVED,
                seconds=seconds,
                total_rollouts=len(self.rows) * config.epochs * config.n,
                baselines=baselines,
            ),
        )
        self.record.preflight = event
        left_out = ("kind", "by_row", "time")
        self.record.update(message="", preflight={name: value for name, value in event.items() if name not in left_out})

    async def baseline(
        self, temperature: float, rows: dict[int, dict[str, Any]], sampled: list[ScoredRollout]
    ) -> list[ScoredRollout]:
        """The base model on the preflight's rows at a temperature; `sampled` are those at the job's own. At 0 one rollout a row says all."""
        config = self.config
        if temperature == config.sampling.temperature:
            return sampled
        name = f"{temperature:g}".replace(".", "p")
        plan = RolloutPlan(
            kind="baseline",
            invocation_id=f"{config.job}-baseline-{name}",
            prefix=f"{config.job}-b{name}",
            rows=rows,
            n=config.n if temperature else 1,
            version=0,
            model=config.base_model.name,
            completion_params={**self.completion_params(), "temperature": temperature},
            labels={"chunk": None, "step": 0, "epoch": 0},
        )
        return await self.roller.roll(plan)

    def take_control(self, chunk: Chunk, step: int) -> None:
        """Put in force what was asked for since the last look, and record it before anything is done with it."""
        control = Control.read(self.run_dir)
        new = self.control.take(control, self.config, chunk=chunk.index, step=step)
        if new is self.control:
            return
        if new.evaluator_version != self.control.evaluator_version:
            self.roller.use(self.host(new.evaluator_version, control))
        self.control = new
        self.record.event("control", **new.event())
        self.record.update(control=self.shown_control())

    async def while_paused(self, chunk: Chunk, step: int) -> None:
        """Wait until the run may go on. What is asked for meanwhile counts at once: the chunk has not begun."""
        self.take_control(chunk, step)
        if not self.control.paused:
            return
        self.record.update(message=f"paused before step {step}")
        while self.control.paused:
            await asyncio.sleep(PAUSED_POLL_SECONDS)
            self.take_control(chunk, step)
        self.record.update(message="")

    def host(self, version: str, control: Control) -> HostClient:
        """The evaluator host of a version. Raises FailedPrecondition when nobody says where it listens."""
        socket = control.hosts.get(version)
        if socket is None and version not in ("", self.config.evaluator_version):
            raise FailedPrecondition(
                f"control.json names no evaluator host of version {version}. Start one, and write its socket under `hosts`."
            )
        return HostClient(socket or self.config.host_socket)

    def shown_control(self) -> dict[str, Any]:
        """What is in force, for status.json."""
        return self.control.event()

    def invocation(self, chunk: Chunk) -> str:
        """Invocation id of a chunk's rollouts."""
        return f"{self.config.job}-epoch-{chunk.epoch}-chunk-{chunk.index}"

    async def roll_out(self, chunk: Chunk, step: int, newest: int) -> dict[str, Any]:
        """One chunk: rollouts, scores, groups, and a sealed batch if anything can be learned from it.

        A chunk that an earlier process began goes on with the version it began with, so that its rollouts are reused.
        """
        config, started = self.config, time.monotonic()
        invocation = self.invocation(chunk)
        begun = self.record.recorded(invocation)
        version = begun[-1]["version"] if begun else newest
        if not batch_path(
            self.run_dir, step
        ).exists():  # sealed: every rollout is recorded, nothing is asked of the policy
            await self.serve(version)
        plan = RolloutPlan(
            kind="train",
            invocation_id=invocation,
            prefix=f"{config.job}-c{chunk.index}",
            rows={index: self.rows[index] for index in chunk.rows},
            n=config.n,
            version=version,
            model=config.policy_name(version),
            completion_params=self.completion_params(),
            labels={"chunk": chunk.index, "step": step, "epoch": chunk.epoch},
            deadline=self.deadline,
        )
        with self.spent.timing("rollout"):
            rollouts = await self.roller.roll(plan)
        ended = [rollout for rollout in rollouts if not rollout.straggler]
        invalid = [rollout for rollout in ended if not rollout.is_score_valid]
        if len(invalid) * 2 > len(ended):
            raise FailedPrecondition(
                f"{len(invalid)} of {len(ended)} rollouts of chunk {chunk.index} have no valid score: "
                f"{commonest_reasons(ended)}. Run the evaluator with `ep local-test` on these rows."
            )
        grouped, figures = group(rollouts), curated(rollouts)
        if any(rollout.sequences for members in grouped.kept for rollout in members):
            seal(
                grouped,
                step=step,
                epoch=chunk.epoch,
                temperature=config.sampling.temperature,
                learning_rate=self.control.learning_rate,
                evaluator=self.control.evaluator_version,
            ).write(batch_path(self.run_dir, step))
            sealed = 1
        else:
            sealed = 0
        mean = mean_score(rollouts)
        event = self.record.event(
            "chunk",
            chunk=chunk.index,
            step=step,
            epoch=chunk.epoch,
            version=version,
            sealed=sealed,
            learning_rate=self.control.learning_rate,
            evaluator_version=version_number(self.control.evaluator_version),
            mean_score=mean,
            rollouts=len(rollouts),
            invalid=len(invalid),
            stragglers=len(rollouts) - len(ended),
            kept_groups=len(grouped.kept),
            constant_groups=grouped.constant,
            dropped_groups=grouped.dropped,
            completion_tokens=_completion_tokens(rollouts),
            seconds=round(time.monotonic() - started, 3),
            **figures,
            **self.spent.read(),
        )
        self.record.update(
            epoch=chunk.epoch,
            step=step + sealed,
            mean_score=mean,
            percent=min(99, 100 * (chunk.index + 1) // len(self.chunks)),
        )
        return event

    async def reach(self, version: int) -> int:
        """Wait for policy version `version` or newer, publish all that is there, evaluate on the way; returns the newest."""
        started, since = time.monotonic(), time.strftime("%H:%M:%S", time.gmtime())
        with self.spent.timing("wait"):
            awaited = adapter_path(self.run_dir, version)
            while not os.path.exists(awaited):
                waited = time.monotonic() - started
                if waited > 10 and not self.record.status.message:
                    message = f"waiting for policy version {version} from the learner since {since} UTC"
                    self.record.update(message=message)
                await asyncio.sleep(min(LONGEST_POLL_SECONDS, max(POLL_SECONDS, POLL_SHARE * waited)))
        if self.record.status.message:
            self.record.update(message="")
        while adapter_path(self.run_dir, version + 1).exists():
            version += 1
        await self.serve(version)
        # Above staleness 0 versions may pass unserved: what is due is the first version served from every multiple on.
        every = self.config.evaluation.every_steps
        if not any(evaluated >= version // every * every for evaluated in self.record.evaluations):
            await self.evaluate(version)
        return version

    async def serve(self, version: int) -> None:
        """Have the gateway serve a version, proven by hash and canary; the oldest beyond the staleness bound is retired."""
        if version in self.live:
            return
        baseline = self.record.published.get(0, {}).get("canary", 0.0)
        with self.spent.timing("publish"):
            difference = await publish(self.config, self.run_dir, version, self.gateway, baseline)
        if version not in self.record.published:
            self.record.event("version", version=version, canary=difference)
        self.live = sorted([*self.live, version])
        self.record.update(version=self.live[-1], optimizer_steps=self.live[-1])
        outdated = [old for old in self.left_over if old != version]
        self.left_over = []
        while len(self.live) > self.config.max_staleness + 1:
            outdated.append(self.live.pop(0))
        for old in outdated:
            await self.gateway.retire(self.config.policy_name(old))

    async def evaluate(self, version: int) -> None:
        """Score version `version` on at most `evaluation.max_rows` held-out rows, once."""
        config = self.config.evaluation
        if self.held_out is None or version in self.record.evaluations or self.config.preflight.only:
            return
        rows = self.held_out.first(config.max_rows)
        plan = RolloutPlan(
            kind="evaluation",
            invocation_id=f"{self.config.job}-evaluation-{version}",
            prefix=f"{self.config.job}-e{version}",
            rows=rows,
            n=1,
            version=version,
            model=self.config.policy_name(version),
            completion_params=self.completion_params(),
            labels={"chunk": None, "step": version, "epoch": self.record.status.epoch},
        )
        with self.spent.timing("evaluation"):
            rollouts = await self.roller.roll(plan)
        scores = [rollout.score for rollout in rollouts if rollout.is_score_valid and rollout.score is not None]
        if not scores:
            raise FailedPrecondition(
                f"No held-out rollout of version {version} has a valid score: {commonest_reasons(rollouts)}."
            )
        low, high = interval(scores)
        self.record.event(
            "evaluation",
            step=version,
            version=version,
            score=sum(scores) / len(scores),
            low=low,
            high=high,
            n=len(scores),
            invalid=len(rollouts) - len(scores),
            evaluator_version=version_number(self.control.evaluator_version),
        )
        found = comparable(self.record.evaluations.values())
        best = best_version({version: event["score"] for version, event in found.items()})
        if best is not None:
            self.record.update(best_version=best, best_score=self.record.evaluations[best]["score"])

    async def finish(self, step: int, state: RunState) -> RunState:
        """Tell the learner that no batch follows, wait for the last version, evaluate it, and choose what is promoted."""
        write_atomic(self.run_dir / "batches" / "END", str(step))
        last = await self.reach(step)
        if step:
            await self.evaluate(last)
        best = self.record.status.best_version or (last or None)
        for version in self.live:
            await self.gateway.retire(self.config.policy_name(version))
        message = "" if state is RunState.COMPLETED else "a full epoch had no group whose scores differ"
        self.record.update(state=state, message=message, percent=100, best_version=best, step=step)
        return state

    def completion_params(self) -> dict[str, Any]:
        """What the evaluator's processor is told to sample with; the gateway enforces the same on the live policy."""
        sampling = self.config.sampling
        params: dict[str, Any] = {"temperature": sampling.temperature, "max_tokens": sampling.max_tokens}
        return {**params, "stop": sampling.stop} if sampling.stop else params


def _completion_tokens(rollouts: list[ScoredRollout]) -> float | None:
    """Mean sampled tokens of a rollout, over those with tokens."""
    counts = [sum(sum(s.sampled) for s in rollout.sequences) for rollout in rollouts if rollout.sequences]
    return round(sum(counts) / len(counts), 2) if counts else None
