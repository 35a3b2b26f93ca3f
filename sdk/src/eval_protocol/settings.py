"""What the environment and the client profile say. Read when a run starts, never on import.

Two things live here: `RunSettings`, the `EP_*` overrides of one run, and `Profile`, which platform to talk to and with which key.
A base URL and its key are one pair: `FIREWORKS_API_BASE` with `FIREWORKS_API_KEY`, else `~/.tunesmith/profile.json`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, ValidationError

from eval_protocol.errors import NotBuiltYet, ProfileError, UsageError

HOSTED_API_BASE = "https://api.fireworks.ai"
"""Where a `FIREWORKS_API_KEY` without a base belongs, and the only place it goes."""

NOT_BUILT = ("EP_USE_PRIORITY_SCHEDULER", "ENABLE_SPECULATION", "EP_MICRO_BATCH_OUTPUT_SIZE")
TRUE = frozenset({"1", "true", "yes", "on"})
FALSE = frozenset({"", "0", "false", "no", "off"})


class Profile(BaseModel):
    """One platform and the key for it."""

    model_config = ConfigDict(frozen=True)

    api_base: str
    """Root URL, without a trailing slash."""
    api_key: str
    account_id: str | None = None
    """None when the pair came from the environment: the platform knows it."""
    source: str = ""
    """Where the pair was found, for messages."""

    def __repr__(self) -> str:
        return f"Profile(api_base={self.api_base!r}, account_id={self.account_id!r}, source={self.source!r})"

    __str__ = __repr__

    def covers(self, url: str) -> bool:
        """Whether `url` has this profile's scheme, host and port, so that the key may go there."""
        return origin(url) == origin(self.api_base)


