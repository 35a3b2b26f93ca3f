"""Evaluators: uploads that must arrive whole, builds that are queued once, logs and sources by signed URL."""

from __future__ import annotations

import io
import tarfile
import time

import httpx2
import pytest
from tunesmith.db.jobs import claim
from tunesmith.db.session import reading
from tunesmith.db.tables import Evaluator, EvaluatorVersion, Job

from tests.server.conftest import Platform


def _create(platform: Platform) -> None:
    platform.ok("POST", "/evaluatorsV2", json={"evaluator": {"entryPoint": "e.py::f"}, "evaluatorId": "e"})


def _upload(platform: Platform, content: bytes) -> None:
    body = {"filenameToSize": {"p.tar.gz": str(len(content))}}
    urls = platform.ok("POST", "/evaluators/e:getUploadEndpoint", json=body)["filenameToSignedUrls"]
    assert httpx2.put(urls["p.tar.gz"], content=content).status_code == 200


def test_nothing_is_built_before_the_whole_archive_is_here(platform: Platform):
    _create(platform)
    assert "getUploadEndpoint" in platform.fails(400, "POST", "/evaluators/e:validateUpload", json={})
    platform.ok("POST", "/evaluators/e:getUploadEndpoint", json={"filenameToSize": {"p.tar.gz": "10"}})
    assert "has not arrived" in platform.fails(400, "POST", "/evaluators/e:validateUpload", json={})
    with reading(platform.control.sessions) as session:
        assert session.query(Job).count() == 0
    _upload(platform, b"0123456789")
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    with reading(platform.control.sessions) as session:
        assert session.query(Job).one().name == "accounts/local/evaluators/e/builds/1"


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"a.zip": "1"},
        {"../a.tar.gz": "1"},
        {"a.tar.gz": "0"},
        {"a.tar.gz": "999999999"},
        {"a.tar.gz": "1", "b.tar.gz": "1"},
    ],
)
def test_only_one_archive_of_a_fair_size_is_taken(platform: Platform, sizes: dict[str, str]):
    _create(platform)
    message = platform.fails(400, "POST", "/evaluators/e:getUploadEndpoint", json={"filenameToSize": sizes})
    assert "filenameToSize" in message


def test_source_and_log_are_behind_signed_urls(platform: Platform):
    _create(platform)
    assert "no source" in platform.fails(400, "GET", "/evaluators/e:getSourceCodeSignedUrl")
    _upload(platform, b"archive")
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    url = platform.ok("GET", "/evaluators/e:getBuildLogEndpoint")["buildLogSignedUri"]
    assert "nothing was built" in httpx2.get(url).text
    with platform.control.sessions.begin() as session:
        evaluator = session.get_one(Evaluator, "accounts/local/evaluators/e")
        evaluator.build_log, evaluator.state = "pip: no such package", "BUILD_FAILED"
        evaluator.status = {"code": "FAILED_PRECONDITION", "message": "pip failed"}
    assert httpx2.get(url).text == "pip: no such package"
    assert httpx2.get(url.replace("expires=1", "expires=2")).status_code == 403
    sources = platform.ok("GET", "/evaluators/e:getSourceCodeSignedUrl")["filenameToSignedUrls"]
    assert [httpx2.get(source).content for source in sources.values()] == [b"archive"]
    shown = platform.ok("GET", "/evaluators/e")
    assert (shown["state"], shown["status"]["message"]) == ("BUILD_FAILED", "pip failed")


def test_an_evaluator_whose_source_never_came_shows_as_failed(platform: Platform):
    _create(platform)
    assert platform.ok("GET", "/evaluators/e")["state"] == "BUILDING"
    with platform.control.sessions.begin() as session:
        session.get_one(Evaluator, "accounts/local/evaluators/e").updated = time.time() - 1000
    shown = platform.ok("GET", "/evaluators/e")
    assert (shown["state"], "--force" in shown["status"]["message"]) == ("BUILD_FAILED", True)
    _create(platform)
    _upload(platform, b"late")
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    assert platform.ok("GET", "/evaluators/e")["state"] == "BUILDING"


def test_a_new_version_by_update(platform: Platform):
    _create(platform)
    _upload(platform, b"one")
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    assert "prepareCodeUpload" in platform.fails(400, "PATCH", "/evaluators/e", json={"entryPoint": "g.py::g"})
    changed = platform.ok("PATCH", "/evaluators/e?prepareCodeUpload=true", json={"entryPoint": "g.py::g"})
    assert (changed["version"], changed["state"], changed["entryPoint"]) == (2, "BUILDING", "g.py::g")
    _upload(platform, b"two")
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    with platform.control.sessions.begin() as session:
        builds = [claim(session, "w", ["evaluator_build"], 30) for _ in range(2)]
        assert [build and build.spec["version"] for build in builds] == [1, 2]
        archives = [platform.control.objects.read(build.spec["archive_key"]) for build in builds if build]
    assert archives == [b"one", b"two"]


