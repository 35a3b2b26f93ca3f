"""The sandbox's policies, its report, its limits, and that it hides the data folder wherever that lies."""

from __future__ import annotations

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tunesmith.errors import FailedPrecondition, InvalidArgument
from tunesmith.evaluators import landlock, protection, sandbox, seccomp
from tunesmith.evaluators.sandbox import Limits

needs_sandbox = pytest.mark.skipif(
    protection.chosen("auto").kind is not protection.Kind.BUBBLEWRAP and not os.environ.get("CI"),  # in CI it must work
    reason=protection.describe("auto"),
)
PYTHON = os.path.realpath(sys.executable)


def call(script: str, *, policy: str = "auto", **options) -> subprocess.CompletedProcess[str]:
    values = {"read_only": [], "writable": [], **options}
    argv = sandbox.command([PYTHON, "-I", "-c", script], policy=policy, **values)
    return subprocess.run(
        argv, capture_output=True, text=True, env={"PATH": os.environ["PATH"]}, timeout=60, check=False
    )


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch):
    protection.probe.cache_clear()
    folder = Path(__file__).parent / "none"
    monkeypatch.setenv("PATH", str(folder))
    yield
    monkeypatch.undo()
    protection.probe.cache_clear()


def test_without_bubblewrap_auto_takes_landlock_and_says_so_strict_refuses(no_bubblewrap):
    found = protection.chosen("auto")
    assert found.degraded
    assert "apt-get install bubblewrap" in found.reason
    if landlock.abi():
        assert found.kind is protection.Kind.LANDLOCK
        assert protection.describe("auto").startswith("sandbox: DEGRADED, Landlock only")
    else:
        assert "NONE" in protection.describe("auto")
    with pytest.raises(FailedPrecondition, match="strict"):
        protection.chosen("strict")


def test_off_and_unknown_policies():
    assert not protection.active("off")
    assert "switched off" in protection.describe("off")
    with pytest.raises(InvalidArgument, match="auto, strict, off"):
        protection.active("maybe")


@pytest.mark.parametrize("policy", ["auto", "off"])
def test_limits_hold_with_and_without_the_sandbox(policy):
    hungry = call("x = bytearray(600 << 20)", policy=policy, limits=Limits(memory_bytes=300 << 20))
    assert "MemoryError" in hungry.stdout
    busy = call("while True: pass", policy=policy, limits=Limits(cpu_seconds=1))
    assert busy.returncode != 0
    big = "f = open('/tmp/tunesmith-big', 'wb')\nimport os; os.unlink(f.name)\nf.write(bytes(3 << 20)); f.flush()"
    assert "File too large" in call(big, policy=policy, limits=Limits(file_bytes=1 << 20)).stdout
    files = call("fs = [open('/dev/null') for _ in range(200)]", policy=policy, limits=Limits(open_files=100))
    assert "Too many open files" in files.stdout


@needs_sandbox
def test_tmp_is_bounded():
    done = call("open('/tmp/x', 'wb').write(bytes(8 << 20))", limits=Limits(tmp_bytes=1 << 20))
    assert "No space left" in done.stdout


@needs_sandbox
def test_a_data_folder_below_a_shown_folder_stays_hidden():
    folder = Path(sys.base_prefix) / "lib"
    shown = call(f"import os; print(os.listdir({str(folder)!r}))")
    covered = Path(sys.base_prefix) / "include"
    done = call(f"import os; print(os.listdir({str(covered)!r})); open({str(covered / 'x')!r}, 'w')", hidden=[covered])
    assert shown.stdout.strip() not in ("", "[]")
    assert "[]" in done.stdout.splitlines()
    assert "Read-only file system" in done.stdout


@needs_sandbox
def test_only_the_writable_folder_is_written(tmp_path: Path):
    (tmp_path / "w").mkdir()
    (tmp_path / "r").mkdir()
    script = f"open({str(tmp_path / 'w' / 'a')!r}, 'w').write('1'); open({str(tmp_path / 'r' / 'a')!r}, 'w')"
    done = call(script, writable=[tmp_path / "w"], read_only=[tmp_path / "r"], cwd=tmp_path / "w")
    assert "Read-only file system" in done.stdout
    assert (tmp_path / "w" / "a").read_text() == "1"


