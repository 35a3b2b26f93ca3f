"""What the gateway knows of each rollout while it runs: how many calls it made, and what was sampled in them.

Turns are counted here, not by the client, because sampling noise depends on them. A second turn continues the recorded ids of the
first one, so that what the model said is never tokenized again. All of it can be read back from the store after a restart.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from tunesmith.db.completions import Completion, CompletionStatus, CompletionStore
from tunesmith.gateway.requests import parse_chat
from tunesmith.rendering import Renderer
from tunesmith.rendering.messages import normalize_messages, same_assistant_message, same_history

KEPT_ROLLOUTS = 4096
"""Rollouts in memory. An older one that calls again is read from the store."""
KEPT_PROMPTS = 256
LONGEST_KEPT_PROMPT = 65_536
"""Bytes of a conversation whose prompt is kept: together they hold a few megabytes."""
PROMPT_SECONDS = 10.0
"""For so long a rendered prompt is used again: templates may write the time of day into it."""
_ATTEMPT = re.compile(r"(-a\d+)?(-t\d+)?$")
"""What tells the attempts of one rollout apart: the platform's number, then that of a new try inside the SDK."""

RolloutKey = tuple[str, str | None, str]
"""(account, job, rollout id)."""


@dataclass(frozen=True)
class Conversation:
    """What a prompt is rendered from, in the form that templates read."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    variables: dict[str, Any]


@dataclass(frozen=True)
class RecordedTurn:
    """One completed candidate of an earlier call."""

    model: str
    conversation: Conversation
    message: dict[str, Any]
    prompt_ids: list[int]
    sampled_ids: list[int]


@dataclass
class _Rollout:
    next_turn: int = 0
    in_flight: int = 0
    turns: list[RecordedTurn] = field(default_factory=list)


class _Prompts:
    """Prompts rendered a moment ago: the rollouts of a group all begin with the same one."""

    def __init__(self) -> None:
        self._kept: OrderedDict[tuple[int, bytes], tuple[Renderer, float, list[int]]] = OrderedDict()
        """By the renderer's identity, which is its own as long as it is kept here, and the conversation."""

    def render(self, conversation: Conversation, renderer: Renderer) -> list[int]:
        """The ids of a conversation's prompt."""
        try:
            text = msgspec.json.encode((conversation.messages, conversation.tools, conversation.variables))
        except (TypeError, ValueError, OverflowError):  # half a surrogate pair, say
            text = b""
        key, now = (id(renderer), text), time.monotonic()
        kept = self._kept.get(key)
        if kept is not None and now - kept[1] < PROMPT_SECONDS:
            return kept[2].copy()
        ids = renderer.render(conversation.messages, conversation.tools, **conversation.variables)
        if 0 < len(text) <= LONGEST_KEPT_PROMPT:
            self._kept[key] = renderer, now, ids.copy()
            self._kept.move_to_end(key)
            if len(self._kept) > KEPT_PROMPTS:
                self._kept.popitem(last=False)
        return ids


class Turn:
    """One call of a rollout, from its start to its record."""

    def __init__(self, rollout: _Rollout, number: int, prompts: _Prompts, ended: Callable[[], None]) -> None:
        self._rollout = rollout
        self._prompts = prompts
        self._ended = ended
        self.number = number

    def prompt_ids(self, base_model: str, conversation: Conversation, renderer: Renderer) -> list[int]:
        """The prompt: behind the longest recorded turn that the conversation continues, else rendered anew.

        Of turns that say the same the newest counts: a call that was made again replaces the one before.
        """
        recorded = sorted(self._rollout.turns, key=lambda turn: len(turn.conversation.messages))
        for turn in reversed(recorded):
            if turn.model == base_model and _continues(turn, conversation):
                ids = renderer.continue_turn(
                    conversation.messages,
                    len(turn.conversation.messages),
                    turn.prompt_ids,
                    turn.sampled_ids,
                    conversation.tools,
                    **conversation.variables,
                )
                if ids is not None:
                    return ids
        return self._prompts.render(conversation, renderer)

    def record(self, turn: RecordedTurn) -> None:
        """Remember a completed candidate for the turns to come."""
        self._rollout.turns.append(turn)

    def end(self, used: bool) -> None:
        """The call is over. Without any record of it its number is free again, unless a later call took the next one."""
        self._rollout.in_flight -= 1
        self._ended()
        if not used and self._rollout.next_turn == self.number + 1:
            self._rollout.next_turn = self.number


