"""The store's second version: upgrade in place, lines, notification, rollouts whose process died."""

from __future__ import annotations

import json
import logging
import os
import select
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from eval_protocol.models import EvalMetadata, EvaluationRow, Message, Status
from eval_protocol.pytest import NoOpRolloutProcessor, evaluation_test
from eval_protocol.results import ResultsStore, changes, list_invocations, presence, rows_of
from eval_protocol.results.capture import LEFT_OUT, keeping_lines
from eval_protocol.results.logs import MOST_LINES, lines_of
from eval_protocol.results.lost import abort_lost, running_processes
from eval_protocol.results.schema import connect
from eval_protocol.results.watch import Caller, Ear, watch_folder
from eval_protocol.rollouts import RolloutProcessor
from eval_protocol.settings import RunSettings
from eval_protocol.tracing.filters import rollout_logging_context

VERSION_1 = """
CREATE TABLE rollouts (
    rollout_id TEXT PRIMARY KEY, invocation_id TEXT, experiment_id TEXT, run_id TEXT, row_id TEXT, name TEXT, model TEXT,
    status INTEGER NOT NULL, score REAL, is_score_valid INTEGER, created REAL NOT NULL, updated REAL NOT NULL,
    host TEXT NOT NULL, pid INTEGER NOT NULL, process_started TEXT NOT NULL, data TEXT NOT NULL
) STRICT;
CREATE INDEX rollouts_by_invocation ON rollouts (invocation_id, created);
CREATE INDEX rollouts_by_created ON rollouts (created);
PRAGMA user_version = 1;
"""


def row(rollout_id: str, *, running: bool = False) -> EvaluationRow:
    made = EvaluationRow(messages=[Message(role="user", content="Why?"), Message(role="assistant", content="So.")])
    made.execution_metadata.rollout_id, made.execution_metadata.invocation_id = rollout_id, "inv"
    made.eval_metadata = EvalMetadata(name="e", status=Status.eval_running())
    if not running:
        made.rollout_status = Status.rollout_finished()
    return made


def test_a_store_of_version_1_opens_and_keeps_its_rows(tmp_path: Path):
    path = tmp_path / "results.db"
    old = sqlite3.connect(path)
    old.executescript(VERSION_1)
    for number in range(1200):
        data = row(f"r{number}").model_dump_json(exclude_none=True, by_alias=True)
        record = (
            f"r{number}",
            "inv",
            None,
            None,
            None,
            "e",
            None,
            100,
            None,
            None,
            1000.0 + number,
            2.0,
            "h",
            1,
            "",
            data,
        )
        old.execute(f"INSERT INTO rollouts VALUES ({', '.join('?' * 16)})", record)
    old.commit()
    assert list_invocations(path)[0].rollouts == 1200
    connection = connect(path)
    found = connection.execute(
        "SELECT prompt, answer, turns, created FROM summaries WHERE rollout_id = 'r7'"
    ).fetchone()
    assert found == ("Why?", "So.", 1, 1007.0)
    assert rows_of(path, "inv", limit=1)[0].row.messages[0].text == "Why?"
    connection.close()
    # a writer of the old version that is still at work does no harm
    old.execute("UPDATE rollouts SET updated = 3")
    old.commit()
    old.close()


def test_changes_are_ids_that_only_grow(tmp_path: Path):
    path = tmp_path / "results.db"
    with ResultsStore(path) as store:
        connection = connect(path)
        start = changes.now(connection)
        store.log(row("a", running=True))
        store.log(row("b"))
        store.flush()
        first = changes.since(connection, start)
        assert first.rollout_ids == ("a", "b")
        assert not changes.since(connection, first.place)
        store.log(row("a"))
        with rollout_logging_context("b"), keeping_lines(store.log_line):
            logging.getLogger("some.thing").warning("hello %s", "you")
        store.log(row("b-t1"), replaces="b")
        store.flush()
        second = changes.since(connection, first.place)
        assert second.rollout_ids == ("a", "b-t1")
        assert second.logged == ("b-t1",)  # what the first try logged goes with the rollout
        [line] = lines_of(connection, "b-t1")
        assert (line.message, line.level, line.logger) == ("hello you", "WARNING", "some.thing")
        assert changes.Place.read(str(second.place)) == second.place == changes.now(connection)
        assert changes.Place.read("a.b") is changes.Place.read(None) is changes.Place.read("9" * 40 + ".1") is None
        connection.close()


