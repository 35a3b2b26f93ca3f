"""Rows for the Agent's tests: one dataset for each kind of answer."""

from __future__ import annotations

from typing import Any

Row = dict[str, Any]


def row(prompt: object, answer: str | None = None, **more: Any) -> Row:
    """A row that asks `prompt`, answered by `answer` if there is one."""
    messages = [{"role": "user", "content": f"{prompt}"}]
    if answer is not None:
        messages.append({"role": "assistant", "content": answer})
    return {"messages": messages, **more}


def calling(prompt: object, name: str, arguments: str) -> Row:
    """A row that ends in a tool call."""
    call = {"id": "call_1", "type": "function", "function": {"name": name, "arguments": arguments}}
    tools = [{"type": "function", "function": {"name": name, "parameters": {}}}]
    turn = {"role": "assistant", "content": None, "tool_calls": [call]}
    return {"messages": [{"role": "user", "content": f"{prompt}"}, turn], "tools": tools}


def datasets() -> dict[str, list[Row]]:
    """Rows by a name that begins with the kind of their answers."""
    numbers = ["1,234", "-5", "3.5 km", "$7", "1/2", "\u22123", "0", "12,345.67", "8 %", "1e6"]
    people = [
        {"name": f"Zoë {i}", "age": i, "tags": ["ä", {"deep": [i, None]}], "city": "AB"[i % 2]} for i in range(12)
    ]
    labels = ["positive", "Negative", "neither of them"]
    return {
        "number": [row(i, text) for i, text in enumerate(numbers)],
        "number in tags": [row(i, f"<think>\n{i}+1\n</think>\n<answer>{i + 1}</answer>") for i in range(10)],
        "number in a box": [row(i, rf"So it is $\boxed{{\frac{{{i}}}{{7}}}}$.") for i in range(10)],
        "number behind hashes": [row(i, f"{i} and 3 more.\n#### {i + 3}", ground_truth=f"{i + 3}") for i in range(10)],
        "number after words": [row(i, f"We add. The answer is {i}.5 kg.") for i in range(10)],
        "number at the end": [row(i, f"He has {i} left", ground_truth=i) for i in range(10)],
        "json": [row(i, f"```json\n{_json(person)}\n```", ground_truth=person) for i, person in enumerate(people)],
        "json of lists": [row(i, _json([i, {"a": True}])) for i in range(8)],
        "label": [row(i, labels[i % 3]) for i in range(30)],
        "label of lists": [row(i, labels[i % 3], ground_truth=[labels[i % 3]]) for i in range(30)],
        "label in tags": [row(i, f"Hm.<answer>{'AB'[i % 2]}</answer>", ground_truth="AB"[i % 2]) for i in range(30)],
        "exact": [
            row(i, text) for i, text in enumerate(["Paris", "São Paulo", "İzmir", "東京", "O'Fallon", 'the "A"'])
        ],
        "tool_calls": [calling(i, "add", f'{{"a": {i}, "b": "x"}}') for i in range(8)],
    }


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)
