"""Datasets: hostile uploads, signed uploads, counts that are corrected, and nothing half-uploaded that is READY."""

from __future__ import annotations

import json
import threading

import httpx2
import pytest

from tests.server.conftest import ACCOUNT, ROW, Platform, jsonl


def _create(platform: Platform, identity: str = "d", count: str = "3") -> None:
    platform.ok("POST", "/datasets", json={"dataset": {"exampleCount": count}, "datasetId": identity})


def _file(content: bytes) -> dict[str, tuple[str, bytes]]:
    return {"file": ("rows.jsonl", content)}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (jsonl(41) + b'{"messages": [\n', "Dataset validation failed: invalid JSON on line 42"),
        (jsonl(1) + b'{"prompt": "x"}\n', "Missing required field 'messages' on line 2"),
        (
            jsonl(2) + b'{"messages": [{"role": "usr", "content": "x"}]}\n',
            'message 0 on line 3 has the role "usr"; use one of',
        ),
        (b"", "the file is empty"),
        (b"\x00\x01\x02" * 50, "invalid JSON on line 1"),
    ],
)
def test_a_broken_upload_names_the_line_and_leaves_the_dataset_waiting(
    platform: Platform, content: bytes, message: str
):
    _create(platform)
    assert message in platform.fails(400, "POST", "/datasets/d:upload", files=_file(content))
    shown = platform.ok("GET", "/datasets/d")
    assert shown["state"] == "UPLOADING"
    assert message in shown["status"]["message"]
    assert not [path for path in platform.control.settings.path("objects").rglob("*") if path.is_file()]
    assert not list(platform.control.scratch().iterdir())
    platform.ok("POST", "/datasets/d:upload", files=_file(jsonl()))
    assert platform.ok("GET", "/datasets/d")["state"] == "READY"


def test_every_role_of_a_conversation_is_taken(platform: Platform):
    _create(platform)
    roles = ("system", "developer", "user", "assistant", "tool", "function")
    rows = [{"messages": [{"role": role, "content": "x"}]} for role in roles]
    platform.ok("POST", "/datasets/d:upload", files=_file(b"".join(json.dumps(row).encode() + b"\n" for row in rows)))


def test_a_wrong_example_count_is_corrected(platform: Platform):
    _create(platform, count="7")
    platform.ok("POST", "/datasets/d:upload", files=_file(jsonl(2)))
    shown = platform.ok("GET", "/datasets/d")
    assert shown["exampleCount"] == "2"
    assert "corrected from 7 to 2" in shown["status"]["message"]


def test_the_multipart_body_must_have_the_file(platform: Platform):
    _create(platform)
    assert "'file'" in platform.fails(400, "POST", "/datasets/d:upload", files={"other": ("x", b"y")})
    assert "'file'" in platform.fails(400, "POST", "/datasets/d:upload", content=b"plain")
    broken = {"Content-Type": "multipart/form-data; boundary=b"}
    platform.fails(400, "POST", "/datasets/d:upload", content=b"--b\r\nnonsense", headers=broken)
    platform.fails(404, "POST", "/datasets/none:upload", files=_file(jsonl()))


def test_an_upload_above_the_limit_is_refused_announced_or_not(platform: Platform):
    _create(platform)
    large = b'{"messages": [{"role": "user", "content": "' + b"x" * 2_200_000 + b'"}]}'
    assert "limit" in platform.fails(413, "POST", "/datasets/d:upload", files=_file(large))
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="f"\r\n\r\n'
    pieces = iter([head, *[large[i : i + 65536] for i in range(0, len(large), 65536)], b"\r\n--b--\r\n"])
    assert "limit" in platform.fails(413, "POST", "/datasets/d:upload", content=pieces, headers=headers)
    assert platform.ok("GET", "/datasets/d")["state"] == "UPLOADING"


def test_rows_are_given_once(platform: Platform):
    _create(platform)
    for _ in range(2):  # a client that lost the answer sends them again
        platform.ok("POST", "/datasets/d:upload", files=_file(jsonl()))
    assert "other rows already" in platform.fails(409, "POST", "/datasets/d:upload", files=_file(jsonl(2)))
    assert platform.ok("GET", "/datasets/d")["exampleCount"] == "3"


