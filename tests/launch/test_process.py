"""Children end when asked, when their parent dies, and take their descendants with them. Real processes throughout."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from tunesmith.launch import logs, run, start

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"]
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
FAMILY = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
PARENT = """
import asyncio, sys
from pathlib import Path
from tunesmith.launch import start
async def main():
    child = start([sys.executable, "-c", "import time; time.sleep(60)"], name="child")
    print(child.pid, flush=True)
    await child.wait()
asyncio.run(main())
"""


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def until(condition, seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited too long"
        await asyncio.sleep(0.02)


async def test_output_environment_and_exit_status(tmp_path: Path):
    log = tmp_path / "logs" / "a.log"
    script = "import os, sys; print(os.environ['X'], os.getcwd()); sys.exit(3)"
    process = start([sys.executable, "-c", script], name="a", log_path=log, env={"X": "42"}, cwd=tmp_path)
    assert await process.wait() == 3
    assert log.read_text() == f"42 {tmp_path}\n"
    assert process.log_tail() == f"42 {tmp_path}"


async def test_a_missing_program_is_status_127_and_named(tmp_path: Path):
    process = start(["no-such-program"], name="x", log_path=tmp_path / "x.log")
    assert await process.wait() == 127
    assert "no-such-program" in process.log_tail()


async def test_stop_terms_then_kills(tmp_path: Path):
    polite = start(SLEEP, name="polite", log_path=tmp_path / "polite.log")
    stubborn = start([sys.executable, "-c", STUBBORN], name="stubborn", log_path=tmp_path / "stubborn.log")
    await until(lambda: "up" in polite.log_tail() and "up" in stubborn.log_tail())
    assert await polite.stop() == -signal.SIGTERM
    assert await stubborn.stop(grace=0.2) == -signal.SIGKILL
    assert await stubborn.stop() == -signal.SIGKILL


async def test_stop_takes_the_whole_group(tmp_path: Path):
    process = start([sys.executable, "-c", FAMILY], name="family", log_path=tmp_path / "f.log")
    await until(lambda: process.log_tail().strip().isdigit())
    grandchild = int(process.log_tail())
    assert alive(grandchild)
    os.kill(process.pid, signal.SIGKILL)  # it cannot pass this on; we do
    assert await process.wait() == -signal.SIGKILL
    await until(lambda: not alive(grandchild))


async def test_a_child_dies_when_its_parent_is_killed():
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", PARENT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    assert alive(child)
    parent.kill()
    await parent.wait()
    await until(lambda: not alive(child))


async def test_the_log_of_a_talkative_child_stays_short(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(logs, "LONGEST_LOG", 4 << 20)
    monkeypatch.setattr(logs, "HEAD", 64 << 10)
    monkeypatch.setattr(logs, "TAIL", 256 << 10)
    monkeypatch.setattr(logs, "WATCH_SECONDS", 0.05)
    script = "print('first'); [print('x' * 99, flush=i % 999 == 0) for i in range(600_000)]; print('last')"
    log = tmp_path / "l.log"
    process = start([sys.executable, "-c", script], name="l", log_path=log)
    assert await process.wait() == 0
    await until(lambda: log.stat().st_size < 5 << 20)
    lines = log.read_text().splitlines()
    assert (lines[0], lines[-1]) == ("first", "last")
    assert [line for line in lines if "left out" in line] == ["... this log passed 4 MiB; its middle was left out ..."]
    torn = [line for line in lines[1:-1] if "left out" not in line and line not in ("", "x" * 99)]
    assert len(torn) <= 2, "only what was written in the instant of the cut may be torn"
    assert set("".join(torn)) <= {"x"}


def test_a_log_without_lines_is_cut_too(tmp_path: Path):
    log = tmp_path / "l.log"
    log.write_bytes(b"x" * (logs.LONGEST_LOG + 1))
    logs.cut(log)
    assert log.read_text() == "\n... this log passed 32 MiB; its middle was left out ...\n"


async def test_several_waiters_and_a_cancelled_wait():
    process = start(SLEEP, name="w", log_path=Path(os.devnull))
    first, second = asyncio.create_task(process.wait()), asyncio.create_task(process.wait())
    await asyncio.sleep(0.05)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert process.running
    await process.stop()
    assert await second == -signal.SIGTERM


async def test_run_has_a_time_limit():
    with pytest.raises(TimeoutError):
        await run(SLEEP, name="slow", timeout=0.3, log_path=Path(os.devnull))
    assert await run(["true"], name="quick", timeout=10) == 0


async def test_peak_memory_is_of_the_program_and_its_descendants(tmp_path: Path):
    script = "x = bytearray(64 << 20); print('up', flush=True); import time; time.sleep(60)"
    alone = start([sys.executable, "-c", script], name="big", log_path=tmp_path / "b.log")
    wrapped = start(
        ["sh", "-c", '"$@"; true', "sh", sys.executable, "-c", script], name="w", log_path=tmp_path / "w.log"
    )
    await until(lambda: "up" in alone.log_tail() and "up" in wrapped.log_tail())
    for process in (alone, wrapped):
        assert 64 << 20 < process.peak_rss() < 128 << 20
        await process.stop()
        assert process.peak_rss() > 64 << 20


def test_starting_from_another_thread_is_refused():
    caught: list[BaseException] = []

    def attempt() -> None:
        try:
            start(["true"], name="t")
        except RuntimeError as error:
            caught.append(error)

    thread = threading.Thread(target=attempt)
    thread.start()
    thread.join()
    assert "main thread" in str(caught[0])
