"""The control plane from asynchronous code, one method per call of the wire contract. All methods raise the branches of `PlatformError`.

Ids are short ("my-evaluator"); `resource` builds full names. Creates carry an id that was chosen here, so that a retry
cannot make a second resource: a 409 on a later try is read as "the first try arrived".
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from urllib.parse import quote

import aiohttp

from eval_protocol.client.errors import BrokenAnswer, Missing, NotAllowed, Taken
from eval_protocol.client.transport import Transport
from eval_protocol.client.wire import Dataset, Evaluator, Job, JobMetrics, Secret

UPLOAD_TIMEOUT_SECONDS = 600.0


class ControlPlane:
    """Typed client of one platform's control plane. Use as `async with ControlPlane(base, key) as platform`."""

    def __init__(
        self,
        api_base: str,
        api_key: str,
        account_id: str = "",
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._transport = Transport(api_base, api_key, sleep=sleep)
        self.account_id = account_id
        """Known after `verify_api_key`."""

    @property
    def api_base(self) -> str:
        """Address of the platform, without a trailing slash."""
        return self._transport.api_base

    @property
    def transport(self) -> Transport:
        """What its calls go over, for those that have no method here."""
        return self._transport

    async def __aenter__(self) -> ControlPlane:
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self._transport.__aexit__(*exc)

    def resource(self, collection: str, resource_id: str) -> str:
        """Full name of a resource of this account; a full name is returned as it is."""
        if resource_id.startswith("accounts/"):
            return resource_id
        return f"accounts/{self.account_id}/{collection}/{resource_id}"

    async def verify_api_key(self) -> str:
        """Check the key and learn the account id. Raises NotAllowed for a wrong key, BrokenAnswer for another service."""
        answer = await self._transport.send("Checking the API key", "GET", "/verifyApiKey", timeout_seconds=10)
        account = answer.headers.get("x-fireworks-account-id", "").strip()
        if not account:
            raise BrokenAnswer(
                f"Checking the API key failed: {self.api_base}/verifyApiKey names no account. "
                "Check that the address is a Tunesmith platform."
            )
        self.account_id = account
        return account

    # Secrets

    async def get_secret(self, secret_id: str) -> Secret | None:
        """A secret's name, or None when there is none of that id."""
        try:
            answer = await self._call(f"Looking up secret '{secret_id}'", "GET", self._path("secrets", secret_id))
        except Missing:
            return None
        return Secret.model_validate(answer)

    async def put_secret(self, secret_id: str, key_name: str, value: str) -> bool:
        """Create or overwrite a secret. Returns True when it is new."""
        what = f"Uploading secret '{key_name}'"
        if await self.get_secret(secret_id) is None:
            body = {"keyName": key_name, "name": secret_id, "value": value}
            try:
                await self._call(what, "POST", self._path("secrets"), json=body)
                return True
            except Taken:
                pass  # somebody else made it a moment ago, or our own first try arrived: overwrite
        await self._call(what, "PATCH", self._path("secrets", secret_id), json={"keyName": key_name, "value": value})
        return False

    # Datasets

    async def create_dataset(self, dataset_id: str, example_count: int) -> Dataset:
        """Create an empty dataset whose rows are already adapted (`evalProtocol`). Raises Taken when the id exists."""
        body = {
            "dataset": {
                "displayName": dataset_id,
                "evalProtocol": {},
                "format": "FORMAT_UNSPECIFIED",
                "exampleCount": str(example_count),
            },
            "datasetId": dataset_id,
        }
        try:
            answer = await self._call(f"Creating dataset '{dataset_id}'", "POST", self._path("datasets"), json=body)
        except Taken as error:
            if not error.retried:
                raise
            answer = {"name": self.resource("datasets", dataset_id)}
        return Dataset.model_validate(answer)

    async def upload_dataset(self, dataset_id: str, filename: str, content: bytes) -> None:
        """Upload the rows (JSONL bytes) of a dataset; the platform validates them."""

        def body() -> dict[str, Any]:
            form = aiohttp.FormData()
            form.add_field("file", content, filename=filename, content_type="application/jsonl")
            return {"data": form}

        await self._transport.send(
            f"Uploading dataset '{dataset_id}'",
            "POST",
            self._path("datasets", f"{dataset_id}:upload"),
            body=body,
            timeout_seconds=UPLOAD_TIMEOUT_SECONDS,
        )

    # Evaluators

    async def get_evaluator(self, evaluator_id: str) -> Evaluator | None:
        """An evaluator, or None."""
        try:
            answer = await self._call(f"Looking up evaluator '{evaluator_id}'", "GET", self._evaluator(evaluator_id))
        except Missing:
            return None
        return Evaluator.model_validate(answer)

    async def delete_evaluator(self, evaluator_id: str) -> None:
        """Delete an evaluator; it is fine when there is none."""
        try:
            await self._call(f"Deleting evaluator '{evaluator_id}'", "DELETE", self._evaluator(evaluator_id))
        except Missing:
            return

    async def create_evaluator(self, evaluator_id: str, evaluator: dict[str, Any]) -> Evaluator:
        """Register an evaluator; its code comes by `upload_evaluator_code`. Raises Taken when the id exists."""
        body = {"evaluator": evaluator, "evaluatorId": evaluator_id}
        try:
            answer = await self._call(
                f"Creating evaluator '{evaluator_id}'", "POST", self._path("evaluatorsV2"), json=body
            )
        except Taken as error:
            found = await self.get_evaluator(evaluator_id) if error.retried else None
            if found is None:
                raise
            return found
        return Evaluator.model_validate(answer)

    async def update_evaluator(
        self, evaluator_id: str, changes: dict[str, Any], *, awaits_code: bool = False
    ) -> Evaluator:
        """Change what describes an evaluator; with `awaits_code` its next version waits for `upload_evaluator_code`."""
        path = self._evaluator(evaluator_id) + ("?prepareCodeUpload=true" if awaits_code else "")
        answer = await self._call(f"Updating evaluator '{evaluator_id}'", "PATCH", path, json=changes)
        return Evaluator.model_validate(answer)

    async def upload_evaluator_code(self, evaluator_id: str, filename: str, content: bytes) -> None:
        """Upload the archive and have it validated; the build starts then."""
        endpoint = await self._call(
            f"Requesting an upload address for {filename}",
            "POST",
            self._evaluator(f"{evaluator_id}:getUploadEndpoint"),
            json={"filenameToSize": {filename: str(len(content))}},
        )
        url = (endpoint.get("filenameToSignedUrls") or {}).get(filename)
        if not url:
            raise BrokenAnswer(f"Uploading {filename} failed: {self.api_base} gave no upload address for it.")
        headers = {
            "Content-Type": "application/octet-stream",
            "X-Goog-Content-Length-Range": f"{len(content)},{len(content)}",
        }
        await self._transport.send_signed(f"Uploading {filename}", "PUT", url, content=content, headers=headers)
        await self._call(
            f"Validating the upload of {filename}",
            "POST",
            self._evaluator(f"{evaluator_id}:validateUpload"),
            json={},
        )

    async def evaluator_build_log(self, evaluator_id: str) -> str | None:
        """The log of the last build, or None where the platform keeps none."""
        what = f"Fetching the build log of '{evaluator_id}'"
        try:
            answer = await self._call(what, "GET", self._evaluator(f"{evaluator_id}:getBuildLogEndpoint"))
            url = answer.get("buildLogSignedUri")
            if not url:
                return None
            log = await self._transport.send_signed(what, "GET", url, timeout_seconds=30)
        except (Missing, NotAllowed):
            return None
        return log.content.decode("utf-8", "replace")

    # Reinforcement fine-tuning jobs

    async def validate_job(self, body: dict[str, Any], job_id: str | None = None) -> str | None:
        """Have the platform check a job's options, and its id, before anything is uploaded for it.

        Returns the name of the job that these options have made under this id already; None where there is none. Raises Refused with
        the platform's words, Taken.
        """
        path = f"{self._path('reinforcementFineTuningJobs')}:validate"
        params = {"reinforcementFineTuningJobId": job_id} if job_id else None
        answer = await self._call("Checking the job's options", "POST", path, json=body, params=params)
        return answer.get("job")

    async def create_job(self, body: dict[str, Any], job_id: str | None = None) -> Job:
        """Launch a job. Without `job_id` a random one is chosen here. Raises Taken when the id exists."""
        job_id = job_id or new_job_id()
        try:
            answer = await self._call(
                "Creating the RFT job",
                "POST",
                self._path("reinforcementFineTuningJobs"),
                json=body,
                params={"reinforcementFineTuningJobId": job_id},
            )
        except Taken as error:
            if not error.retried:
                raise
            return await self.get_job(job_id)
        return Job.model_validate(answer)

    async def get_job(self, job_id: str) -> Job:
        """A job, by its short id."""
        return Job.model_validate(await self._call(f"Looking up job '{job_id}'", "GET", self._job(job_id)))

    async def list_jobs(self) -> list[Job]:
        """All jobs of the account, as the platform orders them."""
        jobs: list[Job] = []
        params: dict[str, str] = {"pageSize": "200"}
        while True:
            page = await self._call("Listing jobs", "GET", self._path("reinforcementFineTuningJobs"), params=params)
            jobs += [Job.model_validate(job) for job in page.get("reinforcementFineTuningJobs") or []]
            token = page.get("nextPageToken")
            if not token:
                return jobs
            params = {**params, "pageToken": token}

    async def cancel_job(self, job_id: str) -> None:
        """Ask a job to stop; it ends as CANCELLED."""
        await self._call(f"Cancelling job '{job_id}'", "POST", self._job(f"{job_id}:cancel"), json={})

    async def delete_job(self, job_id: str) -> None:
        """Delete a job's record."""
        await self._call(f"Deleting job '{job_id}'", "DELETE", self._job(job_id))

    async def job_metrics(self, job_id: str) -> JobMetrics:
        """Events and metrics of a job so far; empty where the platform has none yet."""
        try:
            answer = await self._call(f"Fetching metrics of job '{job_id}'", "GET", self._job(f"{job_id}/metrics"))
        except Missing:
            return JobMetrics()
        return JobMetrics.model_validate(answer)

    async def job_events(self, job_id: str, last_event_id: str | None = None) -> AsyncIterator[str]:
        """Server-sent events of a job: yields the id of each ("" without one) until the stream ends."""
        headers = {"Accept": "text/event-stream"}
        if last_event_id:
            headers["Last-Event-ID"] = last_event_id
        what = f"Following job '{job_id}'"
        event_id, has_data = "", False
        async with self._transport.stream(what, self._job(f"{job_id}/events"), headers) as content:
            async for raw in content:
                line = raw.decode("utf-8", "replace").rstrip("\r\n")
                if not line and has_data:
                    yield event_id
                    has_data = False
                elif line.startswith("id:"):
                    event_id = line[3:].strip()
                elif line.startswith("data:"):
                    has_data = True

    def _path(self, collection: str, rest: str = "") -> str:
        path = f"/v1/accounts/{quote(self.account_id, safe='')}/{collection}"
        return f"{path}/{quote(rest, safe=':/')}" if rest else path

    def _evaluator(self, rest: str) -> str:
        return f"/v1/{quote(rest, safe=':/')}" if rest.startswith("accounts/") else self._path("evaluators", rest)

    def _job(self, rest: str) -> str:
        return self._path("reinforcementFineTuningJobs", rest)

    async def _call(
        self, what: str, method: str, path: str, *, json: Any = None, params: dict[str, str] | None = None
    ) -> dict[str, Any]:
        return await self._transport.call(what, method, path, json=json, params=params)


def new_job_id() -> str:
    """A random job id: a letter and seven letters or digits."""
    letters, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
    return secrets.choice(letters) + "".join(secrets.choice(letters + digits) for _ in range(7))
