"""A hundred ways to ask, written by somebody who has not seen the reader: nothing is read wrongly, and at least 90 are read whole."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from tunesmith.agent.document import Gate, GateKind
from tunesmith.agent.plan import Plan
from tunesmith.agent.reading import BaseModelName, Intent, Names, Reading, read_instruction, read_message
from tunesmith.catalog.known import KNOWN

LINES = [json.loads(line) for line in (Path(__file__).parent / "paraphrases.jsonl").read_text().splitlines()]
NAMES = Names("acme", [BaseModelName(known.name, known.repo or "", known.display_name) for known in KNOWN.values()])
SHOWN = {
    "dataset": "accounts/acme/datasets/support",
    "baseModels": ["accounts/fireworks/models/qwen3-8b"],
    "grid": {"loraRanks": [8, 16, 32], "learningRates": [0.0001, 0.00005]},
    "epochs": 3,
}
"""The plan at gate `plan`, as the header of the corpus says."""
DECIDED = {Intent.APPROVE, Intent.CHOOSE, Intent.STOP}


@cache
def read(index: int) -> Reading:
    line = LINES[index]
    if line["kind"] == "instruction":
        return read_instruction(line["text"], NAMES)
    gate = Gate(id=1, kind=GateKind(line.get("gate")), text="") if line.get("gate") else None
    return read_message(line["text"], NAMES, gate, plan_of(line))


def plan_of(line: dict[str, Any]) -> Plan:
    return Plan.model_validate(SHOWN) if line.get("gate") == "plan" else Plan()


def stated(line: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """The fields that were read, as the corpus writes them."""
    whole = reading.apply(plan_of(line)).model_dump(mode="json", by_alias=True)
    names = {field: Plan.model_fields[field].alias or field for field in reading.changes}
    return {names[field]: _plain(whole[names[field]]) for field in reading.changes}


def _plain(value: Any) -> Any:
    """Without fields that say nothing, lists without an order."""
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items() if each not in (None, [])}
    if isinstance(value, list):
        return sorted((_plain(each) for each in value), key=lambda each: json.dumps(each, sort_keys=True))
    return float(value) if isinstance(value, int) and not isinstance(value, bool) else value


def wrong(line: dict[str, Any], reading: Reading) -> dict[str, Any]:
    """Fields that were read as something else than was said, or that were not said."""
    expected, found = line.get("plan", {}), stated(line, reading)
    missing = object()
    different = {}
    for name, value in found.items():
        said = _plain(expected.get(name, missing)) if name in expected else missing
        if name == "approvals" and isinstance(said, dict):
            value = {gate: asked for gate, asked in value.items() if gate in said or not asked}
        if said != value:
            different[name] = value
    return different


@pytest.mark.parametrize("index", range(len(LINES)), ids=lambda index: LINES[index]["text"][:60])
def test_nothing_is_read_wrongly_and_nothing_is_added(index: int) -> None:
    line, reading = LINES[index], read(index)
    assert not wrong(line, reading)
    if reading.intent in DECIDED:
        assert not line.get("asks", False)
        assert reading.intent == line["intent"]
        assert reading.candidate == line.get("candidate")
    if line.get("asks", False):
        assert reading.asks or reading.topics or reading.intent is Intent.UNCLEAR


def whole(line: dict[str, Any], reading: Reading) -> bool:
    """Whether everything that was said was read, and nothing is asked that is clear."""
    if wrong(line, reading) or stated(line, reading).keys() != line.get("plan", {}).keys():
        return False
    if line.get("asks", False):
        return reading.asks or bool(reading.topics) or reading.intent is Intent.UNCLEAR
    return not reading.asks and reading.intent == line["intent"] and reading.candidate == line.get("candidate")


def test_at_least_ninety_are_read_whole() -> None:
    incomplete = [line["text"] for index, line in enumerate(LINES) if not whole(line, read(index))]
    assert len(LINES) == 100
    assert len(incomplete) <= 10, incomplete