@pytest.mark.parametrize("deep", [False, True])
def test_a_commit_wakes_every_ui_and_needs_none(tmp_path: Path, deep: bool):
    folder = tmp_path / ("long" * 40 if deep else "short")  # deep: longer than the address of a socket may be
    path = folder / "results.db"
    with ResultsStore(path) as store:
        store.log(row("a"))
        store.flush()
        ears = [Ear(path), Ear(path)]
        for number in range(500):  # far more than a queue of words holds, and nobody takes them
            store.log(row(f"n{number}"))
            store.flush()
        for ear in ears:
            assert select.select([ear.socket], [], [], 5)[0]
            ear.drain()
            assert not select.select([ear.socket], [], [], 0)[0]
        ears[0].close()
        store.log(row("b"))
        store.flush()
        assert select.select([ears[1].socket], [], [], 5)[0]
        ears[1].close()
    assert list(watch_folder(path).iterdir()) == []


def test_the_socket_of_a_dead_ui_is_removed(tmp_path: Path):
    path = tmp_path / "results.db"
    code = f"import os; from pathlib import Path; from eval_protocol.results.watch import Ear; Ear(Path({str(path)!r})); os._exit(0)"
    subprocess.run([sys.executable, "-c", code], check=True)
    living = Ear(path)
    assert len(list(watch_folder(path).iterdir())) == 1
    with closing(Caller(path)) as caller:
        caller.call()
    assert select.select([living.socket], [], [], 5)[0]
    living.close()


