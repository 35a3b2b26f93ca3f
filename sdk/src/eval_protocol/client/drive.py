"""The platform from a notebook: plain calls that wait for their answer, jobs as objects, results as lists of dicts.

    from eval_protocol.client import Platform

    platform = Platform()                                   # what `tunesmith up` or the environment says
    job = platform.create_rft(evaluator="my-eval", dataset=rows, base_model="accounts/...", epochs=2)
    job.wait()
    pandas.DataFrame(job.metrics())

`client.control_plane` is the asynchronous client beneath it, which the command line uses.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import quote

from eval_protocol.client.control_plane import ControlPlane
from eval_protocol.client.errors import PlatformError, Taken
from eval_protocol.client.job import Job, Model
from eval_protocol.client.loop import BackgroundLoop
from eval_protocol.client.transport import Transport
from eval_protocol.errors import UsageError
from eval_protocol.settings import load_profile, origin, profile_path

GROUPS = {
    "trainingConfig": (
        *("base_model", "warm_start_from", "output_model", "epochs", "learning_rate", "learning_rate_warmup_steps"),
        *("lora_rank", "max_context_length", "optimizer_weight_decay"),
    ),
    "inferenceParameters": (
        *("max_output_tokens", "temperature", "response_candidates_count", "extra_body"),
        *("top_p", "top_k"),  # refused by the platform, with the reason
    ),
    "lossConfig": ("method", "kl_beta"),
}
"""Options of `create_rft` that are inside of an object on the wire; the others are at its top."""


class Platform:
    """One platform and one account of it.

    Args:
        api_base: its address; None: the environment's (`FIREWORKS_API_BASE`), else that of the profile which `tunesmith up` wrote.
        api_key: a key of it; given exactly where `api_base` is.

    Raises UsageError when no platform is configured, NotAllowed for a wrong key, Unreachable.
    """

    def __init__(self, api_base: str | None = None, api_key: str | None = None) -> None:
        if (api_base is None) != (api_key is None):
            raise UsageError("Give api_base and api_key together, or neither: a key belongs to one platform.")
        if api_base is None or api_key is None:
            profile = load_profile()
            if profile is None:
                raise UsageError(
                    "No platform is configured. Start one with `tunesmith up`, set FIREWORKS_API_BASE and FIREWORKS_API_KEY "
                    "together, or give Platform(api_base=..., api_key=...)."
                )
            api_base, api_key = profile.api_base, profile.api_key
        self.api_base = api_base.rstrip("/")
        self._key = api_key
        self._loop = BackgroundLoop()
        try:
            self._client = self._loop.run(self._open())
        except BaseException:
            self._loop.close()
            raise
        self.account_id = self._client.account_id
        self._end = weakref.finalize(self, _shut, self._loop, self._client)

    def __repr__(self) -> str:
        return f"Platform({self.api_base!r}, account {self.account_id!r})"

    def __enter__(self) -> Platform:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections. A notebook need not: they end with the object, or with it."""
        self._end()

    # Jobs

    def create_rft(
        self,
        *,
        evaluator: str,
        dataset: str | Path | Iterable[Any],
        base_model: str | None = None,
        evaluation_dataset: str | Path | Iterable[Any] | None = None,
        job_id: str | None = None,
        **options: Any,
    ) -> Job:
        """Start an RFT job.

        Args:
            evaluator: id of an evaluator on the platform (`ep upload` brings one there), or its resource name.
            dataset: rows (dicts, or EvaluationRows), a JSONL file, or the id of a dataset. The same rows are uploaded once.
            base_model: what to train; or give `warm_start_from`, a model of yours.
            evaluation_dataset: held-out rows, given like `dataset`; or `eval_auto_carveout=True`.
            job_id: id of the job; None: a random one.
            options: the API's fields in snake_case, flat: `epochs`, `learning_rate`, `response_candidates_count` (also `n`),
                `temperature`, `max_output_tokens`, `chunk_size`, `method` (the loss), ... Unknown ones are refused by name.

        Raises Refused with the platform's reason, UsageError for rows that are none.
        """
        if "n" in options:
            options["response_candidates_count"] = options.pop("n")
        body: dict[str, Any] = {
            "evaluator": self._client.resource("evaluators", evaluator),
            "dataset": self.upload(dataset),
        }
        if evaluation_dataset is not None:
            body["evaluationDataset"] = self.upload(evaluation_dataset)
        for name, value in {"base_model": base_model, **options}.items():
            if value is None:
                continue
            group = next((group for group, names in GROUPS.items() if name in names), None)
            place = body.setdefault(group, {}) if group else body
            place[_camel(name)] = json.dumps(value) if name == "extra_body" and not isinstance(value, str) else value
        return Job(self, self._loop.run(self._client.create_job(body, job_id)).id)

    def job(self, job_id: str) -> Job:
        """A job that is there, by its id or resource name. Raises Missing."""
        return Job(self, job_id.rsplit("/", 1)[-1])

    def jobs(self) -> list[Job]:
        """All RFT jobs of the account, newest first."""
        return [Job(self, job.id) for job in self._loop.run(self._client.list_jobs())]

    # Rows and models

    def upload(self, dataset: str | Path | Iterable[Any]) -> str:
        """Resource name of a dataset: of the id that is given, or of rows or a JSONL file, uploaded unless they are there already.

        Raises UsageError for what are no rows, Refused with the line that the platform does not take.
        """
        if isinstance(dataset, str) and not dataset.endswith((".jsonl", ".json")):
            return self._client.resource("datasets", dataset)
        content = Path(dataset).read_bytes() if isinstance(dataset, str | Path) else _jsonl(dataset)
        count = sum(1 for line in content.splitlines() if line.strip())
        if count == 0:
            raise UsageError("The dataset has no rows; give at least one.")
        identity = f"rows-{hashlib.sha256(content).hexdigest()[:16]}"
        return self._loop.run(self._upload(identity, content, count))

    def model(self, name: str) -> Model:
        """A model to call: a model of yours by id, or any by its full name."""
        return Model(self, self._client.resource("models", name))

    # What jobs and models are made of

    def call(
        self, what: str, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """One call of the REST API that has no method of its own here; `path` is below the account, or begins with `/v1/`.

        `what` opens the message of an error ("Deleting the dataset"). Raises PlatformError's branches.
        """
        full = path if path.startswith("/v1/") else f"/v1/accounts/{quote(self.account_id, safe='')}/{path.lstrip('/')}"
        given = {name: str(value) for name, value in (params or {}).items() if value is not None}
        return self._loop.run(self._transport.call(what, method, full, json=json, params=given or None))

    def pages(self, what: str, path: str, key: str, *, limit: int | None = None, **query: Any) -> list[dict[str, Any]]:
        """All entries of a list of the REST API, at most `limit`."""
        found: list[dict[str, Any]] = []
        token = ""
        while limit is None or len(found) < limit:
            size = 200 if limit is None else min(200, limit - len(found))
            page = self.call(what, "GET", path, params={**query, "pageSize": size, "pageToken": token or None})
            found += page.get(key) or []
            token = page.get("nextPageToken") or ""
            if not token:
                break
        return found

    def download(self, what: str, url: str) -> bytes:
        """What a signed URL holds."""
        return self._loop.run(self._transport.send_signed(what, "GET", url)).content

    def infer(self, what: str, body: dict[str, Any]) -> dict[str, Any]:
        """One chat completion."""
        path = "/inference/v1/chat/completions"

        async def ask() -> dict[str, Any]:
            answer = await self._transport.send(what, "POST", path, body=lambda: {"json": body}, timeout_seconds=600.0)
            return json.loads(answer.content)

        return self._loop.run(ask())

    def command_environment(self) -> dict[str, str]:
        """Variables with which the `tunesmith` command reaches this platform.

        Raises UsageError where its profile names another one: the key of this platform does not go there.
        """
        try:
            base = json.loads(profile_path().read_text())["api_base"]
        except (OSError, ValueError, KeyError, TypeError):
            base = ""
        if not base or origin(base) != origin(self.api_base):
            raise UsageError(
                f"The `tunesmith` command works with the platform of {profile_path()}, which is {base or 'not there'}, not with "
                f"{self.api_base}. Run `tunesmith model export` where that platform's profile is."
            )
        return {**os.environ, "TUNESMITH_API_KEY": self._key}

    async def _open(self) -> ControlPlane:
        client = ControlPlane(self.api_base, self._key)
        await client.__aenter__()
        try:
            await client.verify_api_key()
            self._transport: Transport = client.transport
        except BaseException:
            await client.__aexit__(None, None, None)
            raise
        return client

    async def _upload(self, identity: str, content: bytes, count: int) -> str:
        name = self._client.resource("datasets", identity)
        what = f"Looking up dataset '{identity}'"
        try:
            await self._client.create_dataset(identity, count)
        except Taken:
            found = await self._transport.call(what, "GET", f"/v1/{name}")
            if found.get("state") == "READY":
                return name
        try:
            await self._client.upload_dataset(identity, f"{identity}.jsonl", content)
        except PlatformError:
            await self._transport.call(f"Removing dataset '{identity}'", "DELETE", f"/v1/{name}")
            raise
        return name


def _shut(loop: BackgroundLoop, client: ControlPlane) -> None:
    loop.run(client.__aexit__(None, None, None))
    loop.close()


def _jsonl(rows: Iterable[Any]) -> bytes:
    lines = []
    for number, row in enumerate(rows, start=1):
        value = row.model_dump(mode="json", exclude_none=True) if hasattr(row, "model_dump") else row
        if not isinstance(value, Mapping):
            raise UsageError(
                f"Row {number} of the dataset is {type(row).__name__}; a row is a dict with `messages`, or an EvaluationRow."
            )
        lines.append(json.dumps(value, ensure_ascii=False, sort_keys=True) + "\n")
    return "".join(lines).encode()


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(part.capitalize() for part in rest)
