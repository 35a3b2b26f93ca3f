"""A folder and the versions of an evaluator, kept in step.

A file that is saved becomes a version at once; a version that was made in the page is written into the folder. Where both changed, the
newer one wins, and the other is kept: on the platform as a version, in the folder as `.NAME.before-vN`.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from tunesmith.cli.client import ApiError, call
from tunesmith.cli.profile import Profile
from tunesmith.cli.studio_example import Example
from tunesmith.runs.files import write_atomic

Files = dict[str, bytes]
Stamp = dict[str, tuple[int, int]]
LIST_SECONDS = 1.0
"""How often the platform is asked for versions."""


class StudioFolder:
    """Watches a folder and an evaluator; `look` is called again and again and does what is missing."""

    def __init__(self, example: Example, profile: Profile, say: Callable[[str], None]) -> None:
        self._example, self._profile, self._say = example, profile, say
        self._path = example.path(profile, "evaluators", example.id)
        self._known: Files = {}
        """Files of the newest version, as far as they are text."""
        self._version = 0
        self._states: dict[int, str] = {}
        self._asked = 0.0
        self._stamp: Stamp = {}
        self._settled: Stamp | None = None

    def look(self) -> None:
        """Take up what changed on either side since the last look. Raises as `call` when the platform does not answer."""
        if time.monotonic() - self._asked > LIST_SECONDS or not self._version:
            self._asked = time.monotonic()
            self._look_at_versions()
        self._look_at_folder()

    def _look_at_versions(self) -> None:
        versions = call(self._profile, "GET", f"{self._path}/versions")["evaluatorVersions"]
        for version in reversed(versions):
            self._tell_state(version)
        newest = versions[0]
        if newest["version"] <= self._version:
            return
        theirs = self._source(newest["version"])
        if self._version == 0:  # the studio has just begun: nobody knows yet what the folder was last like
            self._version, self._known = newest["version"], theirs
            if self._changes() and _time(newest["createTime"]) > self._saved():
                self._write(newest, theirs)
            return
        self._write(newest, theirs)

    def _look_at_folder(self) -> None:
        stamp = self._stamps()
        if stamp == self._stamp:
            return
        if stamp != self._settled:
            self._settled = stamp  # perhaps it is still being written: once more the same, and it counts
            return
        changes = self._changes()
        self._stamp = stamp
        if not changes:
            return
        body = {
            "baseVersion": self._version,
            "files": {name: None if data is None else data.decode() for name, data in changes.items()},
            "message": f"saved in {self._example.folder}",
        }
        what = ", ".join(changes)
        try:
            made = call(self._profile, "POST", f"{self._path}:edit", body)
        except ApiError as error:
            if error.status == 409:  # the page was faster: `_write` compares the times and says what it did
                self._stamp = {}
                self._asked = 0.0
                return
            self._say(f"{what} was saved, but is no version: {error.message}")
            return
        self._version = made["version"]
        self._known = {name: data for name, data in {**self._known, **changes}.items() if data is not None}
        self._states[self._version] = "BUILDING"
        self._say(f"{what} saved: version {self._version} is being built.")

    def _write(self, newest: dict[str, Any], theirs: Files) -> None:
        """Bring the folder to a newer version, unless what was saved in the folder meanwhile is newer still."""
        number, mine = newest["version"], self._changes()
        if mine and self._saved() > _time(newest["createTime"]):
            self._version, self._known, self._stamp = number, theirs, {}
            self._say(f"Version {number} was made in the page, but {', '.join(mine)} was saved later: that wins.")
            return
        ours = self._example.files()
        changed = [name for name in theirs if ours.get(name) != theirs[name]]
        removed = [name for name in self._known if name not in theirs and name in ours]
        for name in (*changed, *removed):
            target = self._example.folder / name
            if name in mine and name in ours:
                write_atomic(target.with_name(f".{target.name}.before-v{number}"), ours[name])
            if name in removed:
                target.unlink(missing_ok=True)
            else:
                write_atomic(target, theirs[name])
        self._version, self._known = number, theirs
        self._stamp = self._stamps()
        self._settled = self._stamp
        if changed or removed:
            kept = f" What {', '.join(mine)} was before is kept beside it." if mine else ""
            self._say(f"Version {number} was made in the page: written to {', '.join((*changed, *removed))}.{kept}")

    def _tell_state(self, version: dict[str, Any]) -> None:
        number, state = version["version"], version["state"]
        before = self._states.get(number)
        self._states[number] = state
        if before != "BUILDING" or state == "BUILDING":
            return
        if state == "ACTIVE":
            self._say(f"Version {number} is built; the next step uses it.")
        else:
            message = (version.get("status") or {}).get("message") or state
            self._say(f"Version {number} cannot be used, the version before it stays in force: {message}")

    def _source(self, version: int) -> Files:
        files = call(self._profile, "GET", f"{self._path}/versions/{version}/source")["files"]
        return {file["path"]: file["text"].encode() for file in files if file.get("text") is not None}

    def _changes(self) -> dict[str, bytes | None]:
        """What the folder has otherwise than the newest version: new content by name, None for a file that is gone."""
        ours = self._example.files()
        changed: dict[str, bytes | None] = {
            name: data for name, data in ours.items() if self._known.get(name) != data and _is_text(data)
        }
        return changed | {name: None for name in self._known if name not in ours}

    def _saved(self) -> float:
        """When a file of the folder was last written, in Unix seconds."""
        return max((mtime / 1e9 for mtime, _ in self._stamps().values()), default=0.0)

    def _stamps(self) -> Stamp:
        stamps: Stamp = {}
        for name in self._example.names():
            try:
                stat = Path(self._example.folder, name).stat()
            except OSError:
                continue  # replaced this very moment
            stamps[name] = (stat.st_mtime_ns, stat.st_size)
        return stamps


def _is_text(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
