"""What is packed, what stays at home, and that the same source gives the same bytes."""

from __future__ import annotations

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from eval_protocol.client.errors import PackingError
from eval_protocol.client.ignore import is_ignored, parse_rule
from eval_protocol.client.packing import MAX_PROJECT_BYTES, pack


def write(root: Path, *names: str, content: str = "x") -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)


@pytest.mark.parametrize(
    ("pattern", "path", "is_folder", "expected"),
    [
        ("*.log", "a/b/c.log", False, True),
        ("/*.log", "a/c.log", False, False),
        ("/*.log", "c.log", False, True),
        ("a/b", "a/b", False, True),
        ("a/b", "x/a/b", False, False),
        ("b", "x/a/b", False, True),
        ("build/", "x/build", True, True),
        ("build/", "x/build", False, False),
        ("**/data", "x/y/data", False, True),
        ("**/data", "data", False, True),
        ("a/**/z", "a/z", False, True),
        ("a/**/z", "a/b/c/z", False, True),
        ("a/**", "a/b/c", False, True),
        ("a/**", "a", True, False),
        ("a*c", "a/c", False, False),
        ("a?c", "abc", False, True),
        ("a[!b]c", "abc", False, False),
        ("a[!b]c", "axc", False, True),
        ("a[]b]c", "a]c", False, True),
        ("f[0-9].txt", "f7.txt", False, True),
        ("\\#x", "#x", False, True),
        ("\\!x", "!x", False, True),
        ("x\\ ", "x ", False, True),
        ("x  ", "x", False, True),
        ("[", "[", False, True),
    ],
)
def test_a_pattern_matches_as_in_git(pattern: str, path: str, is_folder: bool, expected: bool) -> None:
    rule = parse_rule(pattern)
    assert rule is not None
    assert rule.matches(path, is_folder) is expected


@pytest.mark.parametrize("line", ["", "   ", "# comment", "/", "!"])
def test_lines_without_a_pattern_are_no_rules(line: str) -> None:
    assert parse_rule(line) is None


def test_the_last_matching_rule_wins() -> None:
    rules = [rule for line in ("*.jsonl", "!keep.jsonl") if (rule := parse_rule(line))]
    assert is_ignored(rules, "drop.jsonl", False)
    assert not is_ignored(rules, "keep.jsonl", False)


