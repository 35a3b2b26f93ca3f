"""One chat call, prepared: who asks what of which model, with which prompt ids and which sampling in effect."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tunesmith.db.completions import CorrelationIds
from tunesmith.gateway.admission import Admission
from tunesmith.gateway.auth import Key
from tunesmith.gateway.clock import now, record_id
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.models import LivePolicy, Models, Target
from tunesmith.gateway.requests import ChatRequest, ParsedChat, template_variables
from tunesmith.gateway.rollouts import Conversation, Rollouts, Turn, noise_name, noise_seed
from tunesmith.rendering.messages import normalize_messages

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Sampling:
    """Sampling as the engine is told; what a live policy's job decided is in it already."""

    temperature: float
    top_p: float
    top_k: int
    max_tokens: int
    stop: list[str]
    seed: int | None
    n: int
    top_logprobs: int


@dataclass(frozen=True)
class Call:
    """Everything about one call but its answer."""

    id: str
    started: float
    """Unix seconds."""
    begun: float
    """The same by the monotonic clock, for its latency."""
    key: Key
    ids: CorrelationIds
    job: str | None
    target: Target
    chat: ChatRequest
    body: dict[str, Any]
    conversation: Conversation
    prompt_ids: list[int]
    sampling: Sampling
    turn: Turn | None
    notes: dict[str, Any]
    """Recorded beside the sampling parameters: the dialect, options without effect."""

    @property
    def engine_body(self) -> dict[str, Any]:
        """The body of `/generate`; the adapter's name is added where the engine is called."""
        return {"request_id": self.id, "prompt_ids": self.prompt_ids, "stream": self.chat.stream, **vars(self.sampling)}


class Calls:
    """Prepares calls: checks the rules of live policies, renders, counts the turn."""

    def __init__(self, models: Models, rollouts: Rollouts, admission: Admission) -> None:
        self._models = models
        self._admission = admission
        self._rollouts = rollouts
        self._noted_overrides: set[tuple[str, str]] = set()

    async def prepare(self, key: Key, ids: CorrelationIds, parsed: ParsedChat) -> Call:
        """Prepare a call. Whoever gets it must end its turn (`Call.turn.end`).

        Raises InvalidArgument (BadRequest) for what cannot be carried out, NotFound, Gone or PermissionDenied for the model.
        """
        chat = parsed.chat
        target = await self._models.target(chat.model, key)
        _check_policy_rules(target, chat, ids)
        conversation = _conversation(target, chat)
        job = target.policy.job if target.policy else key.job
        await self._admission.admit(key, job, ids.rollout_id)
        turn = await self._rollouts.begin((key.account, job, ids.rollout_id)) if ids.rollout_id else None
        try:
            prompt_ids = _prompt_ids(target, conversation, turn)
            number = turn.number if turn else 0
            return Call(
                id=f"{parsed.id_prefix}{record_id()}",
                started=now(),
                begun=time.monotonic(),
                key=key,
                ids=ids,
                job=job,
                target=target,
                chat=chat,
                body=parsed.body,
                conversation=conversation,
                prompt_ids=prompt_ids,
                sampling=self._sampling(target, chat, ids, number, len(prompt_ids)),
                turn=turn,
                notes=_notes(parsed),
            )
        except BaseException:
            if turn:
                turn.end(used=False)
            raise

    def _sampling(self, target: Target, chat: ChatRequest, ids: CorrelationIds, turn: int, prompt: int) -> Sampling:
        asked = chat.token_limit or target.base.entry.inference_max_tokens
        values: dict[str, Any] = {
            "temperature": chat.temperature,
            "top_p": chat.top_p,
            "top_k": max(0, chat.top_k),
            "max_tokens": asked,
            "stop": chat.stops,
            "seed": _seed(chat, ids, turn),
        }
        policy, context = target.policy, target.context_length
        if policy is not None:
            job_values = {"top_p": 1.0, "top_k": 0, **policy.sampling}
            rollout = noise_name(ids.rollout_id or "", policy.job, job_values.pop("noise_job", None))
            job_values["seed"] = noise_seed(policy.seed, rollout, turn)
            context = min(context, job_values.pop("max_context_length", context))
            self._note_overrides(policy, chat, job_values)
            values.update(job_values)
        values["max_tokens"] = _fit(values["max_tokens"], prompt, context, target.name, chat)
        return Sampling(**values, n=chat.n, top_logprobs=chat.alternatives)

    def _note_overrides(self, policy: LivePolicy, chat: ChatRequest, job_values: dict[str, Any]) -> None:
        """Say once per job and option that the job's value is used instead of the agent's."""
        readers: dict[str, Callable[[], Any]] = {"max_tokens": lambda: chat.token_limit, "stop": lambda: chat.stops}
        sent = chat.model_fields_set | ({"max_tokens"} if chat.token_limit else set())
        for name in sent & job_values.keys():
            value = readers.get(name, lambda name=name: getattr(chat, name))()
            if value != job_values[name] and (policy.job, name) not in self._noted_overrides:
                self._noted_overrides.add((policy.job, name))
                log.info(
                    "Job %s samples with its own %s; what its agents set (%r) has no effect.", policy.job, name, value
                )


