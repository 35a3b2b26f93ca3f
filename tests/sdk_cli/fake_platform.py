"""A control plane at the seam: the wire contract of `create rft`, on a real socket, with every request recorded."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

KEY = "tk_0123456789abcdef"
ACCOUNT = "local"


@dataclass(frozen=True)
class Recorded:
    """One request as it arrived."""

    method: str
    path: str
    query: dict[str, list[str]]
    headers: dict[str, str]
    body: bytes

    @property
    def line(self) -> str:
        """`POST /v1/...`"""
        return f"{self.method} {self.path}"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class FakePlatform:
    """State and switches of the fake."""

    requests: list[Recorded] = field(default_factory=list)
    secrets: dict[str, dict[str, str]] = field(default_factory=dict)
    datasets: dict[str, dict[str, Any]] = field(default_factory=dict)
    evaluators: dict[str, dict[str, Any]] = field(default_factory=dict)
    archives: dict[str, bytes] = field(default_factory=dict)
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    job_views: list[dict[str, Any]] = field(default_factory=list)
    """What successive GETs of a job add to it; the last one stays."""
    metrics: list[dict[str, Any]] = field(default_factory=list)
    builds: list[str] = field(default_factory=lambda: ["BUILDING", "ACTIVE"])
    """States that successive GETs of an uploaded evaluator show; the last one stays."""
    build_status: dict[str, str] = field(default_factory=dict)
    build_log: str = ""
    has_versions: bool = True
    """Whether evaluators carry a `version`, as our platform's do and others' do not."""
    uploads: dict[str, int] = field(default_factory=dict)
    """Evaluator -> how often its code was uploaded, deleted or not."""
    failures: dict[str, list[tuple[int, dict[str, Any]]]] = field(default_factory=dict)
    """`"POST /v1/…"` -> answers to give before the real one."""
    drop_answers: dict[str, int] = field(default_factory=dict)
    """`"POST /v1/…"` -> how often to do the work and then cut the connection without answering."""
    base: str = ""

    @property
    def lines(self) -> list[str]:
        return [request.line for request in self.requests]

    @property
    def writes(self) -> list[str]:
        return [line for line in self.lines if not line.startswith("GET ") and not line.endswith(":validate")]

    def of(self, line: str) -> list[Recorded]:
        return [request for request in self.requests if request.line == line]

    def answer(self, request: Recorded) -> tuple[int, dict[str, Any] | bytes | None, dict[str, str]]:
        """Status, body and headers for one request."""
        if planned := self.failures.get(request.line):
            status, body = planned.pop(0)
            return status, body, {}
        if request.path.startswith("/signed/"):
            return self._signed(request)
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return 401, {"code": 16, "message": "The API key is not known here.", "details": []}, {}
        if request.path == "/verifyApiKey":
            return 200, {}, {"x-fireworks-account-id": ACCOUNT}
        match = re.fullmatch(rf"/v1/accounts/{ACCOUNT}/([A-Za-z0-9]+)(?:/([^:/]+))?(?:([:/])(\w+))?", request.path)
        if match is None:
            return _missing(request.path)
        noun, identity, _, verb = match.groups()
        handler: Callable[..., Any] = getattr(self, f"_{noun.lower()}")
        return handler(request, identity, verb)

    def _signed(self, request: Recorded) -> tuple[int, Any, dict[str, str]]:
        if request.path == "/signed/log":
            return 200, self.build_log.encode(), {}
        self.archives[request.path.removeprefix("/signed/")] = request.body
        return 200, None, {}

    def _secrets(self, request: Recorded, identity: str | None, verb: str | None) -> tuple[int, Any, dict[str, str]]:
        if request.method == "POST":
            identity = str(request.json["name"])
            if identity in self.secrets:
                return _taken(identity)
        elif identity not in self.secrets:
            return _missing(request.path)
        if request.method != "GET":
            self.secrets[str(identity)] = {**self.secrets.get(str(identity), {}), **request.json}
        return 200, {"name": identity, "keyName": self.secrets[str(identity)]["keyName"]}, {}

    def _datasets(self, request: Recorded, identity: str | None, verb: str | None) -> tuple[int, Any, dict[str, str]]:
        if verb == "upload":
            self.datasets[str(identity)]["rows"] = _part(request, "file")
            return 200, {"id": identity}, {}
        identity = str(request.json["datasetId"])
        if identity in self.datasets:
            return _taken(identity)
        self.datasets[identity] = {**request.json["dataset"], "name": f"accounts/{ACCOUNT}/datasets/{identity}"}
        return 200, self.datasets[identity], {}

    def _evaluatorsv2(
        self, request: Recorded, identity: str | None, verb: str | None
    ) -> tuple[int, Any, dict[str, str]]:
        identity = str(request.json["evaluatorId"])
        if identity in self.evaluators:
            return _taken(identity)
        name = f"accounts/{ACCOUNT}/evaluators/{identity}"
        self.evaluators[identity] = {**request.json["evaluator"], "name": name, "state": "BUILDING", "builds": None}
        if self.has_versions:
            self.evaluators[identity]["version"] = self.uploads.get(identity, 0) + 1
        return 200, self.evaluators[identity], {}

    def _evaluators(self, request: Recorded, identity: str | None, verb: str | None) -> tuple[int, Any, dict[str, str]]:
        found = self.evaluators.get(str(identity))
        if found is None:
            return _missing(request.path)
        if verb == "getUploadEndpoint":
            (filename,) = request.json["filenameToSize"]
            return 200, {"filenameToSignedUrls": {filename: f"{self.base}/signed/{filename}"}}, {}
        if verb == "validateUpload":
            found["builds"] = list(self.builds)
            self.uploads[str(identity)] = self.uploads.get(str(identity), 0) + 1
            return 200, {}, {}
        if verb == "getBuildLogEndpoint":
            return 200, {"buildLogSignedUri": f"{self.base}/signed/log"}, {}
        if request.method == "DELETE":
            del self.evaluators[str(identity)]
            return 200, {}, {}
        if request.method == "PATCH":
            found.update(request.json)
            if "prepareCodeUpload" in request.query:
                found |= {"state": "BUILDING", "builds": None}
                if self.has_versions:
                    found["version"] = self.uploads.get(str(identity), 0) + 1
            return 200, {key: value for key, value in found.items() if key != "builds"}, {}
        if found["builds"]:
            found["state"] = found["builds"].pop(0) if len(found["builds"]) > 1 else found["builds"][0]
        return 200, {**{key: value for key, value in found.items() if key != "builds"}, "status": self.build_status}, {}

    def _reinforcementfinetuningjobs(
        self, request: Recorded, identity: str | None, verb: str | None
    ) -> tuple[int, Any, dict[str, str]]:
        if request.method == "POST" and identity is None and verb == "validate":
            asked = request.query.get("reinforcementFineTuningJobId", [""])[0]
            made = self.jobs.get(asked)
            if made is not None and made.get("trainingConfig") != request.json["trainingConfig"]:
                return _taken(asked)
            return 200, {"job": made["name"]} if made else {}, {}
        if request.method == "POST" and identity is None:
            identity = request.query["reinforcementFineTuningJobId"][0]
            if identity in self.jobs:
                return _taken(identity)
            name = f"accounts/{ACCOUNT}/reinforcementFineTuningJobs/{identity}"
            evaluator, _, version = str(request.json.get("evaluator", "")).partition("/versions/")
            current = self.evaluators.get(evaluator.rsplit("/", 1)[-1], {}).get("version")
            if version and int(version) != current:
                return (
                    400,
                    {
                        "code": 9,
                        "message": f"{evaluator} was uploaded anew since (version {current} now).",
                        "details": [],
                    },
                    {},
                )
            shown = {"evaluator": evaluator} | ({"evaluatorVersion": current} if current else {})
            self.jobs[identity] = {**request.json, **shown, "name": name, "state": "JOB_STATE_PENDING"}
            return 200, self.jobs[identity], {}
        if identity not in self.jobs:
            return _missing(request.path)
        if verb == "metrics":
            done = self.jobs[identity].get("run", {}).get("step", 0)
            return (
                200,
                {
                    "events": [
                        event for event in self.metrics if event.get("chunk", -1) < done and event["step"] <= done
                    ],
                    "metrics": [],
                },
                {},
            )
        if verb:
            return _missing(request.path)
        if self.job_views:
            view = self.job_views.pop(0) if len(self.job_views) > 1 else self.job_views[0]
            self.jobs[identity] |= view
        return 200, self.jobs[identity], {}


def _missing(path: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    return 404, {"code": 5, "message": f"{path} does not exist.", "details": []}, {}


def _taken(identity: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    return 409, {"code": 6, "message": f"{identity} exists.", "details": []}, {"x-should-retry": "false"}


def _part(request: Recorded, name: str) -> bytes:
    """The content of one part of a multipart form."""
    head = f"Content-Type: {request.headers['content-type']}\r\n\r\n".encode()
    message = BytesParser(policy=HTTP).parsebytes(head + request.body)
    for part in message.iter_parts():  # type: ignore[attr-defined]
        if part.get_param("name", header="content-disposition") == name:
            content = part.get_payload(decode=True)
            assert isinstance(content, bytes)
            return content
    raise AssertionError(f"no part {name!r}")


@contextmanager
def serve(fake: FakePlatform) -> Iterator[FakePlatform]:
    """Answer on a free port of 127.0.0.1 until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _handle(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("content-length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Recorded(self.command, parts.path, parse_qs(parts.query), headers, body)
            fake.requests.append(request)
            status, answer, more = fake.answer(request)
            if fake.drop_answers.get(request.line, 0) > 0:
                fake.drop_answers[request.line] -= 1
                self.close_connection = True
                return
            content = (
                answer if isinstance(answer, bytes) else json.dumps(answer).encode() if answer is not None else b""
            )
            self.send_response(status)
            for name, value in {
                "content-length": str(len(content)),
                "content-type": "application/json",
                **more,
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle

        def log_message(self, format: str, *args: Any) -> None:
            """Silence."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    fake.base = f"http://127.0.0.1:{server.server_port}"
    try:
        yield fake
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
