"""Rollouts whose process died while they ran: recorded as aborted, once, by whoever reads the store for people."""

from __future__ import annotations

import json
import sqlite3
import time

from eval_protocol.models.status import Code
from eval_protocol.results.queries import LOST
from eval_protocol.results.schema import is_alive
from eval_protocol.results.summaries import PUT, summary_of

RUNNING = (
    "SELECT rollout_id, data, created, host, pid, process_started FROM rollouts WHERE rollout_id IN "
    "(SELECT rollout_id FROM summaries WHERE status = 101 AND host = ? AND pid = ? AND process_started = ?) AND status = 101"
)
ABORT = "UPDATE rollouts SET status = ?, updated = ?, data = ? WHERE rollout_id = ?"


def running_processes(connection: sqlite3.Connection) -> list[tuple[str, int, str]]:
    """Host, pid and start of the processes with rollouts that run."""
    return connection.execute("SELECT DISTINCT host, pid, process_started FROM summaries WHERE status = 101").fetchall()


def abort_lost(connection: sqlite3.Connection) -> int:
    """Record the running rollouts of dead processes as aborted. Returns how many there were.

    Should such a process be alive after all (in another process namespace), its next word about the rollout puts it right.
    """
    dead = [process for process in running_processes(connection) if not is_alive(*process)]
    if not dead:
        return 0
    aborted = 0
    connection.execute("BEGIN IMMEDIATE")
    try:
        for process in dead:
            for rollout_id, data, created, *writer in connection.execute(RUNNING, process).fetchall():
                row, now = json.loads(data), time.time()
                row["rollout_status"] = {"code": int(Code.ABORTED), "message": LOST, "details": []}
                evaluation = row.get("eval_metadata")
                if isinstance(evaluation, dict) and (evaluation.get("status") or {}).get("code") == Code.RUNNING:
                    evaluation["status"] = {"code": int(Code.ABORTED), "message": LOST, "details": []}
                data = json.dumps(row, ensure_ascii=False, separators=(",", ":"))
                connection.execute(ABORT, (int(Code.ABORTED), now, data, rollout_id))
                connection.execute(PUT, summary_of(data, created, now, *writer))
                aborted += 1
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return aborted