def test_rollouts_of_a_dead_process_are_recorded_as_aborted(tmp_path: Path):
    path = tmp_path / "results.db"
    code = (
        f"import sys, os; sys.path.insert(0, {str(Path(__file__).parents[2])!r}); from pathlib import Path\n"
        "from tests.sdk.test_results_changes import row; from eval_protocol.results import ResultsStore\n"
        f"store = ResultsStore(Path({str(path)!r})); store.log(row('lost', running=True)); store.log(row('done')); store.flush(); os._exit(0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    with ResultsStore(path) as store:
        store.log(row("mine", running=True))
        store.flush()
        connection = connect(path)
        assert len(running_processes(connection)) == 2
        place = changes.now(connection)
        assert abort_lost(connection) == 1
        assert abort_lost(connection) == 0
        assert changes.since(connection, place).rollout_ids == ("lost",)
        status = {r.row.execution_metadata.rollout_id: r.row for r in rows_of(path, "inv")}
        assert status["lost"].rollout_status.code == Status.Code.ABORTED
        assert status["lost"].eval_metadata.status.code == Status.Code.ABORTED  # type: ignore[union-attr]
        assert status["lost"].messages[1].text == "So."
        assert status["mine"].rollout_status.is_running()
        [invocation] = list_invocations(path)
        assert (invocation.running, invocation.aborted, invocation.failed) == (1, 1, 0)
        store.log(row("lost"))  # it was alive after all
        store.flush()
        assert list_invocations(path)[0].aborted == 0
        connection.close()


def test_lines_are_bounded_and_belong_to_their_rollout(tmp_path: Path):
    path, log = tmp_path / "results.db", logging.getLogger("chatty")
    with ResultsStore(path) as store, keeping_lines(store.log_line):
        log.warning("outside of any rollout")
        with rollout_logging_context("a"):
            for number in range(MOST_LINES + 10):
                log.warning("line %d", number)
            log.debug("what the settings hold back")
        with rollout_logging_context("b"):
            log.error("x" * 100_000 + "\ud800", extra={"status": Status.rollout_error("bad")})
            try:
                raise ValueError("deep")
            except ValueError:
                log.exception("with a traceback")
    connection = connect(path)
    kept = lines_of(connection, "a", limit=5000)
    assert len(kept) == MOST_LINES + 1
    assert kept[-1].message == LEFT_OUT
    first, second = lines_of(connection, "b")
    assert len(first.message) < 30_000
    assert first.status is not None
    assert first.status["code"] == 13
    assert "ValueError: deep" in second.message
    assert lines_of(connection, "b", level=logging.CRITICAL) == []
    connection.close()


class Loud(RolloutProcessor):
    """Logs in its tasks, as a user's processor would."""

    def __call__(self, rows: list[EvaluationRow], config: Any) -> Any:
        import asyncio

        async def one(row: EvaluationRow) -> EvaluationRow:
            await asyncio.sleep(0)
            logging.getLogger("agent").warning("rolling %s", row.messages[0].text)
            return row

        return [asyncio.create_task(one(row)) for row in rows]


async def test_a_run_keeps_what_its_rollouts_and_scorers_log(tmp_path: Path):
    from eval_protocol.evaluation.decorator import spec_of
    from eval_protocol.evaluation.runner import run_evaluation

    def body(row: EvaluationRow) -> float:  # sync: scored in a thread
        logging.getLogger("scorer").warning("scoring %s", row.messages[0].text)
        return 1.0

    asked = [[Message(role="user", content=str(number))] for number in range(3)]
    scored = evaluation_test(input_messages=[asked], rollout_processor=Loud())(body)
    before = list(logging.getLogger().handlers)
    path = tmp_path / "results.db"
    report = await run_evaluation(spec_of(scored), RunSettings(results_db=path, local_ui_port=9))
    assert logging.getLogger().handlers == before
    connection = connect(path)
    for made in report.rows:
        rollout_id = made.execution_metadata.rollout_id
        assert rollout_id is not None
        asked_for = made.messages[0].text
        assert [line.message for line in lines_of(connection, rollout_id)] == [
            f"rolling {asked_for}",
            f"scoring {asked_for}",
        ]
    connection.close()


def test_a_warning_that_python_would_print_is_still_printed(tmp_path: Path):
    code = (
        "import logging; from eval_protocol.results.capture import keeping_lines\n"
        "with keeping_lines(print):\n"
        "    logging.getLogger('a').warning('seen once'); logging.getLogger('a').info('not seen')\n"
        "    quiet = logging.getLogger('b'); quiet.addHandler(logging.NullHandler()); quiet.warning('not seen either')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("", "seen once\n")


def test_a_ui_says_where_it_is_and_takes_it_back(tmp_path: Path):
    path = tmp_path / "results.db"
    assert presence.find(path) is None
    mine = presence.announce(path, 8123)
    assert presence.find(path) == mine
    assert mine.url == "http://localhost:8123"
    presence.withdraw(path, mine)
    assert presence.find(path) is None
    presence.presence_file(path).write_text("{")
    assert presence.find(path) is None
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    gone = presence.Presence(child.pid, 1, os.uname().nodename, "1")
    presence.presence_file(path).write_text(json.dumps(vars(gone)))
    assert presence.find(path) is None


def test_a_run_without_a_store_keeps_no_lines():
    class Nothing:
        def log(self, row: EvaluationRow) -> None:
            pass

    def body(row: EvaluationRow) -> float:
        return 1.0

    scored = evaluation_test(
        input_messages=[[[Message(role="user", content="x")]]],
        rollout_processor=NoOpRolloutProcessor(),
        logger=Nothing(),
    )(body)
    before = list(logging.getLogger().handlers)
    scored.run(local_ui_port=9)
    assert logging.getLogger().handlers == before