LOOK = """
import json, os, socket, subprocess
found = {}
def attempt(name, action):
    try:
        found[name] = repr(action())
    except OSError as error:
        found[name] = type(error).__name__
def connect(port):
    socket.create_connection(("127.0.0.1", port), timeout=5).close()
attempt("own", lambda: open(OWN).read())
attempt("data", lambda: open(DATA).read())
attempt("shadow", lambda: open("/etc/shadow").read())
attempt("write own", lambda: open(OWN, "w"))
attempt("write tmp", lambda: open("/tmp/landlock-x", "w"))
attempt("write scratch", lambda: open(SCRATCH + "/x", "w").close())
attempt("kill", lambda: os.kill(os.getppid(), 0))
attempt("environment", lambda: open(f"/proc/{os.getppid()}/environ").read())
attempt("allowed port", lambda: connect(ALLOWED))
attempt("other port", lambda: connect(OTHER))
attempt("udp", lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
attempt("child", lambda: subprocess.run(["true"], check=True).returncode)
proxy = os.environ["HTTP_PROXY"].rsplit(":", 1)[1]
with socket.create_connection(("127.0.0.1", int(proxy)), timeout=5) as client:
    client.sendall(b"CONNECT 1.1.1.1:443 HTTP/1.1\\r\\n\\r\\n")
    found["proxy"] = client.recv(100).split(b" ")[1].decode()
print(json.dumps(found))
"""


@pytest.mark.skipif(landlock.abi() < landlock.WITH_SCOPES, reason="this kernel's Landlock is too old, or not there")
def test_landlock_confines_files_ports_and_signals_where_bubblewrap_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("env", "prlimit", "true"):
        (programs / name).symlink_to(str(shutil.which(name)))
    own, data, scratch = tmp_path / "own.txt", tmp_path / "data" / "key", tmp_path / "scratch"
    data.parent.mkdir()
    scratch.mkdir()
    own.write_text("own")
    data.write_text("secret")
    protection.probe.cache_clear()
    monkeypatch.setenv("PATH", str(programs))
    try:
        with socket.create_server(("127.0.0.1", 0)) as allowed, socket.create_server(("127.0.0.1", 0)) as other:
            ports = allowed.getsockname()[1], other.getsockname()[1]
            script = LOOK.replace("OWN", repr(str(own))).replace("DATA", repr(str(data)))
            script = script.replace("SCRATCH", repr(str(scratch))).replace("ALLOWED", str(ports[0]))
            network = sandbox.Network(tmp_path / "net", hosts=[("127.0.0.1", ports[0])])
            done = call(
                script.replace("OTHER", str(ports[1])),
                network=network,
                read_only=[own],
                writable=[scratch],
                cwd=scratch,
            )
    finally:
        monkeypatch.undo()
        protection.probe.cache_clear()
    found = json.loads(done.stdout.splitlines()[-1])
    assert found.pop("proxy") == "403"
    assert "1.1.1.1:443" in done.stdout
    assert found == {
        "own": "'own'",
        "data": "PermissionError",
        "shadow": "PermissionError",
        "write own": "PermissionError",
        "write tmp": "PermissionError",
        "write scratch": "None",
        "kill": "PermissionError",
        "environment": "PermissionError",
        "allowed port": "None",
        "other port": "PermissionError",
        "udp": "PermissionError",
        "child": "0",
    }


def test_there_is_a_filter_for_both_processors():
    for machine in ("x86_64", "aarch64"):
        program = seccomp.program(machine=machine)
        assert len(program) % 8 == 0
        lengths = len(program) // 8
        for index, (code, yes, no, _) in enumerate(struct.iter_unpack("<HBBI", program)):
            if code & 7 == 5:  # every jump stays inside
                assert index + 1 + max(yes, no) < lengths
