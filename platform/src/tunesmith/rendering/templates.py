"""A model's own chat template, compiled in a sandbox with the names that published templates expect.

The environment follows what model authors test their templates against: trimmed blocks, `break`/`continue`,
`raise_exception`, `strftime_now`, a `tojson` that escapes nothing for HTML, and a `{% generation %}` block.
"""

from __future__ import annotations

import datetime
import json
from typing import Any, NoReturn

from jinja2 import Template, TemplateError, nodes
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from tunesmith.errors import InvalidArgument

_FAILURES = (TemplateError, TypeError, ValueError, LookupError, AttributeError, ArithmeticError, RecursionError)


class _Generation(Extension):
    """`{% generation %}…{% endgeneration %}` marks what the assistant said for training masks; here only its body matters."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class ChatTemplate:
    """A compiled chat template and the special tokens it may name (`bos_token`, `eos_token`, ...)."""

    def __init__(self, source: str, special_tokens: dict[str, str], owner: str) -> None:
        """Compile. `owner` names the model in error messages. Raises InvalidArgument when the template does not compile."""
        self._owner = owner
        self._special_tokens = special_tokens
        self.source = source
        try:
            self._template = _compile(source)
        except TemplateError as error:
            raise InvalidArgument(f"The chat template of {owner} does not compile: {error}") from error

    def mentions(self, variable: str) -> bool:
        """Whether the template reads a variable, so that setting it has an effect."""
        return variable in self.source

    def render(
        self,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        **variables: Any,
    ) -> str:
        """The prompt as text. Raises InvalidArgument with the template's own words when it refuses the messages."""
        names = {
            **self._special_tokens,
            "messages": messages,
            "tools": tools or None,
            "documents": None,
            "add_generation_prompt": add_generation_prompt,
            **variables,
        }
        try:
            return self._template.render(names)
        except _FAILURES as error:
            raise InvalidArgument(
                f"The chat template of {self._owner} refuses these messages: {error}. "
                "Check roles, their order and the fields of each message."
            ) from error


def _compile(source: str) -> Template:
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[loopcontrols, _Generation]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = _strftime_now
    return environment.from_string(source)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(pattern: str) -> str:
    return datetime.datetime.now().strftime(pattern)
