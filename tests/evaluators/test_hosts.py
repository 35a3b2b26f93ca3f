"""A host answers on its socket; from inside the sandbox nothing of the platform can be seen or changed."""

from __future__ import annotations

import json
import os
import signal
import socket
from pathlib import Path

import pytest
from tunesmith.errors import FailedPrecondition, InvalidArgument, Unavailable
from tunesmith.evaluators import protection
from tunesmith.evaluators.build import build
from tunesmith.evaluators.hosts import environment, start_host

EXPLORER = """
import os, pathlib, subprocess

def attempt(action):
    try:
        return repr(action())
    except Exception as error:
        return type(error).__name__

def test_it(message):
    if message.get("die"):
        os._exit(9)
    write = lambda path: pathlib.Path(path).write_text("x")
    return {
        "env": dict(os.environ),
        "read": {path: attempt(lambda: os.listdir(path) if os.path.isdir(path) else open(path).read()) for path in message["read"]},
        "write": {path: attempt(lambda: write(path)) for path in message["write"]},
        "pids": [name for name in os.listdir("/proc") if name.isdigit()],
        "uid": os.getuid(),
        "mount": attempt(lambda: subprocess.run(["mount", "-t", "tmpfs", "none", "/mnt"], check=True, capture_output=True)),
    }
"""
FILES = {"requirements.txt": "", "evaluation.py": EXPLORER}

needs_sandbox = pytest.mark.skipif(
    protection.chosen("auto").kind is not protection.Kind.BUBBLEWRAP and not os.environ.get("CI"),  # in CI it must work
    reason=protection.describe("auto"),
)


def ask(path: Path, message: dict) -> dict:
    with socket.socket(socket.AF_UNIX) as client, client.makefile("rwb") as stream:
        client.connect(str(path))
        stream.write(json.dumps(message).encode() + b"\n")
        stream.flush()
        return json.loads(stream.readline())


@pytest.fixture
async def host(request_for, settings, tmp_path):
    request = request_for(FILES)
    await build(request, settings)
    keys = settings.path("keys", "master.key")
    keys.write_text("very secret")
    secrets = {"JUDGE_KEY": "j", "LD_PRELOAD": "/evil.so", "FIREWORKS_API_KEY": "the user's own"}
    secrets["FIREWORKS_API_BASE"] = "https://elsewhere.example"
    env = environment(
        request.target,
        platform_url="http://127.0.0.1:7777",
        gateway_url="https://tunesmith.example.org/litellm-gateway",
        api_key="rollout",
        secrets=secrets,
    )
    running = await start_host(
        build_dir=request.target,
        entry_point=request.entry_point,
        socket=tmp_path / "s" / "h.sock",
        env=env,
        settings=settings,
        log_path=settings.path("logs", "host.log"),
    )
    yield running
    await running.stop()
    assert not running.process.running
    assert not running.socket.exists()


async def test_it_answers_and_its_environment_is_exact(host, settings):
    assert host.described["name"] == "test_it"
    env = ask(host.socket, {"type": "probe", "read": [], "write": []})["result"]["env"]
    assert env.pop("PATH") == f"{settings.data_dir}/evaluators/local/demo/1/venv/bin:/usr/local/bin:/usr/bin:/bin"
    env.pop("PWD", None)
    proxies = {env.pop(name) for name in ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy") if name in env}
    direct = {env.pop(name) for name in ("NO_PROXY", "no_proxy") if name in env}
    assert len(proxies) <= 1  # the sandbox's own, in all spellings
    assert direct <= {"localhost,127.0.0.1,::1"}
    assert env == {
        "EP_MODEL_BASE_URL": "https://tunesmith.example.org/litellm-gateway",
        "FW_TRACING_GATEWAY_BASE_URL": "https://tunesmith.example.org/litellm-gateway",
        "FIREWORKS_API_BASE": "http://127.0.0.1:7777",
        "FIREWORKS_BASE_URL": "http://127.0.0.1:7777",
        "FIREWORKS_API_KEY": "rollout",
        "EP_REMOTE_API_KEY": "rollout",
        "JUDGE_KEY": "j",
        "HOME": "/tmp",
        "LANG": "C.UTF-8",
    }


@needs_sandbox
async def test_the_sandbox_hides_the_platform_and_denies_writes(host, settings, tmp_path):
    build_dir = settings.data_dir / "evaluators" / "local" / "demo" / "1"
    read = [
        settings.data_dir,
        settings.data_dir / "keys" / "master.key",
        "/etc/shadow",
        Path.home() / ".tunesmith",
        "/proc/1/environ",
    ]
    write = [
        build_dir / "src" / "evaluation.py",
        build_dir / "venv" / "x",
        "/etc/x",
        "/usr/x",
        "/x",
        settings.data_dir / "x",  # lies below /tmp here: written to memory, never to the disk
        "/tmp/x",
    ]
    message = {"type": "probe", "read": [str(p) for p in read], "write": [str(p) for p in write]}
    seen = ask(host.socket, message)["result"]
    listed, key, shadow, profile, _ = seen["read"].values()
    assert listed == "['evaluators']"
    assert [key, shadow, profile] == ["FileNotFoundError"] * 3
    *denied, _, allowed = seen["write"].values()
    assert denied == ["OSError"] * len(denied)
    assert allowed == "1"
    assert not Path("/tmp/x").exists()
    assert not (settings.data_dir / "x").exists()
    assert seen["uid"] == 65534
    assert len(seen["pids"]) <= 4
    assert seen["mount"] == "CalledProcessError"


async def test_secrets_are_on_no_command_line(host):
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    assert not any(b"JUDGE_KEY" in command or b"FIREWORKS_API_KEY" in command for command in commands)


async def test_a_crash_is_seen_by_the_caller(host):
    with pytest.raises((ConnectionError, json.JSONDecodeError)):
        ask(host.socket, {"type": "probe", "die": True})
    assert await host.process.wait() in (9, -signal.SIGKILL)


async def test_a_module_that_no_longer_loads_is_reported_with_its_log(request_for, settings, tmp_path):
    request = request_for(FILES)
    await build(request, settings)
    (request.target / "src" / "evaluation.py").write_text("raise RuntimeError('moved away')\n")
    arguments = {"build_dir": request.target, "entry_point": request.entry_point, "env": {"PATH": os.environ["PATH"]}}
    log_path = settings.path("logs", "host.log")
    with pytest.raises((Unavailable, InvalidArgument), match="moved away"):
        await start_host(**arguments, socket=tmp_path / "s" / "h.sock", settings=settings, log_path=log_path)
    with pytest.raises(FailedPrecondition, match="too long for a unix socket"):
        await start_host(**arguments, socket=tmp_path / ("d" * 120) / "h.sock", settings=settings, log_path=log_path)
