"""From a name to a folder: catalogue id, Hugging Face id, local folder, or a full model of the account.

A Hugging Face model is looked for in the data folder's `models/`, then in the machine's Hugging Face cache, then downloaded:
weights as safetensors, configuration and tokenizer, never code.
"""

from __future__ import annotations

import difflib
import fcntl
import json
import re
from dataclasses import replace
from pathlib import Path

from huggingface_hub import constants, snapshot_download
from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

from tunesmith.catalog.entry import BaseModelEntry
from tunesmith.catalog.folder import problem
from tunesmith.catalog.known import BY_REPO, KNOWN, KnownModel
from tunesmith.errors import NotFound

_FILES = [
    "config.json",
    "generation_config.json",
    "*.safetensors",
    "model.safetensors.index.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "LICENSE*",
]
_ACCOUNT_MODEL = re.compile(r"accounts/([a-z0-9][a-z0-9-]*)/models/([a-z0-9][a-z0-9._-]*)")
_REPO = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


class NotLoadable(NotFound):
    """A model of the hub that lies nowhere on this machine, with every place that was looked at."""

    def __init__(self, name: str, repo: str, own: Path, looked: list[str]) -> None:
        super().__init__(
            f"Base model {name} (Hugging Face: {repo}) cannot be loaded. Looked in: {'; '.join(looked)}. "
            f"Put its folder at {own}, or name a local folder, or let this machine reach {constants.ENDPOINT} "
            "(HF_TOKEN for a gated model)."
        )
        self.name, self.repo, self.own, self.looked = name, repo, own, looked

    def also(self, place: str) -> NotLoadable:
        """The same with one more place that was looked at."""
        return NotLoadable(self.name, self.repo, self.own, [*self.looked, place])


def resolve(
    name: str, *, models_dir: Path, account_models: Path | None = None, download: bool = True
) -> BaseModelEntry:
    """The entry of a base model, its files in place. May download (minutes); blocks.

    `account_models` is the data folder's `objects/models`: with it, full models that jobs made are base models too (whose account
    may use which is the caller's question). With `download=False` only what lies on this machine is considered. Raises NotFound
    naming every place that was looked at, and what to do.
    """
    name = name.strip()
    own = account_model(name, account_models) if account_models else None
    if own is not None:
        return _from_folder(name, own, made_on=_made_on(own), source="account")
    if name.startswith(("/", "file:", "~", "./", "../")):
        path = Path(name.removeprefix("file://").removeprefix("file:")).expanduser().resolve()
        return _from_folder(str(path), path)
    known = KNOWN.get(name) or BY_REPO.get(name)
    if known is not None and known.folder is not None:
        return _from_folder(known.name, known.folder, known)
    repo = known.repo if known else name
    if repo is None or not _REPO.fullmatch(repo):
        raise NotFound(_unknown(name))
    return _from_hub(known.name if known else repo, repo, models_dir, download, known)


def canonical_name(name: str) -> str:
    """The one name of a base model under which it is served, without looking at any file."""
    name = name.strip()
    if name.startswith(("/", "file:", "~", "./", "../")):
        return str(Path(name.removeprefix("file://").removeprefix("file:")).expanduser().resolve())
    known = KNOWN.get(name) or BY_REPO.get(name)
    return known.name if known else name


def account_model(name: str, account_models: Path) -> Path | None:
    """Folder of the full model `accounts/{account}/models/{id}`, `account_models/{account}/{id}`; None where no such lies there."""
    match = _ACCOUNT_MODEL.fullmatch(name)
    if match is None or name in KNOWN:
        return None
    folder = account_models / match[1] / match[2]
    return folder if (folder / "config.json").is_file() else None


def _made_on(folder: Path) -> KnownModel | None:
    """The catalogue's entry of the base that a full model was trained from, whose defaults and rendering family it keeps."""
    try:
        base = json.loads((folder / "tunesmith.json").read_text())["base_model"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return KNOWN.get(canonical_name(base)) if isinstance(base, str) else None


def available(models_dir: Path) -> list[BaseModelEntry]:
    """The catalogue's models whose files are on this machine already: those a call can use without a download."""
    found = []
    for known in KNOWN.values():
        try:
            found.append(resolve(known.name, models_dir=models_dir, download=False))
        except NotFound:
            continue
    return found


def _from_folder(
    name: str, path: Path, known: KnownModel | None = None, made_on: KnownModel | None = None, source: str = "folder"
) -> BaseModelEntry:
    wrong = problem(path)
    if wrong:
        raise NotFound(
            f"Base model {name} cannot be loaded: {path} {wrong}. "
            "A model folder needs config.json, tokenizer.json and *.safetensors."
        )
    entry = _entry(name, path, "bundled" if known else source, known)
    if made_on is None:
        return entry
    limit, family = made_on.inference_max_tokens, made_on.family
    return replace(entry, training=made_on.training, inference_max_tokens=limit, family=family)


def _from_hub(name: str, repo: str, models_dir: Path, download: bool, known: KnownModel | None) -> BaseModelEntry:
    own = models_dir / repo.replace("/", "--")
    looked = []
    for place, path in (("", own), ("the Hugging Face cache ", _cached(repo))):
        wrong = problem(path) if path and path.exists() else "does not have it"
        if path and wrong is None:
            return _entry(name, path, repo, known)
        looked.append(f"{place}{path or constants.HF_HUB_CACHE} ({wrong})")
    if constants.is_offline_mode():
        looked.append(f"{constants.ENDPOINT} (not asked: HF_HUB_OFFLINE is set)")
    elif download:
        failure = _download(repo, own)
        if failure is None:
            return _entry(name, own, repo, known)
        looked.append(f"{constants.ENDPOINT}/{repo} ({failure})")
    raise NotLoadable(name, repo, own, looked)


def _cached(repo: str) -> Path | None:
    try:
        return Path(snapshot_download(repo, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, OSError):
        return None


def _download(repo: str, target: Path) -> str | None:
    """Fetch into a folder beside `target` and rename it when whole; returns the reason when it did not work."""
    partial = target.with_name(f".{target.name}.partial")
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_name(f".{target.name}.lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # supervisor, gateway and worker may want the same model at once
        if target.exists() and problem(target) is None:
            return None  # another process fetched it meanwhile
        try:
            partial.mkdir(parents=True, exist_ok=True)
            snapshot_download(repo, local_dir=partial, allow_patterns=_FILES, ignore_patterns=["*/*"])
        except Exception as error:  # noqa: BLE001 - hub, HTTP and disk errors share no base; each is the reason of a NotFound
            return f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else 'no details'}"
        wrong = problem(partial)
        if wrong:
            return f"what it has {wrong}"
        partial.rename(target)
        return None


def _entry(name: str, path: Path, source: str, known: KnownModel | None) -> BaseModelEntry:
    if known is None:
        return BaseModelEntry(name, path, source, display_name=name.rstrip("/").rsplit("/", 1)[-1])
    return BaseModelEntry(
        name, path, source, known.display_name, known.training, known.inference_max_tokens, known.family
    )


def _unknown(name: str) -> str:
    ids = {known.rsplit("/", 1)[-1]: known for known in KNOWN}
    near = [ids[found] for found in difflib.get_close_matches(name.rsplit("/", 1)[-1].lower(), ids, n=2, cutoff=0.7)]
    meant = f" Did you mean {' or '.join(near)}?" if near else ""
    return (
        f"Base model {name!r} is not known here.{meant} Looked in: the catalogue ({', '.join(KNOWN)}). "
        "Name one of these, a Hugging Face id (org/name), or a local folder (absolute path)."
    )
