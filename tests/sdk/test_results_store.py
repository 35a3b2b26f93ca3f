"""The local results store: batching, crashes, several processes, and reading back."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest
from eval_protocol.errors import ResultsError, UsageError
from eval_protocol.models import EvaluateResult, EvaluationRow, Message, Status
from eval_protocol.results import ResultsStore, list_invocations, rows_of


def row(number: int, invocation: str = "inv", experiment: str = "exp") -> EvaluationRow:
    made = EvaluationRow(messages=[Message(role="user", content="q" * 200)])
    ids = made.execution_metadata
    ids.rollout_id, ids.invocation_id, ids.experiment_id = f"{invocation}-{number}", invocation, experiment
    return made


def test_the_last_state_of_a_row_is_kept(tmp_path: Path):
    path = tmp_path / "deep" / "results.db"
    with ResultsStore(path) as store:
        mine = row(1)
        store.log(mine)
        store.flush()
        assert rows_of(path, "inv")[0].row.rollout_status.is_running()
        mine.rollout_status = Status.rollout_finished("stop")
        mine.evaluation_result = EvaluateResult(score=0.5, reason="r")
        store.log(mine)
        mine.evaluation_result.score = 0.9  # what was logged is what counts, not what happens to the object later
    [stored] = rows_of(path, "inv")
    assert stored.row.rollout_status.is_finished()
    assert stored.row.evaluation_result.score == 0.5  # type: ignore[union-attr]


def test_rows_are_listed_by_invocation_and_experiment(tmp_path: Path):
    path = tmp_path / "results.db"
    with ResultsStore(path) as store:
        for number in range(30):
            made = row(number, "first" if number < 10 else "second", f"e{number % 2}")
            made.rollout_status = Status.rollout_error("x") if number == 11 else Status.rollout_finished()
            made.evaluation_result = None if number == 11 else EvaluateResult(score=1, is_score_valid=number != 12)
            store.log(made)
    second, first = list_invocations(path)
    assert (first.invocation_id, first.rollouts, first.mean_score) == ("first", 10, 1)
    assert (second.rollouts, second.failed, second.valid, second.running) == (20, 1, 18, 0)
    assert [entry.row.execution_metadata.rollout_id for entry in rows_of(path, "first", experiment_id="e1")] == [
        f"first-{number}" for number in (1, 3, 5, 7, 9)
    ]
    assert len(rows_of(path, "second", limit=5, offset=18)) == 2
    assert list_invocations(path, limit=1)[0].invocation_id == "second"


def test_short_rows_stay_short_and_are_written_together(tmp_path: Path):
    path = tmp_path / "results.db"
    started = time.process_time()
    with ResultsStore(path) as store:
        for number in range(1000):
            made = row(number)
            store.log(made)
            made.rollout_status = Status.rollout_finished()
            store.log(made)
    assert time.process_time() - started < 2
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) / 1000 < 3000


KILLED = """
import os, signal, sys, time
sys.path.insert(0, {root!r})
from tests.sdk.test_results_store import row
from eval_protocol.models import Status
from eval_protocol.results import ResultsStore
from pathlib import Path
store = ResultsStore(Path({path!r}))
for number in range(20):
    made = row(number, "killed")
    made.rollout_status = Status.rollout_finished() if number < 15 else made.rollout_status
    store.log(made)
store.flush()
print("written", flush=True)
time.sleep(60)
"""


def test_what_was_committed_survives_kill_9_and_the_rest_is_aborted(tmp_path: Path):
    path = tmp_path / "results.db"
    code = KILLED.format(root=os.getcwd(), path=str(path))
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process.stdout as output:
        assert output.readline() == "written\n"
        running = list_invocations(path)[0]
        assert (running.running, running.aborted) == (5, 0)
        process.send_signal(signal.SIGKILL)
        process.wait()
    [invocation] = list_invocations(path)
    assert (invocation.rollouts, invocation.running, invocation.aborted) == (20, 0, 5)
    statuses = [entry.row.rollout_status for entry in rows_of(path, "killed")]
    assert all(status.is_finished() for status in statuses[:15])
    assert all(status.is_stopped() and "ended before" in status.message for status in statuses[15:])
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_a_reused_pid_is_not_taken_for_the_old_process(tmp_path: Path):
    path = tmp_path / "results.db"
    with ResultsStore(path) as store:
        store.log(row(1))
    assert list_invocations(path)[0].running == 1
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("UPDATE summaries SET process_started = '1'")
    connection.close()
    assert list_invocations(path)[0].aborted == 1


def test_several_processes_write_at_once(tmp_path: Path):
    path = tmp_path / "results.db"
    code = (
        f"import sys; sys.path.insert(0, {os.getcwd()!r})\n"
        "from pathlib import Path\nfrom tests.sdk.test_results_store import row\n"
        "from eval_protocol.results import ResultsStore\n"
        f"with ResultsStore(Path({str(path)!r})) as store:\n"
        "    for number in range(200): store.log(row(number, sys.argv[1]))\n"
    )
    processes = [subprocess.Popen([sys.executable, "-c", code, f"inv{i}"]) for i in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    assert sorted(entry.rollouts for entry in list_invocations(path)) == [200] * 4


def test_trouble_is_told(tmp_path: Path):
    blocked = tmp_path / "file"
    blocked.write_text("not a database, and long enough for SQLite to look at its header: " + "x" * 200)
    with pytest.raises(ResultsError, match="EP_RESULTS_DB"):
        ResultsStore(blocked)
    with pytest.raises(ResultsError, match="cannot be opened"):
        ResultsStore(blocked / "below" / "results.db")
    with ResultsStore(tmp_path / "r.db") as store, pytest.raises(UsageError, match="rollout_id"):
        store.log(EvaluationRow())


def test_a_write_that_fails_is_told_at_the_end(tmp_path: Path):
    store = ResultsStore(tmp_path / "r.db")
    connection = sqlite3.connect(tmp_path / "r.db")
    with connection:
        connection.execute("DROP TABLE rollouts")
    connection.close()
    store.log(row(1))
    with pytest.raises(ResultsError, match="could not be written"):
        store.close()


def test_a_store_from_the_future_is_left_alone(tmp_path: Path):
    connection = sqlite3.connect(tmp_path / "r.db")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ResultsError, match="newer version"):
        ResultsStore(tmp_path / "r.db")
