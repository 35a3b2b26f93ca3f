"""The body of a chat call: read, checked, and every option either takes effect, is known to have none, or is refused by name."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from tunesmith.errors import InvalidArgument
from tunesmith.gateway.errors import BadRequest
from tunesmith.gateway.tools import as_tools, canonical_tool, chosen_name, current_message, tool_name

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "echo_last": (0,),
    "frequency_penalty": (0,),
    "grammar": (),
    "guided_choice": (),
    "guided_grammar": (),
    "guided_json": (),
    "guided_regex": (),
    "ignore_eos": (False,),
    "images": ([],),
    "logit_bias": ({},),
    "min_p": (0,),
    "min_tokens": (0,),
    "mirostat_target": (0,),
    "modalities": (["text"],),
    "presence_penalty": (0,),
    "prompt_truncate_len": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "safe_tokenization": (False,),
    "typical_p": (1,),
    "verbosity": ("medium",),
}
"""Options that would change what is sampled and are not built: only the values given here, which change nothing, are accepted."""

_INERT = frozenset(
    [
        "api_base",
        "api_key",
        "base_url",
        "extra_headers",
        "extra_query",
        "max_retries",
        "metadata",
        "mirostat_lr",
        "perf_metrics_in_response",
        "prediction",
        "prompt_cache_isolation_key",
        "prompt_cache_key",
        "prompt_cache_options",
        "prompt_cache_retention",
        "reasoning_history",
        "safety_identifier",
        "service_tier",
        "speculation",
        "store",
        "timeout",
        "user",
    ]
)
"""Options without any effect on what is sampled: OpenAI's own, and those of client libraries that leak into bodies."""

_NEVER_RECORDED = frozenset(["api_key", "extra_headers"])
"""May hold somebody's credentials."""

_RESERVED = frozenset(["messages", "tools", "add_generation_prompt", "turn", "prompt_ids", "sampled_ids", "self"])
"""Names that templates and renderer use themselves."""


Body = TypeVar("Body", bound=BaseModel)


class StreamOptions(BaseModel):
    """OpenAI's `stream_options`."""

    include_usage: bool = False


class ChatRequest(BaseModel):
    """`POST …/chat/completions`. Fields that are null count as not sent."""

    model_config = ConfigDict(extra="allow")

    model: str
    messages: list[Any]
    stream: bool = False
    stream_options: StreamOptions = StreamOptions()
    max_tokens: int | None = Field(None, ge=1)
    max_completion_tokens: int | None = Field(None, ge=1)
    temperature: float = Field(1.0, ge=0, le=2)
    top_p: float = Field(1.0, gt=0, le=1)
    top_k: int = Field(0, ge=-1, le=2**31 - 1)
    n: int = Field(1, ge=1, le=128)
    seed: int | None = None
    stop: str | list[str] = []
    logprobs: bool | int = False
    top_logprobs: int | None = Field(None, ge=0, le=5)
    tools: list[dict[str, Any]] = []
    tool_choice: str | dict[str, Any] = "auto"
    parallel_tool_calls: bool = True
    functions: list[dict[str, Any]] = []
    """The deprecated form of `tools`; answered with `message.function_call`."""
    function_call: str | dict[str, Any] = "auto"
    """The deprecated form of `tool_choice`."""
    return_token_ids: bool = False
    raw_output: bool = False
    context_length_exceeded_behavior: Literal["truncate", "error"] = "truncate"
    reasoning_effort: str | int | bool | None = None
    thinking: dict[str, Any] | None = None
    chat_template_kwargs: dict[str, Any] = {}

    @property
    def token_limit(self) -> int | None:
        """Longest completion asked for, under either of its names."""
        return self.max_completion_tokens or self.max_tokens

    @property
    def stops(self) -> list[str]:
        """Stop strings, as a list."""
        return [self.stop] if isinstance(self.stop, str) else self.stop

    @property
    def offered_tools(self) -> list[dict[str, Any]]:
        """Tools shown to the model, in one form whichever dialect and client they came from."""
        if "none" in (self.tool_choice, self.function_call):
            return []
        return [canonical_tool(tool) for tool in self.tools or as_tools(self.functions)]

    @property
    def legacy_functions(self) -> bool:
        """The client speaks of functions and reads `message.function_call`."""
        return bool(self.functions)

    @property
    def ignored(self) -> list[str]:
        """Options that were sent and have no effect: they would force what is sampled, which is left to the model."""
        if not self.offered_tools:
            return []
        names = [name for name in ("tool_choice", "function_call") if getattr(self, name) != "auto"]
        return names if self.parallel_tool_calls else [*names, "parallel_tool_calls"]

    @property
    def alternatives(self) -> int:
        """How many alternatives of each token are wanted."""
        if self.top_logprobs is not None:
            return self.top_logprobs
        return 0 if isinstance(self.logprobs, bool) else self.logprobs

    @property
    def legacy_logprobs(self) -> bool:
        """`logprobs: N` asks for parallel arrays, `logprobs: true` for OpenAI's list."""
        return not isinstance(self.logprobs, bool)


@dataclass(frozen=True)
class ParsedChat:
    """A checked request, and its body in chat form without null fields and credentials."""

    chat: ChatRequest
    body: dict[str, Any]
    dialect: str = "chat"
    """The API that the client spoke."""
    id_prefix: str = "chatcmpl-"
    """What the ids of its answers begin with."""
    notes: dict[str, Any] = field(default_factory=dict)
    """What the dialect wants recorded beside the sampling parameters."""


