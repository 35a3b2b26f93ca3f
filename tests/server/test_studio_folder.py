"""The studio's folder and the versions of its evaluator, kept in step through the real API, without building anything."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

import pytest
from tunesmith.cli.profile import Profile
from tunesmith.cli.studio_example import Example, names
from tunesmith.cli.studio_folder import StudioFolder
from tunesmith.errors import InvalidArgument

from tests.server.conftest import Platform


class Desk:
    """A person with a folder and a page."""

    def __init__(self, platform: Platform, folder: Path) -> None:
        self.platform, self.file = platform, folder / "evaluation.py"
        self.example = Example("svg", folder)
        assert self.example.write()
        profile = Profile(platform.url, platform.key, "local")
        self.path = self.example.path(profile, "evaluators", self.example.id)
        self.example._upload_folder(profile, self.path)
        self.said: list[str] = []
        self.folder = StudioFolder(self.example, profile, self.said.append)
        self.look()

    def look(self) -> None:
        """Often enough for a saved file to be seen, and to be seen at rest."""
        for _ in range(4):
            self.folder._asked = 0.0
            self.folder.look()

    def newest(self) -> dict[str, Any]:
        return self.platform.ok("GET", f"{self.path}/versions")["evaluatorVersions"][0]

    def source(self) -> dict[str, str]:
        files = self.platform.ok("GET", f"{self.path}/versions/{self.newest()['version']}/source")["files"]
        return {file["path"]: file["text"] for file in files}

    def page(self, text: str) -> None:
        body = {"baseVersion": self.newest()["version"], "files": {"evaluation.py": text}, "message": "page"}
        self.platform.ok("POST", f"{self.path}:edit", json=body)

    def save(self, text: str, seconds_from_now: float = 0.0) -> None:
        self.file.write_text(text)
        moment = time.time() + seconds_from_now
        os.utime(self.file, (moment, moment))


@pytest.fixture
def desk(platform: Platform, tmp_path: Path) -> Desk:
    return Desk(platform, tmp_path / "reward")


def test_what_is_saved_is_a_version_and_nothing_else_is(desk: Desk) -> None:
    assert desk.newest()["version"] == 1
    (desk.file.parent / ".hidden").write_text("x")
    (desk.file.parent / "__pycache__").mkdir()
    (desk.file.parent / "__pycache__" / "a.pyc").write_bytes(b"\x00")
    desk.look()
    assert desk.newest()["version"] == 1
    desk.save("better = 1\n")
    desk.look()
    assert (desk.newest()["version"], desk.newest()["origin"]) == (2, "edit")
    assert desk.newest()["message"] == f"saved in {desk.file.parent}"
    assert desk.source()["evaluation.py"] == "better = 1\n"
    assert desk.said == ["evaluation.py saved: version 2 is being built."]


def test_a_new_file_and_a_removed_one_are_changes_too(desk: Desk) -> None:
    (desk.file.parent / "colours.py").write_text("RED = 1\n")
    (desk.file.parent / "rows.jsonl").unlink()
    desk.look()
    assert sorted(desk.source()) == ["colours.py", "evaluation.py", "requirements.txt"]


def test_what_is_made_in_the_page_is_written_and_comes_not_back_as_a_version(desk: Desk) -> None:
    desk.page("from_the_page = 1\n")
    desk.look()
    assert desk.file.read_text() == "from_the_page = 1\n"
    assert desk.said == ["Version 2 was made in the page: written to evaluation.py."]
    assert desk.newest()["version"] == 2
    assert not list(desk.file.parent.glob(".*before*"))


def test_of_two_changes_the_pages_wins_where_it_is_newer_and_the_folders_is_kept(desk: Desk) -> None:
    desk.save("mine = 1\n", seconds_from_now=-60)
    desk.page("theirs = 1\n")
    desk.look()
    assert desk.file.read_text() == "theirs = 1\n"
    assert (desk.file.parent / ".evaluation.py.before-v2").read_text() == "mine = 1\n"
    assert "What evaluation.py was before is kept beside it." in desk.said[-1]


def test_of_two_changes_the_folders_wins_where_it_is_newer_and_the_pages_stays_a_version(desk: Desk) -> None:
    desk.page("theirs = 1\n")
    desk.save("mine = 1\n", seconds_from_now=60)
    desk.look()
    assert desk.file.read_text() == "mine = 1\n"
    assert desk.newest()["version"] == 3
    assert desk.source()["evaluation.py"] == "mine = 1\n"
    assert "that wins" in desk.said[0]


def test_the_page_that_was_faster_by_a_moment_is_not_overwritten_unseen(desk: Desk) -> None:
    """The edit is refused with 409, because its base is not the newest any more; then the times decide."""
    desk.page("theirs = 1\n")
    desk.save("mine = 1\n", seconds_from_now=60)
    desk.folder._asked = time.monotonic()
    desk.folder._look_at_folder()
    desk.folder._look_at_folder()
    assert desk.newest()["version"] == 2
    desk.look()
    assert desk.source()["evaluation.py"] == "mine = 1\n"


def test_a_studio_that_is_started_again_takes_up_what_was_saved_meanwhile(desk: Desk) -> None:
    desk.save("while_away = 1\n", seconds_from_now=60)
    desk.folder = StudioFolder(desk.example, desk.folder._profile, desk.said.append)
    desk.look()
    assert desk.source()["evaluation.py"] == "while_away = 1\n"


def test_a_folder_that_is_there_is_kept(tmp_path: Path) -> None:
    (tmp_path / "evaluation.py").write_text("mine")
    assert not Example("svg", tmp_path).write()
    assert (tmp_path / "evaluation.py").read_text() == "mine"
    assert names() == ["svg"]
    with pytest.raises(InvalidArgument, match="there are svg"):
        Example("nothing", tmp_path)
