"""The Engine API's bodies (`docs/reference/seams.md`). Strict: a wrong type, range or unknown field is an error."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.errors import InvalidArgument

NEIGHBOUR_INDEPENDENT_NOISE = "neighbour_independent_noise"
"""Capability: a candidate's ids do not depend on what else runs (noise is a function of seed, index and position)."""
NEIGHBOUR_INDEPENDENT_LOGPROBS = "neighbour_independent_logprobs"
"""Capability: its log-probabilities do not either, bit for bit. Claimed only after a trial at the start."""
SHARED_PREFILL = "shared_prefill"
"""Capability: equal prompts of calls at one time are prefilled once, whatever their length; `cached_tokens` says so."""

StopString = Annotated[str, Field(min_length=1, max_length=256)]


class Body(BaseModel):
    """Base of the request bodies."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


BodyT = TypeVar("BodyT", bound=Body)


class GenerateRequest(Body):
    """`POST /generate`."""

    request_id: str | None = Field(default=None, min_length=1, max_length=256)
    """Name for `/abort`; unique among running requests."""
    model: str | None = None
    """Adapter name; None = the base."""
    prompt_ids: list[int] = Field(min_length=1)
    n: int = Field(default=1, ge=1, le=256)
    """Candidates; they share one prefill."""
    max_tokens: int = Field(ge=1)
    """Most tokens a candidate may have, stop id included; cut to what the context leaves."""
    temperature: float = Field(default=1.0, ge=0, le=10)
    """0 = greedy; below 0.01 is refused, since the scaled logits would leave fp32."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    """0 = the whole vocabulary. Applied before top_p."""
    stop: list[StopString] = Field(default=[], max_length=16)
    seed: int | None = Field(default=None, ge=0, lt=2**64)
    """None: the engine draws one."""
    top_logprobs: int = Field(default=0, ge=0, le=5)
    stream: bool = True
    """False: only the final event of each candidate, with everything in it."""


class ScoreRequest(Body):
    """`POST /score`."""

    model: str | None = None
    token_ids: list[int] = Field(min_length=2)


class LoadRequest(Body):
    """`POST /load`."""

    name: str = Field(min_length=1, max_length=512)
    path: str = Field(min_length=1)


class UnloadRequest(Body):
    """`POST /unload`."""

    name: str


class AbortRequest(Body):
    """`POST /abort`."""

    request_id: str


class AdapterInfo(BaseModel):
    """A loaded adapter."""

    name: str
    sha256: str


class EngineInfo(BaseModel):
    """`GET /info`."""

    base_model: str
    context_length: int
    vocab_size: int
    dtype: str
    adapters: list[AdapterInfo]
    capabilities: list[str]
    pid: int


def parse(kind: type[BodyT], content: bytes) -> BodyT:
    """Read a JSON body. Raises InvalidArgument naming each wrong field."""
    try:
        return kind.model_validate_json(content)
    except ValidationError as error:
        problems = [
            f"{'.'.join(str(part) for part in problem['loc']) or 'body'}: {problem['msg']}"
            for problem in error.errors(include_url=False, include_input=False)[:5]
        ]
        raise InvalidArgument(f"The request body is not valid: {'; '.join(problems)}.") from error
