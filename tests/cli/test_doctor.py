"""`tunesmith doctor` asks every engine that the supervisor names; one that is gone, or hangs, is told from one that is well."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from socketserver import BaseServer, ThreadingUnixStreamServer
from typing import Any

import pytest
from click.testing import CliRunner
from tunesmith.cli import doctor
from tunesmith.cli.doctor_place import Place
from tunesmith.cli.lockfile import Running


class Answers(BaseHTTPRequestHandler):
    """Says one thing whatever is asked."""

    body: dict[str, Any] = {"status": "ok"}

    def do_GET(self) -> None:
        content = json.dumps(self.body).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def serving(server: BaseServer) -> Iterator[None]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    yield
    server.shutdown()
    server.server_close()
    thread.join(5)


def check(data_dir: Path, *urls: str | None) -> doctor.Check:
    """What the doctor says of engines at these addresses, which a supervisor names; None: one that is starting."""
    named = [{"name": "web", "pid": os.getpid(), "started": 1.0}]
    for number, url in enumerate(urls):
        address = {"url": url} if url else {}
        named.append({"name": f"engine model-{number}", "pid": os.getpid(), "started": 1.0, **address})
    handler = type("Supervisor", (Answers,), {"body": {"processes": named}})
    with serving(ThreadingUnixStreamServer(str(data_dir / "supervisor.sock"), handler)):
        found = doctor.engines(data_dir)
    (data_dir / "supervisor.sock").unlink()
    return found


def test_every_engine_is_asked_for_its_health(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ENGINE_SECONDS", 0.5)
    assert "does not run on this data folder" in doctor.engines(tmp_path).found
    assert "the first call to a model starts one" in check(tmp_path).found
    with ExitStack() as stack:
        well = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        stack.enter_context(serving(well))
        hanging = stack.enter_context(socket.create_server(("127.0.0.1", 0)))  # takes calls, and answers none
        urls = [f"http://127.0.0.1:{server.getsockname()[1]}" for server in (well.socket, hanging)]
        with socket.create_server(("127.0.0.1", 0)) as closed:
            gone = f"http://127.0.0.1:{closed.getsockname()[1]}"

        fine = check(tmp_path, urls[0], None)
        assert (fine.state, fine.remedy) == ("ok", "")
        assert "engine model-0 (answers, " in fine.found
        assert "engine model-1 (starting, " in fine.found

        busy = check(tmp_path, urls[0], urls[1])
        assert busy.state == "warning"
        assert f"engine model-1 (pid {os.getpid()}, " in busy.found
        assert "gave no answer within 0.5 s" in busy.found
        assert f"`kill {os.getpid()}`" in busy.remedy

        both = check(tmp_path, gone, urls[1])
        assert both.state == "error", "the worst of them counts"
        assert f"does not answer at {gone}" in both.found
        assert str(tmp_path / "logs") in both.remedy
        assert "if that lasts" in both.remedy


HOLDER = """
import sys, pathlib
from tunesmith.cli.lockfile import hold, sign
held = hold(pathlib.Path(sys.argv[1]) / "up.lock")
sign(held, int(sys.argv[2]))
print("held", flush=True)
sys.stdin.read()
"""


def test_it_says_what_it_looked_at_and_who_runs_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unused_tcp_port: int
) -> None:
    """The platform of the client profile runs on another data folder than the default, as after `tunesmith up --data-dir`."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("TUNESMITH_DATA_DIR", raising=False)
    monkeypatch.setenv("TUNESMITH_PORT", str(unused_tcp_port))
    (tmp_path / ".tunesmith").mkdir()
    profile = {"api_base": "http://127.0.0.1:9", "api_key": "k", "account_id": "local"}
    (tmp_path / ".tunesmith" / "profile.json").write_text(json.dumps(profile))
    other = tmp_path / "other"
    command = [sys.executable, "-c", HOLDER, str(other), "9"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        default, there = (
            CliRunner().invoke(doctor.command, arguments) for arguments in ([], ["--data-dir", str(other), "--json"])
        )
        holder.communicate("")
    lines = default.output.splitlines()
    assert lines[0].startswith(f"Data folder  {tmp_path / '.tunesmith' / 'data'} (the default); another: --data-dir")
    assert lines[1].startswith(f"Port         {unused_tcp_port} (TUNESMITH_PORT); another")
    assert lines[2].startswith("API          http://127.0.0.1:9 (")
    assert f"{other} on port 9 (process {holder.pid})" in default.output
    assert f"`tunesmith doctor --data-dir {other}` looks at it." in default.output
    found = json.loads(there.stdout)
    assert (found["lookedAt"]["dataDirFrom"], found["lookedAt"]["port"]) == ("--data-dir", 9)
    assert found["lookedAt"]["portFrom"] == f"process {holder.pid} runs there"
    assert holder.pid not in [each["pid"] for each in found["lookedAt"]["elsewhere"]]


@pytest.mark.parametrize(
    ("url", "state"),
    [
        ("http://127.0.0.1:8080", "warning"),
        ("http://localhost:8080", "warning"),
        ("http://[::1]:8080", "warning"),
        ("http://127.0.0.1:8081", "ok"),
        ("https://gpu.example:8080", "ok"),
        ("http://192.0.2.7:8080", "ok"),
        ("http://localhost:many", "ok"),
        (None, "ok"),
    ],
)
def test_a_profile_leads_elsewhere_on_this_machine_only(tmp_path: Path, url: str | None, state: str) -> None:
    """One platform runs on the data folder, another beside it on port 8080."""
    own, other = Running(tmp_path, 1, 8081), Running(tmp_path / "other", 2, 8080)
    place = Place(tmp_path, "the default", own.port, "process 1 runs there", url, own, (other,))
    (check,) = place.others()
    assert (check.state, bool(check.remedy)) == (state, state == "warning")
    (alone,) = replace(place, own=None).others()
    assert (alone.state, alone.remedy) == ("warning", f"`tunesmith doctor --data-dir {other.data_dir}` looks at it.")