def origin(url: str) -> tuple[str, str, int]:
    """Scheme, host and port of a URL; `localhost` and `127.0.0.1` are the same host."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    host = (parts.hostname or "").lower()
    return parts.scheme, "127.0.0.1" if host == "localhost" else host, port


def profile_path() -> Path:
    """The client profile that `tunesmith up` writes."""
    return Path("~/.tunesmith/profile.json").expanduser()


def load_profile(environ: Mapping[str, str] | None = None) -> Profile | None:
    """The platform to talk to, or None when none is known.

    Order: `FIREWORKS_API_BASE` + `FIREWORKS_API_KEY` together; the profile file; `FIREWORKS_API_KEY` alone, which belongs to the
    hosted service and goes nowhere else.

    Raises:
        ProfileError: the profile file is there but cannot be read.
    """
    environ = os.environ if environ is None else environ
    base = environ.get("FIREWORKS_API_BASE", "").strip().rstrip("/")
    key = environ.get("FIREWORKS_API_KEY", "").strip()
    if base and key:
        return Profile(api_base=base, api_key=key, source="FIREWORKS_API_BASE and FIREWORKS_API_KEY")
    stored = _read_profile(profile_path())
    if stored and (not base or stored.covers(base)):
        return stored
    if base:
        raise ProfileError(
            f"FIREWORKS_API_BASE is {base}, but there is no key for it: set FIREWORKS_API_KEY too, or unset FIREWORKS_API_BASE."
        )
    if key:
        return Profile(api_base=HOSTED_API_BASE, api_key=key, source="FIREWORKS_API_KEY")
    return None


def _read_profile(path: Path) -> Profile | None:
    try:
        content = json.loads(path.read_text())
        return Profile.model_validate(
            {**content, "api_base": str(content["api_base"]).rstrip("/"), "source": str(path)}
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ProfileError(
            f"The client profile {path} cannot be read ({error}). Start `tunesmith up` to write it again, or remove it."
        ) from error


class RunSettings(BaseModel):
    """The `EP_*` overrides of one run. None means: what the decorator says."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_dataset_rows: int | Literal["all"] | None = None
    """EP_MAX_DATASET_ROWS: a number, or `all` (`None` is taken for it)."""
    num_runs: int | None = None
    """EP_NUM_RUNS."""
    completion_params: list[dict[str, Any]] | None = None
    """EP_COMPLETION_PARAMS: JSON object or list of them; replaces the decorator's list."""
    input_params: dict[str, Any] | None = None
    """EP_INPUT_PARAMS_JSON: JSON object, merged deeply into every completion_params."""
    jsonl_path: Path | None = None
    """EP_JSONL_PATH: rows to use in place of the decorator's, through its dataset_adapter."""
    invocation_id: str | None = None
    """EP_INVOCATION_ID."""
    max_concurrent_rollouts: int | None = None
    """EP_MAX_CONCURRENT_ROLLOUTS."""
    max_concurrent_evaluations: int | None = None
    """EP_MAX_CONCURRENT_EVALUATIONS."""
    passed_threshold: float | dict[str, float | None] | None = None
    """EP_PASSED_THRESHOLD: a number, or JSON `{"success": .., "standard_error": ..}`."""
    summary_json: Path | None = None
    """EP_SUMMARY_JSON: file ending in .json, or a folder."""
    print_summary: bool = False
    """EP_PRINT_SUMMARY: the short summary lines on stderr."""
    no_upload: bool = False
    """EP_NO_UPLOAD: accepted; results stay on this machine either way."""
    output_dir: Path | None = None
    """EP_OUTPUT_DIR: folder that gets `experiment_results/{experiment}.jsonl`."""
    use_no_op_rollout_processor: bool = False
    """EP_USE_NO_OP_ROLLOUT_PROCESSOR: score the messages that are there, call no model."""
    max_retry: int | None = None
    """EP_MAX_RETRY: how often a failed rollout is tried again."""
    fail_on_max_retry: bool | None = None
    """EP_FAIL_ON_MAX_RETRY: whether a rollout that failed for good fails the whole evaluation at its end."""
    raise_eval_exceptions: bool = False
    """EP_RAISE_EVAL_EXCEPTIONS: end the run at the evaluator's first exception, with its traceback (for debugging)."""
    results_db: Path = Path("~/.tunesmith/results.db")
    """EP_RESULTS_DB: the local results store."""
    local_ui_port: int = 8000
    """EP_LOCAL_UI_PORT: where a local UI is looked for, when none has said that it shows this store."""
    disable_auto_browser: bool = False
    """EP_DISABLE_AUTO_BROWSER: a run opens no page in a browser."""

    @classmethod
    def from_environment(cls, environ: Mapping[str, str] | None = None) -> RunSettings:
        """Read the environment.

        Raises:
            UsageError: a value that does not fit, naming the variable; or a variable of the published package whose feature is not built.
        """
        environ = os.environ if environ is None else environ
        for name in NOT_BUILT:
            if environ.get(name, "").lower() not in FALSE:
                raise NotBuiltYet(f"{name} is set, but this version has no such feature. Unset it.")
        values: dict[str, Any] = {}
        for field in cls.model_fields:
            variable = "EP_INPUT_PARAMS_JSON" if field == "input_params" else f"EP_{field.upper()}"
            text = environ.get(variable, "").strip()
            if text:
                values[field] = _parse(field, variable, text)
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            raise UsageError(f"EP_{str(first['loc'][0]).upper()} cannot be used: {first['msg']}.") from error


def _parse(field: str, variable: str, text: str) -> Any:
    if field == "max_dataset_rows":
        return "all" if text.lower() in ("none", "all") else text
    if field in ("completion_params", "input_params"):
        value = _json(variable, text)
        return [value] if field == "completion_params" and isinstance(value, dict) else value
    if field == "passed_threshold":
        return _json(variable, text)
    if RunSettings.model_fields[field].annotation in (bool, bool | None):
        if text.lower() in TRUE | FALSE:
            return text.lower() in TRUE
        raise UsageError(f"{variable} is {text!r}; use 1 or 0.")
    return text


def _json(variable: str, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise UsageError(f"{variable} is not valid JSON ({error}): {text[:80]}") from error