def _seed(chat: ChatRequest, ids: CorrelationIds, turn: int) -> int | None:
    """Of the noise: the caller's; else the rollout's, so that an evaluation that was cut goes on as it would have; else none."""
    if chat.seed is not None:
        return chat.seed % 2**64
    return noise_seed(0, ids.rollout_id, turn) if ids.rollout_id else None


def _notes(parsed: ParsedChat) -> dict[str, Any]:
    ignored = [*parsed.notes.get("ignored", ()), *parsed.chat.ignored]
    return {"dialect": parsed.dialect, **parsed.notes, **({"ignored": ignored} if ignored else {})}


def _check_policy_rules(target: Target, chat: ChatRequest, ids: CorrelationIds) -> None:
    if target.policy is None:
        return
    if not ids.rollout_id:
        raise BadRequest(
            f"{target.name} is the live policy of job {target.policy.job}: each call must say which rollout it belongs to. "
            "Use the base URL that the rollout was given (…/rollout_id/{id}/…), or call the promoted model.",
            "model",
            "rollout_id_required",
        )
    if chat.n > 1:
        raise BadRequest(
            f"n = {chat.n}: a call to a live policy samples one completion; its job asks for several rollouts instead.",
            "n",
            "unsupported_parameter",
        )


def _conversation(target: Target, chat: ChatRequest) -> Conversation:
    mentions = target.base.renderer.mentions
    return Conversation(normalize_messages(chat.messages), chat.offered_tools, template_variables(chat, mentions))


def _prompt_ids(target: Target, conversation: Conversation, turn: Turn | None) -> list[int]:
    renderer = target.base.renderer
    if turn is not None:
        return turn.prompt_ids(target.base.entry.name, conversation, renderer)
    return renderer.render(conversation.messages, conversation.tools, **conversation.variables)


def _fit(asked: int, prompt: int, context: int, model: str, chat: ChatRequest) -> int:
    """The completion length that fits behind the prompt."""
    room = context - prompt
    if room < 1:
        raise BadRequest(
            f"The prompt has {prompt} tokens; {model} holds {context}, prompt and completion together. "
            "Shorten the messages.",
            "messages",
            "context_length_exceeded",
        )
    if asked > room and chat.context_length_exceeded_behavior == "error":
        raise BadRequest(
            f"The prompt has {prompt} tokens and max_tokens is {asked}; {model} holds {context} together. "
            "Lower max_tokens, or leave context_length_exceeded_behavior at 'truncate'.",
            "max_tokens",
            "context_length_exceeded",
        )
    return min(asked, room)
