"""Versions of an evaluator: uploads and edits, their files, what differs, and what was scored."""

from __future__ import annotations

import io
import tarfile
from typing import Any

import pytest
from tunesmith.db.evaluator_versions import settle_version
from tunesmith.db.jobs import enqueue
from tunesmith.db.rollouts import add_rollouts
from tunesmith.db.tables import Job

from tests.server.conftest import Platform
from tests.server.test_rft_monitoring import rollout, spec

NAME = "accounts/local/evaluators/e"
CODE = "def f(row):\n    return 1\n"
FILES = {
    "evaluation.py": CODE.encode(),
    "requirements.txt": b"eval-protocol\n",
    "data/x.bin": b"\xff\x00",
    "empty": b"",
}


def upload(platform: Platform, files: dict[str, bytes], links: dict[str, str] | None = None) -> None:
    """As clients do: one top folder in a .tar.gz, by a signed URL."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"project/{name}")
            info.size = len(content)
            info.mode = 0o755 if name.endswith(".sh") else 0o644
            tar.addfile(info, io.BytesIO(content))
        for name, target in (links or {}).items():
            info = tarfile.TarInfo(f"project/{name}")
            info.type, info.linkname = tarfile.SYMTYPE, target
            tar.addfile(info)
    body = buffer.getvalue()
    sizes = {"filenameToSize": {"p.tar.gz": len(body)}}
    urls = platform.ok("POST", "/evaluators/e:getUploadEndpoint", json=sizes)["filenameToSignedUrls"]
    assert platform.http.put(urls["p.tar.gz"], content=body).status_code == 200
    platform.ok("POST", "/evaluators/e:validateUpload", json={})


@pytest.fixture
def uploaded(platform: Platform) -> Platform:
    body = {"evaluator": {"entryPoint": "evaluation.py::f"}, "evaluatorId": "e"}
    platform.ok("POST", "/evaluatorsV2", json=body)
    assert platform.ok("GET", "/evaluators/e/versions") == {"evaluatorVersions": []}
    upload(platform, FILES)
    return platform


def edit(platform: Platform, base: int, files: dict[str, str | None], message: str = "") -> dict[str, Any]:
    body = {"baseVersion": base, "files": files, "message": message}
    return platform.ok("POST", "/evaluators/e:edit", json=body)


def texts(platform: Platform, version: int) -> dict[str, str | None]:
    files = platform.ok("GET", f"/evaluators/e/versions/{version}/source")["files"]
    return {file["path"]: file["text"] for file in files}


def test_every_upload_and_every_edit_is_a_version(uploaded: Platform) -> None:
    second = edit(uploaded, 1, {"evaluation.py": CODE.replace("1", "2"), "new/a.py": "x = 1\n"}, "score two")
    upload(uploaded, {**FILES, "third.txt": b"3"})
    versions = uploaded.ok("GET", "/evaluators/e/versions")["evaluatorVersions"]
    assert [(v["version"], v["origin"], v["message"], v["current"]) for v in versions] == [
        (3, "upload", "", True),
        (2, "edit", "score two", False),
        (1, "upload", "", False),
    ]
    assert second["name"] == f"{NAME}/versions/2"
    assert (second["state"], second["entryPoint"], second["current"]) == ("BUILDING", "evaluation.py::f", True)
    assert texts(uploaded, 1) == {
        "data/x.bin": None,
        "empty": "",
        "evaluation.py": CODE,
        "requirements.txt": "eval-protocol\n",
    }
    assert texts(uploaded, 2)["new/a.py"] == "x = 1\n"
    assert "return 2" in str(texts(uploaded, 2)["evaluation.py"])
    assert texts(uploaded, 3)["evaluation.py"] == CODE
    assert uploaded.ok("GET", "/evaluators/e")["version"] == 3
    with uploaded.control.sessions() as session:
        assert (
            session.get_one(Job, f"{NAME}/builds/2").spec["archive_key"]
            != session.get_one(Job, f"{NAME}/builds/3").spec["archive_key"]
        )


def test_what_differs(uploaded: Platform) -> None:
    edit(uploaded, 1, {"evaluation.py": CODE.replace("1", "2"), "new.py": "x = 1", "empty": None})
    files = uploaded.ok("GET", "/evaluators/e/versions/2/diff")["files"]
    assert [(f["path"], f["status"]) for f in files] == [
        ("empty", "removed"),
        ("evaluation.py", "changed"),
        ("new.py", "added"),
    ]
    assert files[1]["diff"].splitlines() == [
        "--- a/evaluation.py",
        "+++ b/evaluation.py",
        "@@ -1,2 +1,2 @@",
        " def f(row):",
        "-    return 1",
        "+    return 2",
    ]
    assert files[2]["diff"].endswith("+x = 1\n\\ No newline at end of file\n")
    back = uploaded.ok("GET", "/evaluators/e/versions/1/diff?base=2")["files"]
    assert {f["path"]: f["status"] for f in back} == {"empty": "added", "evaluation.py": "changed", "new.py": "removed"}
    assert uploaded.ok("GET", "/evaluators/e/versions/2/diff?base=2") == {"files": []}
    first = uploaded.ok("GET", "/evaluators/e/versions/1/diff")["files"]
    assert {f["status"] for f in first} == {"added"}
    assert next(f for f in first if f["path"] == "data/x.bin")["diff"] is None
    assert "no version 9" in uploaded.fails(404, "GET", "/evaluators/e/versions/1/diff?base=9")


def test_an_edit_from_an_older_version_is_refused_and_loses_nothing(uploaded: Platform) -> None:
    edit(uploaded, 1, {"evaluation.py": "a = 1\n"})
    body = {"baseVersion": 1, "files": {"evaluation.py": "b = 1\n"}}
    assert "at version 2" in uploaded.fails(409, "POST", "/evaluators/e:edit", json=body)
    assert texts(uploaded, 2)["evaluation.py"] == "a = 1\n"
    assert len(uploaded.ok("GET", "/evaluators/e/versions")["evaluatorVersions"]) == 2
    body["baseVersion"] = 7
    assert "newest is 2" in uploaded.fails(404, "POST", "/evaluators/e:edit", json=body)


def test_an_edit_that_changes_nothing_makes_no_version(uploaded: Platform) -> None:
    assert edit(uploaded, 1, {"evaluation.py": CODE})["version"] == 1
    assert len(uploaded.ok("GET", "/evaluators/e/versions")["evaluatorVersions"]) == 1


def test_an_edit_that_spoils_the_declaration_is_refused(uploaded: Platform) -> None:
    body = {"baseVersion": 1, "files": {"tunesmith.toml": "network = []\nsecret = []\n"}}
    assert "tunesmith.toml, line 2 has the key 'secret'" in uploaded.fails(400, "POST", "/evaluators/e:edit", json=body)
    assert len(uploaded.ok("GET", "/evaluators/e/versions")["evaluatorVersions"]) == 1
    assert edit(uploaded, 1, {"tunesmith.toml": "network = []\n"})["version"] == 2


OUTSIDE = (
    *("/etc/x", "../x", "a/../../x", "a//b", "", ".", "a/.", "a\\b", "a\0b", "a\nb", "x" * 600),
    *("evaluation.py/x", "inside/x"),
)


def test_no_path_leads_out_of_the_project(uploaded: Platform) -> None:
    upload(uploaded, FILES, {"inside": "data"})
    for path in OUTSIDE:
        body = {"baseVersion": 2, "files": {path: "x"}}
        assert "files" in uploaded.fails(400, "POST", "/evaluators/e:edit", json=body), path
    assert len(uploaded.ok("GET", "/evaluators/e/versions")["evaluatorVersions"]) == 2


def test_a_link_is_replaced_not_written_through(uploaded: Platform) -> None:
    upload(uploaded, FILES, {"link.py": "evaluation.py"})
    assert texts(uploaded, 2)["link.py"] is None
    edit(uploaded, 2, {"link.py": "own = 1\n"})
    assert texts(uploaded, 3)["link.py"] == "own = 1\n"
    assert texts(uploaded, 3)["evaluation.py"] == CODE


def test_what_an_edit_leaves_alone_stays_byte_for_byte(uploaded: Platform) -> None:
    upload(uploaded, {**FILES, "run.sh": b"#!/bin/sh\n"}, {"inside": "data"})
    edit(uploaded, 2, {"evaluation.py": "a = 1\n"})
    with uploaded.control.sessions() as session:
        key = session.get_one(Job, f"{NAME}/builds/3").spec["archive_key"]
    with tarfile.open(fileobj=io.BytesIO(uploaded.control.objects.read(key))) as tar:
        names = {member.name: member for member in tar}
        assert names["project/run.sh"].mode & 0o111
        assert names["project/inside"].linkname == "data"
        packed = tar.extractfile("project/data/x.bin")
        assert packed is not None
        assert packed.read() == b"\xff\x00"


def test_bad_edits_say_what_is_wrong(uploaded: Platform) -> None:
    def refused(**body: Any) -> str:
        return uploaded.fails(400, "POST", "/evaluators/e:edit", json={"baseVersion": 1, **body})

    assert "empty" in refused(files={})
    assert "no file 'none.py'" in refused(files={"none.py": None})
    assert "is a folder" in refused(files={"data": "x"})
    assert "at most" in refused(files={f"f{i}": "x" for i in range(201)})
    assert "not known" in refused(files={"a": "x"}, force=True)
    assert "not found" in uploaded.fails(
        404, "POST", "/evaluators/none:edit", json={"baseVersion": 1, "files": {"a": ""}}
    )


def test_a_build_ends_its_own_version(uploaded: Platform) -> None:
    edit(uploaded, 1, {"evaluation.py": "a = 1\n"})
    with uploaded.control.sessions.begin() as session:
        built = {"build_dir": "/built/1", "described": {"name": "f", "mode": "pointwise"}}
        settle_version(session, NAME, 1, state="ACTIVE", status={"code": "OK", "message": ""}, built=built)
        settle_version(session, NAME, 9, state="ACTIVE", status={}, built=built)
    first = uploaded.ok("GET", "/evaluators/e/versions/1")
    assert (first["state"], first["described"]["mode"], first["buildLog"]) == ("ACTIVE", "pointwise", "")
    assert uploaded.ok("GET", "/evaluators/e/versions/2")["state"] == "BUILDING"
    assert "/built" not in str(first)


def test_the_versions_go_with_their_evaluator(uploaded: Platform) -> None:
    edit(uploaded, 1, {"evaluation.py": "a = 1\n"})
    with uploaded.control.sessions() as session:
        keys = [session.get_one(Job, f"{NAME}/builds/{n}").spec["archive_key"] for n in (1, 2)]
    uploaded.ok("DELETE", "/evaluators/e")
    assert [uploaded.control.objects.size(key) for key in keys] == [None, None]
    uploaded.fails(404, "GET", "/evaluators/e/versions")
    body = {"evaluator": {"entryPoint": "evaluation.py::f"}, "evaluatorId": "e"}
    uploaded.ok("POST", "/evaluatorsV2", json=body)
    upload(uploaded, FILES)
    assert [v["version"] for v in uploaded.ok("GET", "/evaluators/e/versions")["evaluatorVersions"]] == [3]


def test_what_it_scored(uploaded: Platform) -> None:
    job = "accounts/local/reinforcementFineTuningJobs/j"
    with uploaded.control.sessions.begin() as session:
        enqueue(session, job, "accounts/local", "rft", spec())
        lines = [(i, rollout(i, score)) for i, score in enumerate((1.0, 0.5, None))]
        add_rollouts(session, job, "rollouts.jsonl", lines)
        record = {"evaluator": NAME, "inputDataset": "x", "outputDataset": "y"}
        enqueue(session, "accounts/local/evaluationJobs/record", "accounts/local", "evaluation", record)
        evaluation = {"evaluator": NAME, "evaluator_version": 2, "model": "m", "request": {}}
        ran = enqueue(session, "accounts/local/evaluationJobs/ran", "accounts/local", "evaluation", evaluation)
        ran.progress = {"metrics": {"score": 0.25, "rows": 8, "invalid": 1}}
    results = uploaded.ok("GET", "/evaluators/e/results")["results"]
    assert {
        r["kind"]: (r["job"], r["evaluatorVersion"], r["meanScore"], r["rollouts"], r["invalid"]) for r in results
    } == {
        "rft": (job, 1, 0.75, 3, 1),
        "evaluation": ("accounts/local/evaluationJobs/ran", 2, 0.25, 8, 1),
    }