def parse_chat(body: Any) -> ParsedChat:
    """Check a body. Raises BadRequest naming the first field that is wrong or cannot be honoured."""
    if not isinstance(body, dict):
        raise BadRequest("The body is not a JSON object.")
    body = {key: value for key, value in body.items() if value is not None}
    chat = validated(ChatRequest, body)
    for name, value in (chat.model_extra or {}).items():
        _check_extra(name, value)
    _check_together(chat)
    _check_tools(chat)
    chat.messages = [current_message(message) for message in chat.messages]
    return ParsedChat(chat, {key: value for key, value in body.items() if key not in _NEVER_RECORDED})


def validated(kind: type[Body], body: dict[str, Any]) -> Body:
    """The body as a model. Raises BadRequest naming the first field that is wrong."""
    try:
        return kind.model_validate(body)
    except ValidationError as error:
        first = error.errors()[0]
        param = ".".join(str(part) for part in first["loc"][:1])
        missing = first["type"] == "missing"
        raise BadRequest(
            f"{param}: {first['msg']}." if not missing else f"{param} is required.",
            param,
            "missing_required_parameter" if missing else "invalid_value",
        ) from error


def _check_extra(name: str, value: Any) -> None:
    if name in _INERT:
        return
    if name not in _NEUTRAL:
        raise BadRequest(f"{name} is not an option of this call; remove it.", name, "unknown_parameter")
    if value not in _NEUTRAL[name]:
        raise BadRequest(
            f"{name} = {value!r} would change what is sampled, and this platform does not support it. Remove it.",
            name,
            "unsupported_parameter",
        )


def _check_together(chat: ChatRequest) -> None:
    if chat.max_tokens and chat.max_completion_tokens and chat.max_tokens != chat.max_completion_tokens:
        raise BadRequest("max_tokens and max_completion_tokens are the same option; send one of them.", "max_tokens")
    if len(chat.stops) > 16 or not all(chat.stops):
        raise BadRequest("stop takes at most 16 strings, none of them empty.", "stop")
    if chat.legacy_logprobs and not 0 <= chat.logprobs <= 5:
        raise BadRequest("logprobs is true, false, or a number of alternatives from 0 to 5.", "logprobs")
    if chat.top_logprobs and chat.logprobs is False:
        raise BadRequest("top_logprobs has no effect without logprobs: true; send both.", "top_logprobs")
    if not chat.model.isprintable():
        raise BadRequest("model holds control characters; send a model's name.", "model")


def _check_tools(chat: ChatRequest) -> None:
    """Tools must be functions with names. What would force a call is accepted, checked and has no effect (`ignored`)."""
    if chat.tools and chat.functions:
        raise BadRequest("functions is the deprecated form of tools; send one of them.", "functions")
    param = "functions" if chat.functions else "tools"
    names = {tool_name(tool, param) for tool in chat.tools or as_tools(chat.functions)}
    for option in ("tool_choice", "function_call"):
        choice = getattr(chat, option)
        if not names or choice in ("auto", "none", "required"):
            continue
        wanted = chosen_name(choice) if isinstance(choice, dict) else None
        if not isinstance(wanted, str) or wanted not in names:
            raise BadRequest(
                f"{option} {str(choice)[:200]} is none of 'auto', 'none', 'required' and names no function that was sent "
                f"({', '.join(sorted(names))[:400]}).",
                option,
            )


def template_variables(chat: ChatRequest, mentions: Any) -> dict[str, Any]:
    """What the chat template is told besides messages and tools: reasoning switches and `chat_template_kwargs`.

    `mentions(variable)` says whether the template reads a variable; a model without reasoning ignores the switches.
    """
    for name in chat.chat_template_kwargs:
        if name in _RESERVED or not mentions(name):
            raise BadRequest(
                f"chat_template_kwargs.{name} is not read by this model's chat template; remove it.",
                "chat_template_kwargs",
            )
    variables: dict[str, Any] = {}
    wanted = _reasoning_wanted(chat)
    if wanted is not None and mentions("enable_thinking"):
        variables["enable_thinking"] = wanted
        if isinstance(chat.reasoning_effort, int) and not isinstance(chat.reasoning_effort, bool):
            raise BadRequest(
                "reasoning_effort as a number of tokens is not supported; send none, low, medium or high.",
                "reasoning_effort",
                "unsupported_parameter",
            )
        if chat.thinking and chat.thinking.get("budget_tokens"):
            raise BadRequest("thinking.budget_tokens is not supported.", "thinking", "unsupported_parameter")
    if isinstance(chat.reasoning_effort, str) and mentions("reasoning_effort"):
        variables["reasoning_effort"] = chat.reasoning_effort
    return {**variables, **chat.chat_template_kwargs}


def _reasoning_wanted(chat: ChatRequest) -> bool | None:
    if chat.thinking is not None:
        if chat.reasoning_effort is not None:
            raise InvalidArgument("thinking and reasoning_effort are the same switch; send one of them.")
        return chat.thinking.get("type") != "disabled"
    if chat.reasoning_effort is None:
        return None
    return chat.reasoning_effort not in ("none", False, 0)
