"""A full model of the account behind a deployment, with the real processes: supervisor, worker, gateway, engine."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tunesmith.catalog import resolve
from tunesmith.db.session import open_database
from tunesmith.db.tables import Model

from tests.cli.conftest import Up, alive, tunesmith, until

TINY = "accounts/tunesmith/models/tiny-math-v1"
FULL = "accounts/local/models/full"


def make_full_model(up: Up, digit: str) -> None:
    """What a job with rank 0 leaves: a whole model and its row."""
    target = up.data / "objects" / "models" / "local" / "full"
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(resolve(TINY, models_dir=up.data / "models").path, target)
    (target / "tunesmith.json").write_text(json.dumps({"base_model": TINY}))
    sessions = open_database(up.data / "tunesmith.db")
    with sessions.begin() as session:
        values: dict[str, Any] = {"account": "accounts/local", "kind": "HF_BASE_MODEL", "base_model": TINY}
        session.merge(Model(name=FULL, adapter_path=str(target), sha256=digit * 64, **values))
    sessions.kw["bind"].dispose()


def call(up: Up, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, Any]:
    data = json.dumps(body).encode() if body is not None else None
    headers = {"Authorization": f"Bearer {up.profile['api_key']}", "Content-Type": "application/json"}
    request = urllib.request.Request(up.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def ask(up: Up, model: str) -> tuple[int, Any]:
    messages = [{"role": "user", "content": "What is 2 + 2?"}]
    body = {"model": model, "messages": messages, "temperature": 0, "max_tokens": 16}
    return call(up, "POST", "/inference/v1/chat/completions", body)


def ok(up: Up, *arguments: str) -> str:
    done = tunesmith(up.home, *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def engines(up: Up) -> dict[str, int]:
    return {name.removeprefix("engine "): pid for name, pid in up.pids().items() if name.startswith("engine ")}


def test_a_full_model_is_deployed_scaled_and_replaced(up: Up) -> None:
    make_full_model(up, "a")
    made = json.loads(ok(up, "deployment", "create", "full", "--deployment-id", "prod", "--wait", "--json"))
    assert (made["state"], made["replicaCount"], made["baseModel"]) == ("READY", 1, FULL)
    assert list(engines(up)) == [FULL]
    first = engines(up)[FULL]
    for name in ("accounts/local/deployments/prod", f"{FULL}#prod", FULL):
        status, answer = ask(up, name)
        assert (status, answer["model"]) == (200, FULL), answer
        assert answer["choices"][0]["message"]["content"]

    ok(up, "deployment", "scale", "prod", "0")
    status, answer = until(lambda: (found := ask(up, "accounts/local/deployments/prod"))[0] == 503 and found)
    assert "tunesmith deployment scale prod 1" in answer["error"]["message"]
    assert ask(up, FULL)[0] == 200

    refused = call(up, "DELETE", "/v1/accounts/local/models/full")
    assert (refused[0], "accounts/local/deployments/prod" in refused[1]["message"]) == (400, True)
    ok(up, "deployment", "delete", "prod")
    assert call(up, "DELETE", "/v1/accounts/local/models/full") == (200, {})
    until(lambda: ask(up, FULL)[0] == 404)

    # Another model under the name is not served by the engine that read the first.
    make_full_model(up, "b")
    ok(up, "deployment", "create", "full", "--deployment-id", "prod", "--wait")
    assert engines(up)[FULL] != first
    assert not alive(first)
    ok(up, "deployment", "delete", "prod")


def test_a_deployment_that_cannot_be_loaded_says_why(up: Up) -> None:
    missing = up.data / "nowhere"
    done = tunesmith(up.home, "deployment", "create", str(missing), "--wait")
    assert (done.returncode, "is not a folder" in done.stderr) == (1, True)
    copy = Path(shutil.copytree(resolve(TINY, models_dir=up.data / "models").path, up.data / "copy"))
    ok(up, "deployment", "create", str(copy), "--deployment-id", "lost", "--max-replica-count", "0")
    shutil.rmtree(copy)
    done = tunesmith(up.home, "deployment", "scale", "lost", "1", "--wait")
    assert (done.returncode, "is not a folder" in done.stderr) == (1, True), done.stderr
    assert "FAILED" in ok(up, "deployment", "list")
    ok(up, "deployment", "delete", "lost")
