"""Points to an MLflow tracking server, over its REST API (https://mlflow.org/docs/latest/rest-api.html): no package is needed.

The run of a job is found by the tag `tunesmith.job`, so a tracker that was killed goes on with the same run; what it has is its latest
`train/loss` and `rollouts/chunk`, which stand last in each batch.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tunesmith.errors import Unavailable
from tunesmith.trackers.points import Point

EXPERIMENT = "tunesmith"
TAG = "tunesmith.job"
_SECONDS = 20
_FINISHED = {"COMPLETED": "FINISHED", "EARLY_STOPPED": "FINISHED", "FAILED": "FAILED", "CANCELLED": "KILLED"}


class MlflowTracker:
    """One job's run on a tracking server."""

    def __init__(self, uri: str, job: str, params: dict[str, str]) -> None:
        self._uri, self._job, self._params = uri.rstrip("/"), job, params
        # A proxy knows nothing of this machine; to another one it may be the only way.
        here = urllib.parse.urlsplit(uri).hostname in ("localhost", "127.0.0.1", "::1")
        self._opener = urllib.request.build_opener(*([urllib.request.ProxyHandler({})] if here else []))
        self._run = ""
        self._has: dict[str, int] = {}

    def start(self) -> None:
        """Find or make the experiment and the run. Raises Unavailable with the server's reason."""
        name = urllib.parse.urlencode({"experiment_name": EXPERIMENT})
        try:
            experiment = self._call("GET", f"experiments/get-by-name?{name}")["experiment"]["experiment_id"]
        except _Missing:
            experiment = self._call("POST", "experiments/create", {"name": EXPERIMENT})["experiment_id"]
        wanted = {"experiment_ids": [experiment], "filter": f"tags.`{TAG}` = '{self._job}'", "max_results": 1}
        found = self._call("POST", "runs/search", wanted).get("runs") or []
        if not found:
            body = {
                "experiment_id": experiment,
                "run_name": self._job.rsplit("/", 1)[-1],
                "start_time": int(time.time() * 1000),
                "tags": [{"key": TAG, "value": self._job}],
            }
            found = [self._call("POST", "runs/create", body)["run"]]
            params = [{"key": key, "value": value[:500]} for key, value in self._params.items()]
            self._call("POST", "runs/log-batch", {"run_id": found[0]["info"]["run_id"], "params": params})
        self._run = found[0]["info"]["run_id"]
        self._has = {m["key"]: int(m["step"]) for m in found[0].get("data", {}).get("metrics") or []}
        chunk = next((m for m in found[0].get("data", {}).get("metrics") or [] if m["key"] == "rollouts/chunk"), None)
        self._has["rollouts/chunk"] = int(chunk["value"]) if chunk else -1

    def log(self, point: Point) -> None:
        """One point, unless the run has it. Raises Unavailable."""
        if self._is_there(point):
            return
        moment = int((point.time or 0.0) * 1000)
        metrics = [
            {"key": name, "value": value, "timestamp": moment, "step": point.step}
            for name, value in point.values.items()
        ]
        self._call("POST", "runs/log-batch", {"run_id": self._run, "metrics": metrics})

    def finish(self, state: str) -> None:
        """Close the run as the job ended."""
        body = {"run_id": self._run, "status": _FINISHED.get(state, "FINISHED"), "end_time": int(time.time() * 1000)}
        self._call("POST", "runs/update", body)

    def _is_there(self, point: Point) -> bool:
        if "rollouts/chunk" in point.values:
            return point.values["rollouts/chunk"] <= self._has["rollouts/chunk"]
        mark = "train/loss" if point.file == "metrics.jsonl" else "held_out/score"
        return point.step <= self._has.get(mark, -1)

    def _call(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        url = f"{self._uri}/api/2.0/mlflow/{path}"
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(url, data, {"Content-Type": "application/json"}, method=method)
        try:
            with self._opener.open(request, timeout=_SECONDS) as answer:
                return json.loads(answer.read() or b"{}")
        except urllib.error.HTTPError as error:
            with error:
                text = error.read(500).decode(errors="replace")
            if error.code == 404:
                raise _Missing(text) from error
            raise Unavailable(f"MLflow at {self._uri} refused {path.split('?')[0]} ({error.code}): {text}") from error
        except (OSError, ValueError) as error:
            raise Unavailable(f"MLflow at {self._uri} does not answer: {error}") from error


class _Missing(Unavailable):
    """404."""
