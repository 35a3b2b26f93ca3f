"""`tunesmith up`: one start, the profile it writes, children that come back, a clean stop, and clear refusals."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import sqlite3
import stat
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path

import pytest
from tunesmith.cli.account import ensure_account_key
from tunesmith.cli.status import _UnixConnection
from tunesmith.db.session import open_database
from tunesmith.db.tables import Model
from tunesmith.settings import Settings

from tests.cli.conftest import alive, start_up, tunesmith, until

TINY = "accounts/tunesmith/models/tiny-math-v1"


def get(url: str, key: str = "") -> http.client.HTTPResponse:
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {key}"})
    return urllib.request.urlopen(request, timeout=10)


def healthy(url: str) -> bool:
    try:
        with get(f"{url}/health") as answer:
            return answer.status == 200
    except OSError:
        return False


def post_engines(up, body: dict) -> tuple[int, dict]:
    connection = _UnixConnection(up.data / "supervisor.sock")
    connection.timeout = 120
    connection.request("POST", "/engines", json.dumps(body))
    answer = connection.getresponse()
    result = answer.status, json.loads(answer.read())
    connection.close()
    return result


def test_it_says_where_everything_is_and_the_profile_works(up):
    text = "".join(up.lines)
    path = up.home / ".tunesmith" / "profile.json"
    assert f"Tunesmith is up at {up.url}" in text
    assert str(path) in text
    assert "sandbox: " in text
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert set(up.profile) == {"api_base", "api_key", "account_id"}
    assert up.profile["api_key"] not in text
    with get(f"{up.url}/verifyApiKey", up.profile["api_key"]) as answer:
        assert answer.headers["x-fireworks-account-id"] == up.profile["account_id"] == "local"
    assert stat.S_IMODE(up.data.stat().st_mode) == 0o700
    assert set(up.pids()) == {"supervisor", "web", "worker"}


def test_env_prints_the_exports_of_the_published_clients(up):
    exports = tunesmith(up.home, "env").stdout.splitlines()
    values = json.loads(tunesmith(up.home, "env", "--json").stdout)
    assert exports == [f"export {name}={value}" for name, value in values.items()]
    assert values == {
        "FIREWORKS_API_KEY": up.profile["api_key"],
        "FIREWORKS_API_BASE": up.url,
        "FIREWORKS_BASE_URL": up.url,
        "FIREWORKS_ACCOUNT_ID": "local",
        "EP_MODEL_BASE_URL": f"{up.url}/litellm-gateway",
        "FW_TRACING_GATEWAY_BASE_URL": f"{up.url}/litellm-gateway",
        "EP_LLM_API_BASE": f"{up.url}/inference/v1",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }


def test_status_shows_processes_and_memory(up):
    shown = json.loads(tunesmith(up.home, "status", "--data-dir", str(up.data), "--json").stdout)
    assert {process["name"]: process["pid"] for process in shown["processes"]} == up.pids()
    assert all(process["rss_bytes"] > 10 << 20 for process in shown["processes"])
    assert shown["health"] == f"{up.url} answers"
    assert "worker" in tunesmith(up.home, "status", "--data-dir", str(up.data)).stdout


def test_rftj_lists_and_refuses_like_the_api(up):
    assert "No RFT jobs yet" in tunesmith(up.home, "rftj", "list").stdout
    assert json.loads(tunesmith(up.home, "rftj", "list", "--json").stdout) == []
    for verb in ("get", "cancel", "delete"):
        done = tunesmith(up.home, "rftj", verb, "nobody")
        assert done.returncode == 1
        assert "nobody" in done.stderr
        assert "Traceback" not in done.stderr


def test_a_second_up_says_who_holds_the_folder(up):
    done = tunesmith(up.home, "up", "--data-dir", str(up.data))
    assert done.returncode == 1
    assert f"process {up.process.pid} on port {up.url.rsplit(':', 1)[1]} since 20" in done.stderr


def test_a_taken_port_is_named_with_the_option(up, tmp_path):
    port = up.url.rsplit(":", 1)[1]
    done = tunesmith(tmp_path, "up", "--data-dir", str(tmp_path / "other"), "--port", port)
    assert done.returncode == 1
    assert f"Port {port} on 127.0.0.1 cannot be used" in done.stderr
    assert "--port" in done.stderr


def test_a_start_that_fails_leaves_the_profile_of_a_healthy_platform(up, tmp_path):
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "completions.db")) as somebody_elses:
        somebody_elses.execute("CREATE TABLE completions (x)")
    before = up.profile
    done = tunesmith(up.home, "up", "--data-dir", str(tmp_path / "data"), "--port", "0")
    assert done.returncode == 1
    assert "ended with status" in done.stderr
    assert up.profile == before


@pytest.mark.parametrize("name", ["tunesmith.db", "completions.db"])
def test_a_damaged_database_is_named_with_the_way_out(tmp_path, name):
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / name).write_text("not a database " * 100)
    done = tunesmith(tmp_path / "home", "up", "--data-dir", str(tmp_path / "data"), "--port", "0")
    assert done.returncode == 1
    assert f"{name} cannot be read (file is not a database). Bring it back from a backup" in done.stderr


def test_an_engine_starts_on_demand_and_again_after_a_crash(up):
    status, body = post_engines(up, {"base_model": "accounts/nobody/models/none"})
    assert (status, body["error"]["code"]) == (404, "NOT_FOUND")
    assert "accounts/nobody/models/none" in body["error"]["message"]
    assert post_engines(up, {"model": "x"})[0] == 400
    status, first = post_engines(up, {"base_model": TINY})
    assert (status, first["base_model"]) == (200, TINY)
    assert healthy(first["url"])
    assert post_engines(up, {"base_model": TINY})[1] == first
    assert up.pids()[f"engine {TINY}"] == first["pid"]
    os.kill(first["pid"], signal.SIGKILL)
    # Its threads may outlive its main thread for an instant, in which it still counts as running.
    second = until(lambda: (answer := post_engines(up, {"base_model": TINY})[1]) != first and answer)
    assert second["pid"] != first["pid"]
    assert healthy(second["url"])


def test_an_unknown_model_is_answered_with_what_can_be_called(up):
    sessions = open_database(up.data / "tunesmith.db")
    row = Model(
        name="accounts/local/models/mine", account="accounts/local", base_model=TINY, adapter_path="/x", sha256="0"
    )
    with sessions.begin() as session:
        session.add(row)
    sessions.kw["bind"].dispose()
    body = {"model": "accounts/local/models/nine", "messages": [{"role": "user", "content": "x"}]}
    request = urllib.request.Request(
        f"{up.url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Authorization": f"Bearer {up.profile['api_key']}", "Content-Type": "application/json"},
    )
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(request, timeout=60)
    with caught.value as error:
        assert error.code == 404
        message = json.loads(error.read())["error"]["message"]
    assert "'accounts/local/models/nine'" in message
    assert f"This key can call: {TINY}, " in message
    assert message.endswith(", accounts/local/models/mine.")
    assert "qwen3" not in message


def test_a_killed_child_comes_back(up):
    before = up.pids()
    os.kill(before["web"], signal.SIGKILL)
    os.kill(before["worker"], signal.SIGKILL)

    def both_are_new() -> bool:
        now = up.pids()  # without a child that is yet to be started again
        return all(now.get(name, before[name]) != before[name] for name in ("web", "worker"))

    until(both_are_new)
    until(lambda: healthy(up.url))


def test_sigterm_stops_every_child_within_seconds_and_the_next_start_keeps_the_key(up):
    """Last in this file: it ends the shared platform."""
    pids, key = up.pids(), up.profile["api_key"]
    assert len(pids) == 4
    started = time.monotonic()
    assert up.stop() == 0
    assert time.monotonic() - started < 10
    assert not [name for name, pid in pids.items() if alive(pid)]
    assert not (up.data / "supervisor.json").exists()
    assert not (up.data / "supervisor.sock").exists()
    assert up.lines[-1] == "Stopped.\n"

    again = start_up(up.home, up.data).wait_until_up()
    children = again.pids()
    assert again.profile["api_key"] == key
    again.process.kill()  # and without a word to anybody, the kernel stops the children
    again.process.wait()
    until(lambda: not [name for name, pid in children.items() if alive(pid)])
    assert again.process.stdout is not None
    again.process.stdout.close()


def test_a_profile_of_another_platform_is_replaced_and_said_so(tmp_path):
    folder = tmp_path / "home" / ".tunesmith"
    folder.mkdir(parents=True)
    old = {"api_base": "http://127.0.0.1:1", "api_key": "ts_0_0", "account_id": "local"}
    (folder / "profile.json").write_text(json.dumps(old))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        done = tunesmith(tmp_path / "home", "up", "--data-dir", str(tmp_path / "data"), "--port", port)
    assert done.returncode == 1
    assert json.loads((folder / "profile.json").read_text()) == old  # a start that fails takes nothing away
    running = start_up(tmp_path / "home", tmp_path / "data").wait_until_up()
    assert running.stop() == 0
    aside = folder / "profile-1.json"
    assert f"in place of the profile of http://127.0.0.1:1, now {aside}" in "".join(running.lines)
    assert json.loads(aside.read_text()) == old
    assert stat.S_IMODE(aside.stat().st_mode) == 0o600
    assert running.profile["api_key"] != "ts_0_0"
    own = running.data / "keys" / "account.key"
    assert own.read_text().strip() == running.profile["api_key"]
    assert stat.S_IMODE(own.stat().st_mode) == 0o600
    assert running.process.stdout is not None
    running.process.stdout.close()


def test_the_folder_keeps_its_key_when_the_profile_is_gone(tmp_path):
    settings = Settings(data_dir=tmp_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(tmp_path / "home"))
        key = ensure_account_key(settings)
        assert ensure_account_key(settings) == key
        (tmp_path / "keys" / "account.key").write_text("ts_000000000000_" + 48 * "0" + "\n")
        fresh = ensure_account_key(settings)
        assert fresh != key
        assert (tmp_path / "keys" / "account.key").read_text() == f"{fresh}\n"


def test_folders_that_cannot_be_used_are_one_clear_line(tmp_path):
    for home, arguments in (
        (tmp_path, ["--data-dir", "/etc/passwd"]),
        (tmp_path, ["--data-dir", "/proc/x"]),
        (tmp_path, ["--data-dir", str(tmp_path / ("x" * 100))]),
        (Path("/proc/nohome"), []),
        (Path("/proc/nohome"), ["--data-dir", str(tmp_path / "d")]),
    ):
        done = tunesmith(home, "up", "--port", "0", *arguments)
        assert done.returncode == 1
        assert done.stderr.startswith("Error: The ")
        assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / ("x" * 100)).exists()


def test_strict_without_a_sandbox_does_not_start(tmp_path):
    done = tunesmith(
        tmp_path, "up", "--data-dir", str(tmp_path / "d"), "--port", "0", TUNESMITH_SANDBOX="strict", PATH=""
    )
    assert done.returncode == 1
    assert "bubblewrap (bwrap) is not installed" in done.stderr
    assert not (tmp_path / ".tunesmith" / "profile.json").exists()


def test_without_a_platform_commands_say_what_to_start(tmp_path):
    for arguments in (["env"], ["rftj", "list"], ["status", "--data-dir", str(tmp_path / "d")]):
        done = tunesmith(tmp_path, *arguments)
        assert done.returncode == 1
        assert "tunesmith up" in done.stderr
        assert "Traceback" not in done.stderr


def test_help_is_quick_and_imports_no_command(tmp_path):
    done = tunesmith(tmp_path, "--help")
    assert "tunesmith up" in done.stdout
    script = "import sys; from tunesmith.cli import main; main(['--help'], standalone_mode=False); print('pydantic' in sys.modules)"
    import subprocess
    import sys

    heavy = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert heavy.stdout.splitlines()[-1] == "False"
    for command in ("up", "env", "rftj", "status"):
        assert "Examples:" in tunesmith(tmp_path, command, "--help").stdout
