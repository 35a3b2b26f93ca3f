"""A project folder as the archive that an evaluator is built from.

The same files give the same bytes: members are sorted, times and owners are zero. Names start with the folder's own name
(`my-project/evaluation.py`), as the platform expects. Caches, environments, archives and what `.gitignore` names (nested
files and negation included) stay at home; files that hold secrets (`.env`, `.env.*`) and `.git` always do. So do folders that
`tunesmith job export`, `tunesmith model export` or `tunesmith model download` made here: weights that no evaluator asked for.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from eval_protocol.client.errors import PackingError
from eval_protocol.client.ignore import Rule, is_ignored, parse_rule, read_rules

MAX_PROJECT_BYTES = 150 * 1024 * 1024
"""Largest sum of file sizes; the platform takes no larger upload."""

NEVER = (".git", ".env", ".env.*", ".envrc", ".netrc", ".pypirc")
"""Not even a negation in `.gitignore` brings these back."""

EXPORT_MARK = ".tunesmith-export"
"""A file in every folder that the platform's commands export to."""

BY_DEFAULT = [
    ".github/",
    ".hg/",
    ".svn/",
    ".idea/",
    ".vscode/",
    ".DS_Store",
    "__pycache__/",
    "*.py[cod]",
    ".pytest_cache/",
    ".mypy_cache/",
    ".ruff_cache/",
    ".cache/",
    ".tox/",
    ".nox/",
    ".ipynb_checkpoints/",
    ".coverage",
    "htmlcov/",
    ".venv/",
    ".venv-*/",
    "venv/",
    "env/",
    "ENV/",
    "node_modules/",
    "vendor/",
    "dist/",
    "build/",
    "*.egg-info/",
    "*.egg",
    "*.whl",
    "*.tar",
    "*.tar.gz",
    "*.tgz",
    "*.zip",
    "*.log",
    "*.tmp",
    "*.swp",
    "*.so",
    "*.dylib",
    "*.dll",
    ".ep_tmp/",
    ".eval_protocol/",
    ".tunesmith/",
]


@dataclass(frozen=True)
class PackedProject:
    """An archive, ready to upload."""

    filename: str
    """`{folder name}.tar.gz`"""
    content: bytes
    files: tuple[str, ...]
    """Paths relative to the project root, sorted."""
    source_hash: str
    """SHA-256 over paths, executable bits and contents: the same for the same source, whatever packed it."""
    exports: tuple[str, ...] = ()
    """Folders that were left out because the platform's commands exported something there."""

    @property
    def size(self) -> int:
        """Size of the archive in bytes."""
        return len(self.content)


def pack(root: Path, required: tuple[str, ...] = ()) -> PackedProject:
    """Pack the project at `root`.

    Args:
        root: the project folder.
        required: paths relative to `root` that must be inside (the evaluator's file, `requirements.txt`).

    Raises PackingError: a link leads out of the project or to a secret, the project is too large, a required file is
    missing or ignored.
    """
    root = root.resolve()
    exports: list[str] = []
    members = list(project_files(root, exports))
    names = {name for name, _ in members}
    for name in required:
        if name not in names:
            where = "is ignored (see .gitignore and the packing rules)" if (root / name).exists() else "does not exist"
            if left := next((folder for folder in exports if name.startswith(f"{folder}/")), None):
                where = f"lies in {left}, which is left out as an export ({left}/{EXPORT_MARK} says so),"
            raise PackingError(
                f"{name} {where} in {root}, but the evaluator needs it on the platform. Add it, or stop ignoring it."
            )
    _check_size(root, members)
    return _write_archive(root, members, tuple(sorted(exports)))


def project_files(root: Path, exports: list[str]) -> Iterator[tuple[str, Path]]:
    """Yield (path relative to root, real file) of everything that would be packed, sorted by path; add to `exports` what was left out as such."""
    rules = [rule for pattern in BY_DEFAULT if (rule := parse_rule(pattern))]
    yield from sorted(_walk(root, root, "", rules, (root,), exports))


def _walk(
    root: Path, folder: Path, prefix: str, rules: list[Rule], ancestors: tuple[Path, ...], exports: list[str]
) -> Iterator[tuple[str, Path]]:
    rules = [*rules, *read_rules(folder / ".gitignore", prefix)]
    for entry in folder.iterdir():
        name = f"{prefix}/{entry.name}" if prefix else entry.name
        if _is_never_sent(entry.name):
            continue
        # A link counts as a file for the rules, as git sees it; `.venv/` should keep a linked environment at home too.
        if is_ignored(rules, name, entry.is_dir()):
            continue
        target = _resolve_link(root, entry, name) if entry.is_symlink() else entry
        if target.is_dir():
            real = target.resolve()
            if real in ancestors:
                raise PackingError(f"The link {name} points to a folder that contains it. Remove it or ignore it.")
            if (real / EXPORT_MARK).is_file():
                exports.append(name)
                continue
            yield from _walk(root, target, name, rules, (*ancestors, real), exports)
        elif target.is_file():
            yield name, target


def _resolve_link(root: Path, link: Path, name: str) -> Path:
    """Where a link inside the project leads: it is packed as what it points to, because links do not survive the upload."""
    target = link.resolve()
    if not target.exists():
        raise PackingError(f"The link {name} points to {target}, which does not exist. Remove it or ignore it.")
    if not target.is_relative_to(root):
        raise PackingError(
            f"The link {name} leads out of the project, to {target}. Only files under {root} are uploaded: "
            "copy the file into the project, or name the link in .gitignore."
        )
    if any(_is_never_sent(part) for part in target.relative_to(root).parts):
        raise PackingError(f"The link {name} points to {target.name}, which is never uploaded. Remove it or ignore it.")
    return target


def _is_never_sent(name: str) -> bool:
    return any(rule is not None and rule.matches(name, is_folder=False) for rule in map(parse_rule, NEVER))


def _check_size(root: Path, members: list[tuple[str, Path]]) -> None:
    sizes = sorted(((path.stat().st_size, name) for name, path in members), reverse=True)
    total = sum(size for size, _ in sizes)
    if total > MAX_PROJECT_BYTES:
        largest = ", ".join(f"{name} ({size:,} bytes)" for size, name in sizes[:3])
        raise PackingError(
            f"{root} holds {total:,} bytes to upload, more than the {MAX_PROJECT_BYTES:,} allowed. "
            f"Largest: {largest}. Name what the evaluator does not need in .gitignore."
        )


def _write_archive(root: Path, members: list[tuple[str, Path]], exports: tuple[str, ...]) -> PackedProject:
    digest = hashlib.sha256()
    buffer = io.BytesIO()
    top = root.name or "project"
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", filename="", mtime=0) as zipped,
        tarfile.open(fileobj=zipped, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        for name, path in members:
            content = path.read_bytes()
            mode = 0o755 if path.stat().st_mode & 0o100 else 0o644
            digest.update(f"{name}\0{mode:o}\0{len(content)}\0".encode() + content)
            info = tarfile.TarInfo(f"{top}/{name}")
            info.size, info.mode = len(content), mode
            archive.addfile(info, io.BytesIO(content))
    return PackedProject(
        f"{top}.tar.gz", buffer.getvalue(), tuple(name for name, _ in members), digest.hexdigest(), exports
    )
