"""`python -m tunesmith.server` as a process: a taken port, and what is left after kill -9."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx2
from tunesmith.db.accounts import ensure_account
from tunesmith.db.api_keys import new_key
from tunesmith.db.jobs import enqueue
from tunesmith.db.session import open_database
from tunesmith.server.control import ControlPlane
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

from tests.server.conftest import ACCOUNT, jsonl
from tests.server.test_rft_monitoring import NAME, spec


def _start(data_dir: Path) -> tuple[subprocess.Popen[str], httpx2.Client]:
    command = [sys.executable, "-m", "tunesmith.server", "--data-dir", str(data_dir), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout is not None
    url = re.search(r"http://\S+", process.stdout.readline())
    assert url
    process.stdout.close()
    return process, httpx2.Client(base_url=url.group() + ACCOUNT, headers={"Authorization": f"Bearer {_key(data_dir)}"})


def _key(data_dir: Path) -> str:
    settings = Settings(data_dir=data_dir)
    sessions = open_database(settings.path("tunesmith.db"))
    with sessions.begin() as session:
        ensure_account(session, "accounts/local")
        key = new_key(session, "accounts/local", {"kind": "account"}, "", None, load_keys(settings).pepper)[1]
    sessions.kw["bind"].dispose()
    return key


def test_a_taken_port_is_one_clear_line(tmp_path: Path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "tunesmith.server", "--data-dir", str(tmp_path), "--port", port]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        f"tunesmith: cannot listen on 127.0.0.1:{port}: Address already in use. Stop what uses it, or choose another port with --port."
    ]
    assert not (tmp_path / "tunesmith.db").exists()


def test_killed_between_upload_and_validate_nothing_is_lost_or_half_there(tmp_path: Path):
    process, http = _start(tmp_path)
    try:
        for method, path, body in [
            ("POST", "/datasets", {"dataset": {}, "datasetId": "whole"}),
            ("POST", "/datasets", {"dataset": {}, "datasetId": "half"}),
            ("POST", "/evaluatorsV2", {"evaluator": {"entryPoint": "e.py::f"}, "evaluatorId": "e"}),
        ]:
            assert http.request(method, path, json=body).status_code == 200
        assert http.post("/datasets/whole:upload", files={"file": ("d", jsonl())}).status_code == 200
        sizes = {"filenameToSize": {"d.jsonl": str(len(jsonl()))}}
        urls = http.post("/datasets/half:getUploadEndpoint", json=sizes).json()["filenameToSignedUrls"]
        assert httpx2.put(urls["d.jsonl"], content=jsonl()).status_code == 200
        urls = http.post("/evaluators/e:getUploadEndpoint", json={"filenameToSize": {"p.tar.gz": "3"}}).json()
        assert httpx2.put(urls["filenameToSignedUrls"]["p.tar.gz"], content=b"abc").status_code == 200
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        http.close()

    process, http = _start(tmp_path)
    try:
        assert http.get("/datasets/whole").json()["state"] == "READY"
        assert http.get("/datasets/half").json()["state"] == "UPLOADING"
        assert http.get("/evaluators/e").json()["state"] == "BUILDING"
        assert http.post("/datasets/half:validateUpload", json={}).status_code == 200
        assert http.get("/datasets/half").json()["exampleCount"] == "3"
        assert http.post("/evaluators/e:validateUpload", json={}).status_code == 200
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
        http.close()
    assert not any("ts_" in path.name for path in tmp_path.rglob("*"))
    assert os.path.exists(tmp_path / "tunesmith.db")


def test_a_stream_does_not_hold_up_the_end_of_the_process(tmp_path: Path):
    process, http = _start(tmp_path)
    sessions = open_database(tmp_path / "tunesmith.db")
    with sessions.begin() as session:
        enqueue(session, NAME, "accounts/local", "rft", spec(), state="JOB_STATE_RUNNING")
    sessions.kw["bind"].dispose()
    with http.stream("GET", "/reinforcementFineTuningJobs/j/events", timeout=20) as stream:
        lines = stream.iter_lines()
        assert next(lines).startswith("id: ")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)
    http.close()


def test_what_a_killed_upload_left_is_removed_later(tmp_path: Path):
    control = ControlPlane.open(Settings(data_dir=tmp_path))
    old, new = control.scratch() / "old.jsonl", control.scratch() / "new.jsonl"
    for path in (old, new):
        path.write_text("half")
    os.utime(old, (0, 0))
    again = ControlPlane.open(Settings(data_dir=tmp_path))
    assert [path.name for path in control.scratch().iterdir()] == ["new.jsonl"]
    for opened in (control, again):
        opened.sessions.kw["bind"].dispose()