class Rollouts:
    """Rollouts by (account, job, rollout id), the least recently used ones dropped from memory."""

    def __init__(self, store: CompletionStore) -> None:
        self._store = store
        self._prompts = _Prompts()
        self._rollouts: OrderedDict[RolloutKey, asyncio.Task[_Rollout]] = OrderedDict()
        self._in_flight: dict[RolloutKey, int] = {}
        self._idle: dict[RolloutKey, set[asyncio.Future[None]]] = {}

    async def begin(self, key: RolloutKey) -> Turn:
        """Take the next turn number of a rollout."""
        task = self._rollouts.get(key)
        if task is None:
            task = self._rollouts[key] = asyncio.create_task(self._load(key))
        self._rollouts.move_to_end(key)
        try:
            rollout = await asyncio.shield(task)
        finally:
            if task.done() and (task.cancelled() or task.exception() is not None):
                self._rollouts.pop(key, None)  # the next call reads the store again
        turn = Turn(rollout, rollout.next_turn, self._prompts, functools.partial(self._end, key))
        self._in_flight[key] = self._in_flight.get(key, 0) + 1
        rollout.next_turn += 1
        rollout.in_flight += 1
        if len(self._rollouts) > KEPT_ROLLOUTS + KEPT_ROLLOUTS // 8:  # now and then, not on every call
            self._drop_old()
        return turn

    def forget(self, key: RolloutKey) -> None:
        """Let go of a rollout that takes no more calls: its conversations would fill the memory of a long run."""
        task = self._rollouts.get(key)
        if task is not None and _unused(task):
            del self._rollouts[key]

    async def idle(self, account: str | None, job: str | None, rollout_id: str, timeout: float) -> bool:
        """Wait until no call of a rollout is in flight; False when one still is after `timeout` seconds. None stands for all."""
        deadline = asyncio.get_running_loop().time() + timeout
        while True:
            busy = [
                key
                for key in self._in_flight
                if key[2] == rollout_id and account in (None, key[0]) and job in (None, key[1])
            ]
            left = deadline - asyncio.get_running_loop().time()
            if not busy or left <= 0:
                return not busy
            ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            waiting = self._idle.setdefault(busy[0], set())
            waiting.add(ended)
            try:
                await asyncio.wait([ended], timeout=left)
            finally:
                waiting.discard(ended)

    def _end(self, key: RolloutKey) -> None:
        self._in_flight[key] -= 1
        if self._in_flight[key] == 0:
            del self._in_flight[key]
            for waiter in self._idle.pop(key, ()):
                if not waiter.done():
                    waiter.set_result(None)

    async def _load(self, key: RolloutKey) -> _Rollout:
        account, job, rollout_id = key
        if not self._store.knows(rollout_id):
            return _Rollout()  # most rollouts: new
        recorded = await asyncio.to_thread(self._store.of_rollout, rollout_id, account, job)
        recorded = [completion for completion in recorded if completion.job == job]
        rollout = _Rollout(next_turn=max((completion.turn + 1 for completion in recorded), default=0))
        for completion in recorded:
            if completion.status is CompletionStatus.COMPLETE and completion.prompt_ids:  # passed on: nothing to splice
                rollout.turns.append(_recall(completion))
        return rollout

    def _drop_old(self) -> None:
        for key in list(self._rollouts)[: max(0, len(self._rollouts) - KEPT_ROLLOUTS)]:
            if _unused(self._rollouts[key]):
                del self._rollouts[key]


def _unused(task: asyncio.Task[_Rollout]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None and task.result().in_flight == 0


def noise_seed(policy_seed: int, rollout_id: str, turn: int) -> int:
    """The seed (uint64) of a call to a live policy. A repeated attempt of a rollout draws the same noise as the first one."""
    text = f"{policy_seed}/{_ATTEMPT.sub('', rollout_id, count=1)}/{turn}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def noise_name(rollout_id: str, job: str, noise_job: str | None) -> str:
    """The rollout id that noise is drawn from: with `noise_job`, that of the same rollout in the job that this one came from."""
    own = f"{job}-"
    return f"{noise_job}-{rollout_id.removeprefix(own)}" if noise_job and rollout_id.startswith(own) else rollout_id


def _recall(completion: Completion) -> RecordedTurn:
    """A recorded turn from its row."""
    chat = parse_chat(completion.request).chat
    conversation = Conversation(
        normalize_messages(chat.messages), chat.offered_tools, completion.params.get("template_variables") or {}
    )
    return RecordedTurn(
        completion.base_model, conversation, completion.message, completion.prompt_ids, completion.sampled_ids
    )


def _continues(turn: RecordedTurn, conversation: Conversation) -> bool:
    past: Sequence[dict[str, Any]] = turn.conversation.messages
    return (
        len(past) < len(conversation.messages)
        and turn.conversation.tools == conversation.tools
        and turn.conversation.variables == conversation.variables
        and same_history(past, conversation.messages[: len(past)])
        and same_assistant_message(turn.message, conversation.messages[len(past)])
    )
