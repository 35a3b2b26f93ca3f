"""How the rows of a dataset are rendered for a base model, and what of it is trained: one rendering for each way of showing thinking.

The same code prepares a job's samples, so what is seen here is what is trained. Rows that cannot be rendered say why.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from tunesmith.catalog import BaseModelEntry, resolve
from tunesmith.db.datasets import row_facts
from tunesmith.db.tables import Dataset
from tunesmith.errors import FailedPrecondition, InvalidArgument, NotFound
from tunesmith.rendering.examples import ExampleRenderer, History, HistoryMode, history_modes, segments
from tunesmith.rendering.pairs import PairRenderer
from tunesmith.rendering.renderer import Renderer
from tunesmith.schemas.datasets import RenderPreviewInput
from tunesmith.schemas.names import account_name
from tunesmith.server.control import ControlPlane
from tunesmith.server.tuning_options import history_wire
from tunesmith.storage.rows import RowKind

DEFAULT_ROWS = 10
MOST_ROWS = 50
"""Of one page: rendering is work."""
_RENDERERS = 4


def preview(control: ControlPlane, account: str, dataset: Dataset, body: RenderPreviewInput) -> dict[str, Any]:
    """One page of rendered rows. Raises InvalidArgument, FailedPrecondition, NotFound."""
    if dataset.object_key is None:
        raise FailedPrecondition(f"The dataset {dataset.name} has no rows yet. Upload them first.")
    renderer = loaded_renderer(find_entry(control, account, body.base_model))
    modes = history_modes(renderer)
    kind = ExampleRenderer if row_facts(dataset)[0] == RowKind.MESSAGES else PairRenderer
    names: list[History] = [mode.mode for mode in modes] or ["default"]
    rows: dict[History, ExampleRenderer | PairRenderer] = {
        name: kind(renderer, name, body.context_length) for name in names
    }
    first, start = _position(body.page_token)
    size = max(1, min(body.page_size or DEFAULT_ROWS, MOST_ROWS))
    examples: list[dict[str, Any]] = []
    offset = start
    for offset, line in control.objects.lines(dataset.object_key, start):  # noqa: B007 - the last one is the next page's
        examples.append(_example(renderer, rows, first + len(examples), line.decode(errors="replace")))
        if len(examples) == size:
            break
    seen = first + len(examples)
    return {
        "examples": examples,
        "totalCount": str(dataset.example_count),
        "nextPageToken": _token(seen, offset) if seen < dataset.example_count else "",
        "thinkingTraceHistoryModeOptions": [_option(mode) for mode in modes]
        or [{"mode": history_wire("default"), "default": True, "unrollsMultiTurn": False}],
    }


def find_entry(control: ControlPlane, account: str, name: str) -> BaseModelEntry:
    """A base model whose files are on this machine: of the catalogue, or a full model of the account. Raises NotFound."""
    settings = control.settings
    own = settings.path("objects", "models") if name.startswith(f"{account_name(account)}/") else None
    return resolve(name, models_dir=settings.path("models"), account_models=own, download=False)


def check_history(control: ControlPlane, account: str, base_model: str, history: str) -> None:
    """Refuse a way of showing thinking traces that the model's template cannot do. A model that is not here yet is not judged.

    Raises InvalidArgument naming the option.
    """
    try:
        entry = find_entry(control, account, base_model)
    except NotFound:
        return  # the job fetches it, and tells
    modes = {mode.mode: mode for mode in history_modes(loaded_renderer(entry))}
    if history not in modes:
        can = " or ".join(history_wire(mode) for mode in modes) or "none: it shows no thinking traces"
        raise InvalidArgument(
            f"thinkingTraceHistoryMode {history_wire(history)} is not possible with {entry.name}. Possible: {can}. "
            "Leave it out for what the model's template does."
        )


def _example(
    renderer: Renderer, rows: Mapping[History, ExampleRenderer | PairRenderer], index: int, line: str
) -> dict[str, Any]:
    renderings = [_rendering(renderer, rows[name], name, line) for name in rows]
    return {
        "sourceJsonlRowIndex": str(index),
        "sourceJsonlLineNumber": str(index + 1),
        "sourceJsonl": line.rstrip("\n"),
        "renderings": renderings,
        **({"error": renderings[0]["error"]} if all("error" in one for one in renderings) else {}),
    }


def _rendering(renderer: Renderer, rows: ExampleRenderer | PairRenderer, history: History, line: str) -> dict[str, Any]:
    shown: dict[str, Any] = {"thinkingTraceHistoryMode": history_wire(history)}
    try:
        datums = rows.examples(json.loads(line))
    except InvalidArgument as error:
        return {**shown, "error": error.message, "renderedDatums": []}
    except ValueError:
        return {
            **shown,
            "error": "this is not a whole row: pageToken is not one that this API gave out",
            "renderedDatums": [],
        }
    return {
        **shown,
        "renderedDatums": [
            {
                "datumIndex": index,
                "segments": [{"text": part.text, "lossWeight": part.loss_weight} for part in segments(renderer, datum)],
            }
            for index, datum in enumerate(datums)
        ],
    }


def _option(mode: HistoryMode) -> dict[str, Any]:
    return {"mode": history_wire(mode.mode), "default": mode.default, "unrollsMultiTurn": mode.unrolls}


def loaded_renderer(entry: BaseModelEntry) -> Renderer:
    """The renderer of a base model on this machine; the last few are kept. Raises InvalidArgument when its files cannot be read."""
    return _loaded(entry.path, entry.name, entry.family, (entry.path / "config.json").stat().st_mtime_ns)


@lru_cache(_RENDERERS)
def _loaded(folder: Path, name: str, family: str | None, _changed: int) -> Renderer:
    return Renderer.load(folder, name, family)


def _token(row: int, offset: int) -> str:
    return base64.urlsafe_b64encode(json.dumps([row, offset]).encode()).decode().rstrip("=")


def _position(token: str) -> tuple[int, int]:
    """Number of the next row, and where it begins in the object, in bytes."""
    if not token:
        return 0, 0
    try:
        row, offset = json.loads(base64.urlsafe_b64decode(token + "=" * (-len(token) % 4)))
    except (ValueError, TypeError):
        raise InvalidArgument("pageToken is not one that this API gave out.") from None
    if not all(isinstance(number, int) and number >= 0 for number in (row, offset)):
        raise InvalidArgument("pageToken is not one that this API gave out.")
    return row, offset
