"""Checks requirements against the scene, gives one verdict for each, and one score for all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from . import colours
from .document import UnreadableDrawing
from .language import Kind, Requirement, UnknownRequirement, understand
from .scene import Object, Scene, read

MOST_OBJECTS = 8
"""Objects that one drawing may be asked for."""


@dataclass(frozen=True)
class Verdict:
    """What was found for one requirement."""

    requirement: str
    """The sentence as given."""
    met: float
    """Share of its parts that are met, 0 to 1."""
    seen: str
    """What the judge saw, in English."""
    parts: dict[str, bool]
    """Each part that was checked: shape, colour, place, size of an object; count; background."""
    factor: float = 1.0
    """What the score of the whole drawing is multiplied by: below 1 where more is drawn than asked for."""


def judge(svg: str, requirements: Sequence[str]) -> list[Verdict]:
    """One verdict a requirement, in their order.

    A drawing that is missing or cannot be read meets nothing; each verdict then says why.

    Raises:
        UnknownRequirement: A sentence is not understood, or too many objects are asked for. Never a zero.
    """
    wanted = [understand(sentence) for sentence in requirements]
    objects = [r for r in wanted if r.kind is Kind.OBJECT]
    if len(objects) > MOST_OBJECTS:
        raise UnknownRequirement(
            f"The geometric judge matches at most {MOST_OBJECTS} objects; these are {len(objects)}."
        )
    try:
        scene = read(svg)
    except UnreadableDrawing as error:
        reason = f"The drawing cannot be read: {error}."
        return [Verdict(r.sentence, 0.0, reason, dict.fromkeys(r.parts, False)) for r in wanted]
    found = dict(zip(map(id, objects), _match(objects, scene.objects), strict=True))
    return [_verdict(r, found.get(id(r)), scene) for r in wanted]


def score(verdicts: Sequence[Verdict]) -> float:
    """The score of a drawing, 0 to 1: the share of all parts that are met, times the factors for what is too much."""
    parts = [met for verdict in verdicts for met in verdict.parts.values()]
    total = sum(parts) / len(parts) if parts else 0.0
    for verdict in verdicts:
        total *= verdict.factor
    return total


def _verdict(wanted: Requirement, found: Object | None, scene: Scene) -> Verdict:
    if wanted.kind is Kind.BACKGROUND:
        names = colours.names(scene.background)
        return _made(wanted, {"background": wanted.colour in names}, f"a {names[0]} background")
    if wanted.kind is Kind.COUNT:
        count = sum(all(_parts(wanted, object).values()) for object in scene.objects)
        hidden = f" ({scene.unseen} more cannot be seen)" if scene.unseen else ""
        seen = f"{count} of them{hidden}: {_listed(scene.objects)}"
        return _made(wanted, {"count": count == wanted.count}, seen, max(wanted.count, 1) / max(wanted.count, count, 1))
    if found is None:
        return _made(wanted, dict.fromkeys(wanted.parts, False), "nothing left that could be it")
    return _made(wanted, {name: met for name, met in _parts(wanted, found).items() if name in wanted.parts}, str(found))


def _made(wanted: Requirement, parts: dict[str, bool], seen: str, factor: float = 1.0) -> Verdict:
    return Verdict(wanted.sentence, sum(parts.values()) / len(parts), seen, parts, factor)


def _listed(objects: Sequence[Object], most: int = 10) -> str:
    more = f", and {len(objects) - most} more" if len(objects) > most else ""
    return (", ".join(map(str, objects[:most])) or "nothing") + more


def _parts(wanted: Requirement, object: Object) -> dict[str, bool]:
    """Which parts an object meets; what is not asked for is met."""
    return {
        "shape": wanted.shape is None or wanted.shape in object.form.names,
        "colour": wanted.colour is None or wanted.colour in colours.names(object.colour),
        "place": wanted.place is None or wanted.place == object.place,
        "size": wanted.size is None or wanted.size == object.size,
    }


def _match(wanted: Sequence[Requirement], objects: Sequence[Object]) -> list[Object | None]:
    """Gives each requirement an object of its own so that most parts are met in all."""
    worth = [[sum(_parts(r, o)[name] for name in r.parts) for o in objects] for r in wanted]
    # With k requirements, each finds its best assignment among its k best objects.
    useful = {j for row in worth for j in sorted(range(len(row)), key=lambda j: -row[j])[: len(wanted)]}
    # One object after the other; a state is the set of requirements served (as bits) with its total and who serves whom.
    best: dict[int, tuple[int, dict[int, int]]] = {0: (0, {})}
    for j in sorted(useful):
        for served, (total, chosen) in list(best.items()):
            for i, row in enumerate(worth):
                state, value = served | 1 << i, total + row[j]
                if not served >> i & 1 and row[j] and value > best.get(state, (0, {}))[0]:
                    best[state] = (value, chosen | {i: j})
    _, chosen = max(best.values(), key=lambda entry: entry[0])
    return [objects[chosen[i]] if i in chosen else None for i in range(len(wanted))]
