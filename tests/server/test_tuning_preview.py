"""Render previews: what of a row is trained, page by page; and models made with full parameters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import httpx2
from tunesmith.catalog import resolve
from tunesmith.db.tables import Model

from tests.server.conftest import BASE_MODEL, Platform

CHAT = {"messages": [{"role": "user", "content": "What is 2 + 2?"}, {"role": "assistant", "content": "It is 4."}]}
PAIR = {
    "input": {"messages": [{"role": "user", "content": "What is 2 + 2?"}]},
    "preferred_output": [{"role": "assistant", "content": "It is 4."}],
    "non_preferred_output": [{"role": "assistant", "content": "It is 5."}],
}


def rows(row: dict[str, Any], count: int) -> bytes:
    return b"".join(json.dumps({**row, "n": index}).encode() + b"\n" for index in range(count))


def preview(platform: Platform, **body: Any) -> dict[str, Any]:
    return platform.ok("POST", "/datasets/d:renderPreview", json={"baseModel": BASE_MODEL, **body})


def test_a_page_of_rows_as_they_are_trained(platform: Platform):
    platform.dataset("d", rows(CHAT, 5))
    first = preview(platform, pageSize=2)
    assert first["totalCount"] == "5"
    options = first["thinkingTraceHistoryModeOptions"]
    assert sum(option["default"] for option in options) == 1
    seen, page = [], first
    while True:
        seen += [example["sourceJsonlRowIndex"] for example in page["examples"]]
        if not page["nextPageToken"]:
            break
        page = preview(platform, pageSize=2, pageToken=page["nextPageToken"])
    assert seen == ["0", "1", "2", "3", "4"]
    example = first["examples"][1]
    assert json.loads(example["sourceJsonl"]) == {**CHAT, "n": 1}
    assert example["sourceJsonlLineNumber"] == "2"
    assert len(example["renderings"]) == len(options)
    segments = example["renderings"][0]["renderedDatums"][0]["segments"]
    trained = "".join(part["text"] for part in segments if part["lossWeight"] > 0)
    given = "".join(part["text"] for part in segments if part["lossWeight"] == 0)
    assert trained.startswith("It is 4.")
    assert "What is 2 + 2?" in given
    assert "It is 4." not in given


def test_both_answers_of_a_preference_are_shown(platform: Platform):
    platform.dataset("d", rows(PAIR, 3))
    datums = preview(platform)["examples"][0]["renderings"][0]["renderedDatums"]
    answers = ["".join(part["text"] for part in datum["segments"] if part["lossWeight"]) for datum in datums]
    assert [answer[:8] for answer in answers] == ["It is 4.", "It is 5."]


def test_a_row_that_cannot_be_trained_says_why(platform: Platform):
    broken = {"messages": [{"role": "user", "content": "x"}]}
    platform.dataset("d", rows(CHAT, 2) + json.dumps(broken).encode())
    examples = preview(platform)["examples"]
    assert "no assistant message" in examples[2]["error"]
    assert "error" not in examples[0]
    url = "/datasets/d:renderPreview"
    assert "pageToken" in platform.fails(400, "POST", url, json={"baseModel": BASE_MODEL, "pageToken": "x"})
    assert "context" in platform.fails(400, "POST", url, json={"baseModel": BASE_MODEL, "contextLength": 10**7})
    assert "not known" in platform.fails(404, "POST", url, json={"baseModel": "accounts/other/models/x"})
    platform.fails(404, "POST", "/datasets/none:renderPreview", json={"baseModel": BASE_MODEL})


def test_ways_of_showing_thinking_are_checked_before_anything_runs(platform: Platform):
    platform.dataset("d", rows(CHAT, 3))
    mode = "THINKING_TRACE_HISTORY_MODE_"
    refused = platform.fails(
        400,
        "POST",
        "/supervisedFineTuningJobs",
        json={"dataset": "d", "baseModel": BASE_MODEL, "thinkingTraceHistoryMode": mode + "INTERLEAVED"},
    )
    assert f"thinkingTraceHistoryMode {mode}INTERLEAVED is not possible with {BASE_MODEL}" in refused


def test_a_full_model_is_shown_downloaded_trained_on_and_deleted(platform: Platform):
    settings = platform.control.settings
    folder = settings.path("objects", "models", "local", "mine")
    shutil.copytree(resolve(BASE_MODEL, models_dir=settings.path("models")).path, folder)
    (folder / "tunesmith.json").write_text(json.dumps({"base_model": BASE_MODEL}))
    with platform.control.sessions.begin() as session:
        session.add(
            Model(
                name="accounts/local/models/mine",
                account="accounts/local",
                kind="HF_BASE_MODEL",
                base_model=BASE_MODEL,
                adapter_path=str(folder),
                sha256="ab",
            )
        )
    shown = platform.ok("GET", "/models/mine")
    assert (shown["kind"], shown["baseModel"]) == ("HF_BASE_MODEL", BASE_MODEL)
    assert "peftDetails" not in shown
    assert 1_000_000 < int(shown["baseModelDetails"]["parameterCount"]) < 3_000_000
    assert shown["baseModelDetails"]["modelType"] == "qwen3"
    assert shown["contextLength"] > 0
    base = platform.ok("GET", f"/v1/{BASE_MODEL}")
    assert base["baseModelDetails"] == shown["baseModelDetails"]
    urls = platform.ok("GET", "/models/mine:getDownloadEndpoint")["filenameToSignedUrls"]
    assert {"config.json", "tokenizer.json", "model.safetensors"} <= set(urls)
    assert httpx2.get(urls["config.json"]).content == (folder / "config.json").read_bytes()
    platform.dataset("d", rows(CHAT, 3))
    job = platform.ok("POST", "/supervisedFineTuningJobs", json={"dataset": "d", "baseModel": "mine"})
    assert (job["baseModel"], job["loraRank"]) == ("accounts/local/models/mine", 16)
    assert "in use by" in platform.fails(400, "DELETE", "/models/mine")
    name = job["name"].rsplit("/", 1)[-1]
    platform.ok("POST", f"/supervisedFineTuningJobs/{name}:cancel", json={})
    platform.ok("DELETE", "/models/mine")
    assert not Path(folder).exists()
    assert httpx2.get(urls["config.json"]).status_code == 404
