"""Progress on a terminal and in a log file."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios

import pytest
from eval_protocol.evaluation.progress import Lines

SCRIPT = """
from eval_protocol.evaluation.progress import for_stream
progress = for_stream()
progress.begin(2, 3)
for run in range(2):
    for _ in range(3):
        progress.rollout_done(run)
        progress.evaluation_done(run)
progress.end()
"""


@pytest.mark.parametrize("columns", [100, 0])
def test_a_terminal_gets_bars(columns: int):
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=slave, check=True)
    os.close(slave)
    drawn = b""
    try:
        while block := os.read(master, 65536):
            drawn += block
    except OSError:  # the terminal's other end is closed: there is no more
        pass
    os.close(master)
    text = drawn.decode()
    assert "Runs (Parallel): 100%" in text
    assert "2/2" in text
    for label in ("Run 1", "Eval 1", "Run 2", "Eval 2"):
        assert label in text


def test_a_log_file_gets_a_few_lines(capsys: pytest.CaptureFixture[str]):
    lines = Lines(sys.stdout)
    lines.begin(runs=2, rows=500)
    for number in range(1000):
        lines.rollout_done(number % 2)
        lines.evaluation_done(number % 2)
    lines.end()
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4
    assert printed[-1].startswith("Runs (Parallel): 100% of 2 runs: 1000/1000 rollouts scored")


def test_rollouts_that_failed_are_not_called_scored(capsys: pytest.CaptureFixture[str]):
    lines = Lines(sys.stdout)
    lines.begin(runs=1, rows=80)
    for _ in range(80):
        lines.rollout_done(0)
        lines.evaluation_done(0, failed=True)
    lines.end()
    printed = capsys.readouterr().out.splitlines()
    assert "80/80 rollouts, 80 failed [" in printed[-1]
    assert not [line for line in printed if "scored" in line]
