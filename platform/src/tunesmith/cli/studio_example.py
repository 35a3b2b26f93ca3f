"""The studio's example on a platform: its evaluator in a folder and uploaded, its rows, and its running job.

Everything is called after the folder, so that starting the studio again in the same folder finds it again.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import re
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tunesmith.cli.client import ApiError, call
from tunesmith.cli.jobs import FINAL, all_rft_jobs, rft_path, state_of
from tunesmith.cli.profile import Profile
from tunesmith.cli.transfer import upload
from tunesmith.errors import FailedPrecondition, InvalidArgument, Unavailable
from tunesmith.schemas.names import short_id

EXAMPLES = Path(__file__).parents[1] / "catalog" / "examples"
"""One folder an example, with its `studio.json`."""
BUILD_SECONDS = 600.0
LARGEST_FILE = 256 * 1024
"""Bytes of a file that is kept in step with the page; larger ones are not source."""
ENDING = {*FINAL, "CANCELLING", "DELETING"}


def names() -> list[str]:
    """The examples that there are."""
    return sorted(path.parent.name for path in EXAMPLES.glob("*/studio.json"))


class Example:
    """One example, for one folder of a person."""

    def __init__(self, name: str, folder: Path) -> None:
        """`name`: one of ours, or a folder with a studio.json of its own. Raises InvalidArgument when it is neither."""
        self.source = EXAMPLES / name if name in names() else Path(name).resolve()
        if not (self.source / "studio.json").is_file():
            raise InvalidArgument(
                f"There is no example {name!r}; there are {', '.join(names())}, or give a folder with a studio.json."
            )
        self.settings: dict[str, Any] = json.loads((self.source / "studio.json").read_text())
        self.folder = folder
        slug = re.sub(r"[^a-z0-9]+", "-", self.source.name.lower()).strip("-")[:20]
        self.slug = f"studio-{slug}"
        self.id = f"{self.slug}-{hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:6]}"

    def write(self) -> bool:
        """Write the evaluator into the folder; False when there was one already, which is kept as it is."""
        entry = self.settings["entryPoint"].split("::")[0]
        if (self.folder / entry).exists():
            return False
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            for file in self._project():
                (self.folder / file.name).write_bytes(file.read_bytes())
        except OSError as error:
            raise InvalidArgument(f"The folder {self.folder} cannot be written: {error.strerror or error}.") from error
        return True

    def names(self) -> list[str]:
        """The evaluator's files in the folder: no hidden ones, nothing that Python made, nothing large."""
        found = []
        for path in sorted(self.folder.rglob("*")):
            relative = path.relative_to(self.folder)
            hidden = any(part.startswith(".") or part == "__pycache__" for part in relative.parts)
            if hidden or path.is_symlink() or not path.is_file() or path.name.endswith(("~", ".pyc", ".tmp")):
                continue
            if path.stat().st_size <= LARGEST_FILE:
                found.append(relative.as_posix())
        return found

    def files(self) -> dict[str, bytes]:
        """The same with their content."""
        return {name: (self.folder / name).read_bytes() for name in self.names()}

    def upload(self, profile: Profile, say: Callable[[str], None]) -> dict[str, Any]:
        """Upload the folder unless the platform has this evaluator, and wait until a version is built; the evaluator."""
        path = self.path(profile, "evaluators", self.id)
        try:
            found = call(profile, "GET", path)
        except ApiError as error:
            if error.status != 404:
                raise
            say("Building the evaluator (the first time takes a moment) ...")
            self._upload_folder(profile, path)
            found = call(profile, "GET", path)
        deadline = time.monotonic() + BUILD_SECONDS
        while found["state"] == "BUILDING" and time.monotonic() < deadline:
            time.sleep(0.3)
            found = call(profile, "GET", path)
        if found["state"] != "ACTIVE":
            message = found.get("status", {}).get("message") or "its build did not end"
            raise FailedPrecondition(f"The evaluator in {self.folder} is {found['state']}: {message}")
        return found

    def running_job(self, profile: Profile) -> dict[str, Any] | None:
        """The job of an earlier studio in this folder, or of a rewind there, that has not ended."""
        evaluator = f"accounts/{profile.account_id}/evaluators/{self.id}"
        jobs = all_rft_jobs(profile)
        return next((job for job in jobs if job["evaluator"] == evaluator and state_of(job) not in ENDING), None)

    def start_job(self, profile: Profile) -> dict[str, Any]:
        """Upload the rows unless they are there, and start the job."""
        datasets = {key: self._dataset(profile, key) for key in ("rows", "heldOut")}
        body = {
            **self.settings["job"],
            "displayName": f"Studio: {self.settings['title']}",
            "dataset": datasets["rows"],
            "evaluationDataset": datasets["heldOut"],
            "evaluator": f"accounts/{profile.account_id}/evaluators/{self.id}",
        }
        job = call(profile, "POST", rft_path(profile), body)
        return self.control(profile, job["name"], {"autoEvaluatorVersion": True})

    def control(self, profile: Profile, job: str, wishes: dict[str, Any]) -> dict[str, Any]:
        """`:control` of the job; the job."""
        return call(profile, "POST", f"/v1/{job}:control", wishes)

    def path(self, profile: Profile, noun: str, identity: str | None = None) -> str:
        """Path of a collection, or of one of it."""
        collection = f"/v1/accounts/{profile.account_id}/{noun}"
        return f"{collection}/{identity}" if identity else collection

    def _project(self) -> list[Path]:
        rows = self.settings["heldOut"]
        return [
            path for path in sorted(self.source.iterdir()) if path.is_file() and path.name not in ("studio.json", rows)
        ]

    def _upload_folder(self, profile: Profile, path: str) -> None:
        body = {"evaluatorId": self.id, "evaluator": {"displayName": f"Studio: {self.settings['title']}"}}
        body["evaluator"]["entryPoint"] = self.settings["entryPoint"]
        call(profile, "POST", self.path(profile, "evaluatorsV2"), body)
        with tempfile.TemporaryDirectory() as scratch:
            archive = Path(scratch) / "evaluator.tar.gz"
            archive.write_bytes(pack(self.files()))
            request = {"filenameToSize": {archive.name: str(archive.stat().st_size)}}
            urls = call(profile, "POST", f"{path}:getUploadEndpoint", request)["filenameToSignedUrls"]
            upload(urls[archive.name], archive)
        call(profile, "POST", f"{path}:validateUpload", {})

    def _dataset(self, profile: Profile, key: str) -> str:
        """Resource name of one of the example's datasets, called by its content, uploaded unless it is there."""
        file = self.source / self.settings[key]
        content = file.read_bytes()
        identity = f"{self.slug}-{file.stem.replace('_', '-')}-{hashlib.sha256(content).hexdigest()[:8]}"
        path = self.path(profile, "datasets", identity)
        try:
            if call(profile, "GET", path)["state"] == "READY":
                return f"accounts/{profile.account_id}/datasets/{identity}"
        except ApiError as error:
            if error.status != 404:
                raise
            body = {"datasetId": identity, "dataset": {"displayName": f"Studio: {file.stem}", "evalProtocol": {}}}
            body["dataset"]["exampleCount"] = str(len(content.splitlines()))
            call(profile, "POST", self.path(profile, "datasets"), body)
        request = {"filenameToSize": {file.name: str(len(content))}}
        urls = call(profile, "POST", f"{path}:getUploadEndpoint", request)["filenameToSignedUrls"]
        upload(urls[file.name], file)
        call(profile, "POST", f"{path}:validateUpload", {})
        found = call(profile, "GET", path)
        if found["state"] != "READY":
            raise Unavailable(f"The dataset {short_id(found['name'])} is {found['state']}; start the studio again.")
        return found["name"]


def pack(files: dict[str, bytes]) -> bytes:
    """A .tar.gz of these files, the same bytes for the same files."""
    content = io.BytesIO()
    with gzip.GzipFile(fileobj=content, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name, data in sorted(files.items()):
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()