def test_the_same_create_again_is_fine_until_the_rows_are_here(platform: Platform):
    _create(platform)
    _create(platform)
    body = {"dataset": {"exampleCount": "4"}, "datasetId": "d"}
    response = platform.call("POST", "/datasets", json=body)
    assert (response.status_code, response.headers["x-should-retry"]) == (409, "false")
    platform.ok("POST", "/datasets/d:upload", files=_file(jsonl()))
    assert "exists already" in platform.fails(
        409, "POST", "/datasets", json={"dataset": {"exampleCount": "3"}, "datasetId": "d"}
    )


def test_two_uploads_at_once_end_in_one_dataset(platform: Platform):
    _create(platform)
    statuses: list[int] = []

    def upload(content: bytes) -> None:
        headers = {"Authorization": f"Bearer {platform.key}"}
        response = httpx2.post(f"{platform.url}{ACCOUNT}/datasets/d:upload", files=_file(content), headers=headers)
        statuses.append(response.status_code)

    threads = [threading.Thread(target=upload, args=(jsonl(count),)) for count in (5, 6, 7, 8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [200, 409, 409, 409]
    url = platform.ok("GET", "/datasets/d:getDownloadEndpoint")["filenameToSignedUrls"]["d.jsonl"]
    assert len(httpx2.get(url).content.splitlines()) == int(platform.ok("GET", "/datasets/d")["exampleCount"])


def test_signed_uploads_are_checked_and_joined(platform: Platform):
    _create(platform)
    first, second = jsonl(2), jsonl(3)
    sizes = {"b.jsonl": str(len(second)), "a.jsonl": str(len(first))}
    urls = platform.ok("POST", "/datasets/d:getUploadEndpoint", json={"filenameToSize": sizes})["filenameToSignedUrls"]
    bare = httpx2.Client()
    assert "'a.jsonl' has not arrived" in platform.fails(400, "POST", "/datasets/d:validateUpload", json={})
    assert bare.put(urls["a.jsonl"], content=first).status_code == 200
    too_long = bare.put(urls["b.jsonl"], content=second + b"x")
    assert (too_long.status_code, "announced" in too_long.json()["message"]) == (400, True)
    too_short = bare.put(urls["b.jsonl"], content=second[:-1])
    assert (too_short.status_code, "Only" in too_short.json()["message"]) == (400, True)
    misfit = bare.put(urls["b.jsonl"], content=second, headers={"X-Goog-Content-Length-Range": "0,5"})
    assert misfit.status_code == 400
    assert "'b.jsonl' has not arrived" in platform.fails(400, "POST", "/datasets/d:validateUpload", json={})
    assert bare.put(urls["a.jsonl"].replace("0.jsonl", "1.jsonl"), content=first).status_code == 403
    assert bare.get(urls["a.jsonl"]).status_code == 403
    assert bare.put(urls["b.jsonl"], content=second).status_code == 200
    platform.ok("POST", "/datasets/d:validateUpload", json={})
    platform.ok("POST", "/datasets/d:validateUpload", json={})
    shown = platform.ok("GET", "/datasets/d")
    assert (shown["state"], shown["exampleCount"]) == ("READY", "5")
    url = platform.ok("GET", "/datasets/d:getDownloadEndpoint")["filenameToSignedUrls"]["d.jsonl"]
    assert bare.get(url).content == first + second
    assert "its rows already" in platform.fails(
        400, "POST", "/datasets/d:getUploadEndpoint", json={"filenameToSize": {"c": "1"}}
    )
    bare.close()


def test_what_cannot_be_uploaded_is_said_at_once(platform: Platform):
    _create(platform)
    for sizes in ({}, {"a": "0"}, {"a": "-1"}, {"a": "2000001"}, {"a": "x"}):
        assert "filenameToSize" in platform.fails(
            400, "POST", "/datasets/d:getUploadEndpoint", json={"filenameToSize": sizes}
        )
    assert "no rows yet" in platform.fails(400, "GET", "/datasets/d:getDownloadEndpoint")
    body = {"dataset": {"externalUrl": "s3://b/k"}, "datasetId": "e"}
    assert "externalUrl" in platform.fails(400, "POST", "/datasets", json=body)
    for identity in ("Upper", "a b", "a/b/c", "accounts/local/models/a", "x" * 64, "-a", "a:b", "", "ü"):
        platform.fails(400, "POST", "/datasets", json={"dataset": {}, "datasetId": identity})
    assert len(platform.ok("GET", "/datasets")["datasets"]) == 1


def test_delete_and_update(platform: Platform):
    platform.dataset("d")
    assert platform.ok("PATCH", "/datasets/d", json={"displayName": "new"})["displayName"] == "new"
    assert "exampleCount" in platform.fails(400, "PATCH", "/datasets/d", json={"exampleCount": "9"})
    platform.ok("DELETE", "/datasets/d")
    platform.fails(404, "GET", "/datasets/d")
    assert not [path for path in platform.control.settings.path("objects").rglob("*") if path.is_file()]


def test_pages_filters_and_orders(platform: Platform):
    for index in range(5):
        _create(platform, f"d{index}")
    platform.ok("POST", "/datasets/d3:upload", files=_file(jsonl()))
    names, token = [], ""
    while True:
        query = {"pageSize": 2, "pageToken": token, "orderBy": "name desc"}
        body = platform.ok("GET", "/datasets", params=query)
        names += [item["name"][-2:] for item in body["datasets"]]
        token = body["nextPageToken"]
        if not token:
            break
    assert names == ["d4", "d3", "d2", "d1", "d0"]
    newest = platform.ok("GET", "/datasets")["datasets"]
    assert [item["name"][-2:] for item in newest] == names
    ready = platform.ok("GET", "/datasets", params={"filter": 'state="READY"'})["datasets"]
    assert [item["name"][-2:] for item in ready] == ["d3"]
    both = {"filter": 'state = "UPLOADING" AND name != "accounts/local/datasets/d1"'}
    assert len(platform.ok("GET", "/datasets", params=both)["datasets"]) == 3
    for wrong in (
        {"orderBy": "secret"},
        {"filter": "1=1; drop"},
        {"pageToken": "x"},
        {"pageSize": "-1"},
        {"pageSize": "a"},
    ):
        platform.fails(400, "GET", "/datasets", params=wrong)
    token = platform.ok("GET", "/datasets", params={"pageSize": 1})["nextPageToken"]
    assert "another query" in platform.fails(400, "GET", "/datasets", params={"pageToken": token, "orderBy": "name"})


def test_a_page_token_outlives_changes(platform: Platform):
    for index in range(4):
        _create(platform, f"d{index}")
    query = {"pageSize": 2, "orderBy": "name"}
    first = platform.ok("GET", "/datasets", params=query)
    platform.ok("DELETE", "/datasets/d0")
    second = platform.ok("GET", "/datasets", params={**query, "pageToken": first["nextPageToken"]})
    assert [item["name"][-2:] for item in second["datasets"]] == ["d2", "d3"]


def test_full_names_are_accepted_encoded(platform: Platform):
    name = platform.dataset("d")
    encoded = name.replace("/", "%2F")
    assert platform.ok("GET", f"/datasets/{encoded}")["name"] == name
    assert "filenameToSignedUrls" in platform.ok("GET", f"/datasets/{encoded}:getDownloadEndpoint")
    assert platform.ok("GET", f"/v1/accounts/accounts%2Flocal/datasets/{encoded}")["name"] == name
    platform.fails(403, "GET", "/datasets/accounts%2Fother%2Fdatasets%2Fd")
    platform.fails(404, "GET", "/datasets/accounts%2Flocal%2Fmodels%2Fd")


def test_the_rows_come_back_as_they_were(platform: Platform):
    content = json.dumps(ROW, ensure_ascii=False).encode() + b"\n"
    platform.dataset("d", content)
    url = platform.ok("GET", "/datasets/d:getDownloadEndpoint")["filenameToSignedUrls"]["d.jsonl"]
    answer = httpx2.get(url)
    assert answer.content == content
    assert "attachment" in answer.headers["content-disposition"]