def test_the_selection_agrees_with_git_on_a_tangled_tree(tmp_path: Path) -> None:
    (tmp_path / ".gitignore").write_text(
        "*.jsonl\n!keep.jsonl\n/top.txt\nsub/**/deep.txt\nfolder/\n!folder/kept.txt\nodd[0-9]?.md\n"
    )
    write(
        tmp_path,
        "a.jsonl",
        "keep.jsonl",
        "top.txt",
        "sub/top.txt",
        "sub/x/y/deep.txt",
        "sub/deep.txt",
        "folder/kept.txt",
    )
    write(tmp_path, "sub/b.jsonl", "nest/c.jsonl", "nest/d.txt", "odd1x.md", "oddx.md", "nest/in/e.txt", "ünïcode.txt")
    (tmp_path / "nest/.gitignore").write_text("!c.jsonl\n/d.txt\n!in\n")
    subprocess.run(["git", "init", "-q", "."], cwd=tmp_path, check=True)
    listed = subprocess.run(
        ["git", "ls-files", "--others", "--exclude-standard", "-z"],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert set(pack(tmp_path).files) == {name for name in listed.split("\0") if name}


def test_secrets_and_git_never_leave_even_when_a_rule_asks_for_them(tmp_path: Path) -> None:
    write(tmp_path, ".env", ".env.production", "sub/.env", ".git/config", ".envrc", "evaluation.py")
    (tmp_path / ".gitignore").write_text("!.env\n!.env.*\n!.git\n!.envrc\n")
    assert pack(tmp_path).files == (".gitignore", "evaluation.py")


def test_environments_caches_and_archives_stay_but_a_rule_can_bring_them_back(tmp_path: Path) -> None:
    write(
        tmp_path,
        ".venv/bin/x",
        "__pycache__/a.pyc",
        "node_modules/b",
        "old.tar.gz",
        "run.log",
        "build/wheel",
        "src/a.py",
    )
    assert pack(tmp_path).files == ("src/a.py",)
    (tmp_path / ".gitignore").write_text("!build/\n")
    assert pack(tmp_path).files == (".gitignore", "build/wheel", "src/a.py")


def test_the_same_source_gives_the_same_bytes_whatever_the_times_and_the_order(tmp_path: Path) -> None:
    first, second = tmp_path / "1" / "project", tmp_path / "2" / "project"
    write(first, "b.py", "a.py", "sub/c.py")
    write(second, "sub/c.py", "a.py", "b.py")
    os.utime(second / "a.py", (1, 1))
    assert pack(first).content == pack(second).content
    assert pack(first).source_hash == pack(second).source_hash
    write(second, "a.py", content="y")
    assert pack(first).source_hash != pack(second).source_hash


def test_the_hash_sees_names_and_executable_bits(tmp_path: Path) -> None:
    write(tmp_path, "a.py")
    before = pack(tmp_path).source_hash
    (tmp_path / "a.py").chmod(0o755)
    executable = pack(tmp_path).source_hash
    (tmp_path / "a.py").rename(tmp_path / "b.py")
    assert len({before, executable, pack(tmp_path).source_hash}) == 3


def test_members_stand_under_the_folder_name_and_belong_to_nobody(tmp_path: Path) -> None:
    root = tmp_path / "my-eval"
    write(root, "evaluation.py", "sub/data.jsonl", content="hello")
    packed = pack(root)
    assert packed.filename == "my-eval.tar.gz"
    with tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
        members = archive.getmembers()
        assert [member.name for member in members] == ["my-eval/evaluation.py", "my-eval/sub/data.jsonl"]
        assert all(member.isfile() and member.mtime == 0 and member.uid == 0 and not member.uname for member in members)
        stream = archive.extractfile(members[1])
        assert stream is not None
        assert stream.read() == b"hello"


def test_a_link_inside_the_project_is_packed_as_what_it_points_to(tmp_path: Path) -> None:
    write(tmp_path, "data/rows.jsonl", content="rows")
    (tmp_path / "link.jsonl").symlink_to("data/rows.jsonl")
    (tmp_path / "more").symlink_to("data")
    packed = pack(tmp_path)
    assert packed.files == ("data/rows.jsonl", "link.jsonl", "more/rows.jsonl")
    with tarfile.open(fileobj=io.BytesIO(packed.content)) as archive:
        assert all(member.isfile() for member in archive.getmembers())


@pytest.mark.parametrize("target", ["outside.txt", "outside"])
def test_a_link_out_of_the_project_is_refused_and_can_be_ignored(tmp_path: Path, target: str) -> None:
    root = tmp_path / "project"
    write(tmp_path, "outside.txt", "outside/file.txt")
    write(root, "a.py")
    (root / "link").symlink_to(tmp_path / target)
    with pytest.raises(PackingError, match=r"link leads out of the project"):
        pack(root)
    (root / ".gitignore").write_text("link\n")
    assert pack(root).files == (".gitignore", "a.py")


def test_a_link_to_a_secret_a_hole_or_a_parent_is_refused(tmp_path: Path) -> None:
    write(tmp_path, ".env", "sub/a.py")
    link = tmp_path / "config.txt"
    link.symlink_to(".env")
    with pytest.raises(PackingError, match=r"points to .env, which is never uploaded"):
        pack(tmp_path)
    link.unlink()
    link.symlink_to("nowhere")
    with pytest.raises(PackingError, match="does not exist"):
        pack(tmp_path)
    link.unlink()
    (tmp_path / "sub/loop").symlink_to("..")
    with pytest.raises(PackingError, match="a folder that contains it"):
        pack(tmp_path)


def test_what_the_evaluator_needs_must_be_inside(tmp_path: Path) -> None:
    write(tmp_path, "evaluation.py")
    (tmp_path / ".gitignore").write_text("evaluation.py\n")
    with pytest.raises(PackingError, match=r"requirements.txt does not exist"):
        pack(tmp_path, required=("requirements.txt",))
    with pytest.raises(PackingError, match=r"evaluation.py is ignored"):
        pack(tmp_path, required=("evaluation.py",))


def test_what_the_platform_exported_here_stays_at_home(tmp_path: Path) -> None:
    write(tmp_path, "evaluation.py", "my-job-step-3/step.json", "out/m-peft/adapter_model.safetensors", "out/notes.md")
    sent = pack(tmp_path)
    assert (len(sent.files), sent.exports) == (4, ())
    write(tmp_path, "my-job-step-3/.tunesmith-export", "out/m-peft/.tunesmith-export")
    packed = pack(tmp_path)
    assert packed.files == ("evaluation.py", "out/notes.md")
    assert packed.exports == ("my-job-step-3", "out/m-peft")
    with pytest.raises(
        PackingError, match=r"lies in my-job-step-3, which is left out as an export \(my-job-step-3/\.tunesmith-export"
    ):
        pack(tmp_path, required=("my-job-step-3/step.json",))
    write(tmp_path, ".tunesmith-export")
    assert pack(tmp_path).files == (".tunesmith-export", "evaluation.py", "out/notes.md"), (
        "the project itself is no export"
    )


def test_a_project_that_is_too_large_names_its_largest_files(tmp_path: Path) -> None:
    write(tmp_path, "small.py")
    with open(tmp_path / "huge.bin", "wb") as file:
        file.truncate(MAX_PROJECT_BYTES + 1)
    with pytest.raises(PackingError, match=r"Largest: huge.bin"):
        pack(tmp_path)