def test_snippets_are_refused(platform: Platform):
    body = {"evaluator": {"criteria": [{"type": "CODE_SNIPPETS"}]}, "evaluatorId": "e"}
    assert "criteria" in platform.fails(400, "POST", "/evaluatorsV2", json=body)
    assert platform.ok("GET", "/evaluators")["evaluators"] == []


def _packed(declaration: str, folder: str = "project/") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, content in (("evaluation.py", b"x"), ("tunesmith.toml", declaration.encode())):
            info = tarfile.TarInfo(f"{folder}{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("declaration", "said"),
    [
        (
            "network = []\nsecrets = [\n\n",
            "tunesmith.toml, line 2 cannot be read: Invalid value, and there the file ends. Write lists",
        ),
        ('# no "sekrets" here\nsekrets = ["A"]\n', "tunesmith.toml, line 2 has the key 'sekrets'"),
        ('network = [\n  "good:1",\n  "http://no",\n]', "tunesmith.toml, line 3: network names 'http://no'"),
        ('secrets = ["A B"]', "tunesmith.toml, line 1: secrets names 'A B'"),
        ("\nnetwork = 3", "tunesmith.toml, line 2: network must be a list of texts"),
        ("\nnetwork = 3 4\n", "tunesmith.toml, line 2 cannot be read: "),
        ("#" * 70_000, "more than 65536 bytes"),
    ],
)
def test_a_wrong_declaration_is_refused_when_it_comes_in(platform: Platform, declaration: str, said: str):
    _create(platform)
    _upload(platform, _packed(declaration))
    refusal = platform.fails(400, "POST", "/evaluators/e:validateUpload", json={})
    assert said in refusal
    assert platform.fails(400, "POST", "/evaluators/e:validateUpload", json={}) == refusal
    shown = platform.ok("GET", "/evaluators/e")
    assert (shown["state"], said in shown["status"]["message"]) == ("BUILD_FAILED", True)
    with reading(platform.control.sessions) as session:
        assert session.query(Job).count() == 0
    _upload(platform, _packed("network = []"))
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    assert platform.ok("GET", "/evaluators/e")["state"] == "BUILDING"


def test_a_refused_upload_leaves_the_version_that_is_there(platform: Platform):
    _create(platform)
    _upload(platform, _packed(""))
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    with platform.control.sessions.begin() as session:
        session.get_one(Evaluator, "accounts/local/evaluators/e").state = "ACTIVE"
    before = platform.ok("GET", "/evaluators/e")
    _upload(platform, _packed("secrets = 1"))
    for _ in range(2):  # a client that lost the first answer hears the same
        assert "line 1: secrets" in platform.fails(400, "POST", "/evaluators/e:validateUpload", json={})
    assert platform.ok("GET", "/evaluators/e") | {"updateTime": before["updateTime"]} == before


def test_a_refused_new_version_gives_the_evaluator_back_as_it_was(platform: Platform):
    _create(platform)
    _upload(platform, _packed(""))
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
    with platform.control.sessions.begin() as session:
        for row in (
            session.get_one(Evaluator, "accounts/local/evaluators/e"),
            session.get_one(EvaluatorVersion, "accounts/local/evaluators/e/versions/1"),
        ):
            row.state, row.status, row.build_dir = "ACTIVE", {"code": "OK", "message": "Built."}, "/built"
    before = platform.ok("GET", "/evaluators/e")
    platform.ok("PATCH", "/evaluators/e?prepareCodeUpload=true", json={"entryPoint": "other.py::test"})
    _upload(platform, _packed("secrets = 1"))
    for _ in range(2):  # a client that lost the first answer hears the same
        assert "line 1: secrets" in platform.fails(400, "POST", "/evaluators/e:validateUpload", json={})
    assert platform.ok("GET", "/evaluators/e") | {"updateTime": before["updateTime"]} == before


def test_a_declaration_is_found_with_a_top_folder_or_without(platform: Platform):
    _create(platform)
    for folder in ("", "project/", "./project/"):
        _upload(platform, _packed("nonsense", folder))
        assert "tunesmith.toml, line 1 cannot be read" in platform.fails(
            400, "POST", "/evaluators/e:validateUpload", json={}
        )


def test_a_declaration_elsewhere_in_the_project_is_none(platform: Platform):
    _create(platform)
    _upload(platform, _packed("nonsense", "project/vendored/"))
    platform.ok("POST", "/evaluators/e:validateUpload", json={})
