"""Trackers follow a run's files: curated names, no point twice, whatever was killed; receivers are real files and a real HTTP server."""

from __future__ import annotations

import json
import struct
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from tunesmith.errors import Unavailable
from tunesmith.trackers.__main__ import follow
from tunesmith.trackers.mlflow import MlflowTracker
from tunesmith.trackers.points import Points
from tunesmith.trackers.tensorboard import EventFile, _data_at, _masked

JOB = "accounts/local/reinforcementFineTuningJobs/j"


def chunk(number: int) -> dict[str, Any]:
    figures = {"mean_score": 0.5 + number / 10, "score_std": None, "kept_groups": 3, "metrics": {"exact": 0.25}}
    return {
        "kind": "chunk",
        "chunk": number,
        "step": number,
        "epoch": 0,
        "sealed": 1,
        "time": 100.0 + number,
        **figures,
    }


def write(run_dir: Path, steps: int, *, first: int = 0, state: str = "RUNNING") -> None:
    with (run_dir / "events.jsonl").open("a") as events, (run_dir / "metrics.jsonl").open("a") as metrics:
        for step in range(first, steps):
            events.write(json.dumps({"kind": "version", "version": step, "time": 1.0}) + "\n")
            events.write(json.dumps(chunk(step)) + "\n")
            metrics.write(json.dumps({"step": step, "loss": float(step), "entropy": 1.5, "trained_tokens": 9}) + "\n")
        score = {"kind": "evaluation", "version": steps, "step": steps, "score": 0.7, "low": 0.6, "high": 0.8, "n": 9}
        events.write(json.dumps({**score, "time": 9.0}) + "\n")
    (run_dir / "status.json").write_text(json.dumps({"state": state}))


def records(path: Path) -> list[bytes]:
    content, found, at = path.read_bytes(), [], 0
    while (data := _data_at(content, at)) is not None:
        found.append(data)
        at += len(data) + 16
    assert at == len(content)
    return found


def test_points_have_curated_names_and_steps(tmp_path: Path) -> None:
    write(tmp_path, 2)
    points = [*Points(tmp_path).new()]
    assert [(point.file[:6], point.number, point.step) for point in points] == [
        ("metric", 0, 0),
        ("metric", 1, 1),
        ("events", 0, 0),
        ("events", 1, 1),
        ("events", 2, 2),
    ]
    assert points[1].values == {"train/loss": 1.0, "train/entropy": 1.5, "train/trained_tokens": 9.0}
    assert points[3].values == {
        "reward/mean": 0.6,
        "rollouts/kept_groups": 3.0,
        "evaluator/exact": 0.25,
        "rollouts/chunk": 1.0,
    }
    assert points[4].values == {"held_out/score": 0.7, "held_out/low": 0.6, "held_out/high": 0.8}


def test_the_checksum_is_crc_32c() -> None:
    """RFC 3720, B.4: 32 bytes of zeros; unmasked as TensorFlow's record format says."""
    mask = (_masked(bytes(32)) - 0xA282EAD8) & 0xFFFFFFFF
    assert (mask >> 17 | mask << 15) & 0xFFFFFFFF == 0x8A9136AA


def test_an_event_file_goes_on_where_it_was_cut(tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    for folder in (whole, cut):
        folder.mkdir()
        write(folder, 2)
    assert EventFile(whole).catch_up() == 5
    file = EventFile(whole).path
    content = file.read_bytes()
    assert len(records(file)) == 6
    assert EventFile(whole).catch_up() == 0, "a new writer adds nothing"
    assert struct.pack("<f", 0.6) in content
    EventFile(cut).catch_up()
    for size in range(0, len(content), 37):
        EventFile(cut).path.write_bytes(content[:size])
        EventFile(cut).catch_up()
        assert sorted(records(EventFile(cut).path)) == sorted(records(file)), size
    write(whole, 3, first=2)
    following = EventFile(whole)
    assert following.catch_up() == 3
    write(whole, 4, first=3)
    assert following.catch_up() == 3
    assert len(set(records(file))) == len(records(file)) == 12


class Server(ThreadingHTTPServer):
    """As much of an MLflow tracking server as a run needs; `make check-trackers` holds the tracker against the real one."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.experiments: dict[str, str] = {}
        self.runs: list[dict[str, Any]] = []
        self.logged: list[tuple[str, int]] = []
        self.fail = 0


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        found = self.server.experiments.get("tunesmith")
        self._say(200, {"experiment": {"experiment_id": found}}) if found else self._say(404, {"error_code": "none"})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        verb, server = self.path.rsplit("mlflow/", 1)[1], self.server
        if server.fail and verb == "runs/log-batch" and body.get("metrics"):
            server.fail -= 1
            return self._say(503, {"message": "busy"})
        if verb == "experiments/create":
            server.experiments[body["name"]] = "7"
            return self._say(200, {"experiment_id": "7"})
        if verb == "runs/search":
            wanted = body["filter"].split("'")[1]
            return self._say(200, {"runs": [run for run in server.runs if run["data"]["tags"][0]["value"] == wanted]})
        if verb == "runs/create":
            run = {"info": {"run_id": f"r{len(server.runs)}"}, "data": {"tags": body["tags"], "metrics": []}}
            server.runs.append(run)
            return self._say(200, {"run": run})
        run = next(run for run in server.runs if run["info"]["run_id"] == body["run_id"])
        if verb == "runs/update":
            run["info"]["status"] = body["status"]
        for metric in body.get("metrics", []):
            server.logged.append((metric["key"], metric["step"]))
            others = [known for known in run["data"]["metrics"] if known["key"] != metric["key"]]
            run["data"]["metrics"] = [*others, metric]
        return self._say(200, {})

    def _say(self, status: int, body: dict[str, Any]) -> None:
        content = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def mlflow() -> Iterator[Server]:
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join(5)


def tracker(server: Server) -> MlflowTracker:
    return MlflowTracker(f"http://127.0.0.1:{server.server_port}/", JOB, {"loss": "GRPO"})


def test_mlflow_gets_every_point_once_though_the_tracker_is_started_again(mlflow: Server, tmp_path: Path) -> None:
    write(tmp_path, 2)
    first = tracker(mlflow)
    first.start()
    for point in [*Points(tmp_path).new()][:3]:  # killed here
        first.log(point)
    write(tmp_path, 3, first=2, state="FAILED")
    follow(tmp_path, tracker(mlflow))
    follow(tmp_path, tracker(mlflow))
    assert len(mlflow.runs) == 1
    assert mlflow.runs[0]["info"]["status"] == "FAILED"
    assert len(mlflow.logged) == len(set(mlflow.logged))
    assert {("train/loss", 2), ("reward/mean", 2), ("held_out/score", 3)} <= set(mlflow.logged)


def test_a_server_that_refuses_is_named(mlflow: Server, tmp_path: Path) -> None:
    write(tmp_path, 1)
    mlflow.fail = 1
    one = tracker(mlflow)
    one.start()
    with pytest.raises(Unavailable, match=r"refused runs/log-batch \(503\): .*busy"):
        one.log(next(Points(tmp_path).new()))
    with pytest.raises(Unavailable, match="does not answer"):
        MlflowTracker("http://127.0.0.1:9", JOB, {}).start()


def test_a_server_on_another_machine_is_reached_through_the_proxy_and_one_on_this_is_not(
    mlflow: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{mlflow.server_port}")
    MlflowTracker("http://mlflow.invalid", JOB, {}).start()
    assert len(mlflow.runs) == 1
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    tracker(mlflow).start()
