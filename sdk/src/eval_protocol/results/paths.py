"""JSONPath of a leaf (`$.a.b[0].c`, `$["odd key"]`), and the SQL that reads it.

A path that is a column of `summaries` is read there; one below a heavy part (messages, tools, ...) from the whole row; every other from
`facts`. Paths go into statements as parameters only.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from eval_protocol.errors import UsageError
from eval_protocol.results.summaries import HEAVY


class Kind(Enum):
    """What a path is known to hold."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "date"
    """Unix seconds."""
    ANY = "any"


COLUMNS = {
    "$.execution_metadata.rollout_id": ("rollout_id", Kind.TEXT),
    "$.execution_metadata.invocation_id": ("invocation_id", Kind.TEXT),
    "$.execution_metadata.experiment_id": ("experiment_id", Kind.TEXT),
    "$.execution_metadata.run_id": ("run_id", Kind.TEXT),
    "$.input_metadata.row_id": ("row_id", Kind.TEXT),
    "$.eval_metadata.name": ("name", Kind.TEXT),
    "$.input_metadata.completion_params.model": ("model", Kind.TEXT),
    "$.rollout_status.code": ("status", Kind.NUMBER),
    "$.rollout_status.message": ("status_message", Kind.TEXT),
    "$.eval_metadata.status.code": ("eval_status", Kind.NUMBER),
    "$.eval_metadata.status.message": ("eval_message", Kind.TEXT),
    "$.evaluation_result.score": ("score", Kind.NUMBER),
    "$.evaluation_result.is_score_valid": ("is_score_valid", Kind.BOOLEAN),
    "$.evaluation_result.agg_score": ("agg_score", Kind.NUMBER),
    "$.created_at": ("created", Kind.TIME),
    "$.updated_at": ("updated", Kind.TIME),
}
"""Path -> column of `summaries`. `$.updated_at` is when the row was last written, which the row itself does not say."""
SCORES = ("$.evaluation_result.score", "$.evaluation_result.agg_score", "$.evaluation_result.metrics")
"""Numbers that count only where the score is valid."""
DEEPEST = 32
_PART = re.compile(r"""\.([A-Za-z_$][\w$-]*)|\[(\d{1,9})\]|\["([^"\\\x00]*)"\]|\['([^'"\\\x00]*)'\]""")
_PLAIN = re.compile(r"[A-Za-z_$][\w$-]*\Z")


@dataclass(frozen=True)
class Path:
    """A leaf of a row."""

    text: str
    """In one spelling: `$.a["odd key"][0]`."""
    parts: tuple[str | int, ...]

    @property
    def column(self) -> str | None:
        """The column of `summaries` that holds it, if one does."""
        return COLUMNS[self.text][0] if self.text in COLUMNS else None

    @property
    def kind(self) -> Kind:
        """What it holds, where that is known."""
        return COLUMNS[self.text][1] if self.text in COLUMNS else Kind.ANY

    @property
    def is_heavy(self) -> bool:
        """Whether only the whole row has it."""
        return any(self.parts[: len(heavy)] == heavy for heavy in HEAVY)

    @property
    def is_score(self) -> bool:
        """Whether an invalid score makes it meaningless."""
        return self.text.startswith(SCORES)

    def value(self) -> tuple[str, tuple[str, ...]]:
        """SQL and its parameters: the value in its own type; NULL where the row has none."""
        if self.column is not None:
            return f"summaries.{self.column}", ()
        return f"json_extract({self._source()}, ?)", (self._inside(),)

    def shown(self) -> tuple[str, tuple[str, ...]]:
        """SQL and its parameters: the value as a person reads it, so that a boolean is `true` or `false`. Numbers stay numbers."""
        if self.kind is Kind.BOOLEAN:
            return f"CASE summaries.{self.column} WHEN 1 THEN 'true' WHEN 0 THEN 'false' END", ()
        if self.column is not None:
            return self.value()
        source, inside = self._source(), self._inside()
        return (
            f"CASE json_type({source}, ?) WHEN 'true' THEN 'true' WHEN 'false' THEN 'false' ELSE json_extract({source}, ?) END",
            (inside, inside),
        )

    def number(self) -> tuple[str, tuple[str, ...]]:
        """SQL and its parameters: the value where it is a number, or text that is one; else NULL. A boolean is 1 or 0."""
        sql, parameters = self.value()
        if self.kind not in (Kind.ANY, Kind.TEXT):
            return sql, parameters
        return (
            "(SELECT CASE typeof(v) WHEN 'text' THEN CASE WHEN v GLOB '[-0-9.]*' AND v NOT GLOB '*[^0-9.eE+-]*' THEN CAST(v AS REAL) END "
            f"ELSE v END FROM (SELECT {sql} AS v))"
        ), parameters

    def moment(self) -> tuple[str, tuple[str, ...]]:
        """SQL and its parameters: unix seconds, from a number or from ISO 8601 text; else NULL."""
        sql, parameters = self.value()
        if self.kind is Kind.TIME:
            return sql, parameters
        return (
            "(SELECT CASE typeof(v) WHEN 'text' THEN (julianday(v) - 2440587.5) * 86400.0 ELSE v END "
            f"FROM (SELECT {sql} AS v))"
        ), parameters

    def _source(self) -> str:
        whole = "(SELECT data FROM rollouts WHERE rollouts.rollout_id = summaries.rollout_id)"
        return whole if self.is_heavy else "summaries.facts"

    def _inside(self) -> str:
        """The path in SQLite's own spelling."""
        return "$" + "".join(f"[{part}]" if isinstance(part, int) else f'."{part}"' for part in self.parts)


def parse(text: object) -> Path:
    """Read a path.

    Raises:
        UsageError: it is no such path.
    """
    if not isinstance(text, str) or not text.startswith("$"):
        raise UsageError(f"{text!r} is no field; write a path such as $.evaluation_result.score.")
    parts: list[str | int] = []
    place = 1
    while place < len(text):
        match = _PART.match(text, place)
        if match is None or len(parts) == DEEPEST:
            raise UsageError(
                f"{text[:200]!r} cannot be read as a field from character {place + 1} on; write a path such as "
                '$.messages[0].content or $.input_metadata["my key"]. Keys with quotation marks or backslashes cannot be named.'
            )
        name, index, double, single = match.groups()
        parts.append(
            int(index) if index is not None else next(key for key in (name, double, single) if key is not None)
        )
        place = match.end()
    if not parts:
        raise UsageError("'$' is the whole row; name a field of it, such as $.evaluation_result.score.")
    return Path(spell(parts), tuple(parts))


def spell(parts: Sequence[str | int]) -> str:
    """The path of these keys and indexes, quoted where a key is no plain name."""
    return "$" + "".join(
        f"[{part}]" if isinstance(part, int) else f".{part}" if _PLAIN.match(part) else f'["{part}"]' for part in parts
    )
