"""A job and a model of a platform as objects of a notebook (`drive.Platform` makes them)."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval_protocol.client.errors import JobFailed
from eval_protocol.client.show import as_html, line_of
from eval_protocol.client.wire import FINAL_STATES
from eval_protocol.errors import UsageError

if TYPE_CHECKING:
    from eval_protocol.client.drive import Platform

POLL_SECONDS = 1.0
FORMATS = ("peft", "merged", "gguf")


class Model:
    """A model that can be called."""

    def __init__(self, platform: Platform, name: str) -> None:
        self._platform = platform
        self.name = name
        """Resource name; any OpenAI client can call it by it."""

    def __repr__(self) -> str:
        return f"Model({self.name!r})"

    def generate(self, messages: str | Iterable[Mapping[str, Any]], **parameters: Any) -> str:
        """The text of one answer. `messages` may be one question; `parameters` are those of chat completions, `temperature=0` say."""
        message = self.complete(messages, **parameters)["choices"][0]["message"]
        return message.get("content") or ""

    def complete(self, messages: str | Iterable[Mapping[str, Any]], **parameters: Any) -> dict[str, Any]:
        """The whole chat completion, as the API answers it (`n`, `tools`, `logprobs` and so on). Raises Refused."""
        if parameters.get("stream"):
            raise UsageError("Streaming is for an OpenAI client: point its base_url at the platform's /inference/v1.")
        asked = [{"role": "user", "content": messages}] if isinstance(messages, str) else [dict(m) for m in messages]
        return self._platform.infer(f"Calling {self.name}", {"model": self.name, "messages": asked, **parameters})

    def export(self, folder: str | Path, *, format: str = "peft", quantization: str | None = None) -> Path:
        """Save the model for other programs and return the folder, which must be new or empty.

        Args:
            folder: where.
            format: `peft` (the files as they are), `merged` or `gguf`. The last two are made by the `tunesmith` command of this environment
                (`pip install "tunesmith[train]"`).
            quantization: of a GGUF file: `f16` (default), `f32`, `q8_0`.

        Raises UsageError with the reason when it cannot be made, Missing.
        """
        target = Path(folder)
        if format not in FORMATS:
            raise UsageError(f"format {format!r} is none of {', '.join(FORMATS)}.")
        if target.exists() and any(target.iterdir()):
            raise UsageError(f"{target} is not empty; give another folder.")
        if format == "peft" and quantization is None:
            return self._save(target)
        command = _tunesmith()
        argv = [command, "model", "export", self.name, "-o", str(target), "--format", format]
        argv += ["--quantization", quantization] if quantization else []
        done = subprocess.run(argv, capture_output=True, text=True, env=self._platform.command_environment())
        if done.returncode:
            raise UsageError(f"Exporting {self.name} failed: {(done.stderr or done.stdout).strip()}")
        return target

    def _save(self, folder: Path) -> Path:
        what = f"Exporting {self.name}"
        urls = self._platform.call(what, "GET", f"/v1/{self.name}:getDownloadEndpoint")["filenameToSignedUrls"]
        folder.mkdir(parents=True, exist_ok=True)
        for name, url in urls.items():
            partial = folder / f".{Path(name).name}.partial"
            partial.write_bytes(self._platform.download(f"{what} ({name})", url))
            partial.rename(folder / Path(name).name)
        return folder


class Job:
    """An RFT job. What it says is read when asked for; `refresh` reads the job itself again."""

    def __init__(self, platform: Platform, identity: str) -> None:
        self._platform = platform
        self.id = identity
        self.data: dict[str, Any] = {}
        """The job as the API showed it last: options in force, state, progress, notes."""
        self.refresh()

    def __repr__(self) -> str:
        return f"Job({self.id!r}, {self.state})"

    def _repr_html_(self) -> str:
        return as_html(self.data, self.events())

    def refresh(self) -> Job:
        """Read the job again; returns it. Raises Missing when it was deleted."""
        self.data = self._platform.call(f"Looking up job '{self.id}'", "GET", self._path())
        return self

    @property
    def state(self) -> str:
        """`RUNNING`, `COMPLETED`, ..., as it was read last."""
        return str(self.data.get("state", "")).removeprefix("JOB_STATE_")

    @property
    def is_final(self) -> bool:
        """Whether it has ended, as it was read last."""
        return self.data.get("state") in FINAL_STATES

    def wait(self, *, progress: bool = True, timeout: float | None = None, check: bool = True) -> Job:
        """Wait for the end of the job; returns it.

        Args:
            progress: a line a step on stderr; in a notebook the job's picture, redrawn.
            timeout: give up waiting after so many seconds; the job goes on.
            check: raise when the job failed.

        Raises JobFailed with the cause, TimeoutError, PlatformError when the platform stays away. Ctrl-C ends the waiting alone.
        """
        show = _display(self) if progress else None
        until = None if timeout is None else time.monotonic() + timeout
        while not self.refresh().is_final:
            if show:
                show()
            if until is not None and time.monotonic() > until:
                raise TimeoutError(f"Job {self.id} is {self.state} after {timeout:g} s of waiting; it goes on.")
            time.sleep(POLL_SECONDS)
        if show:
            show()
        if check and self.state == "FAILED":
            raise JobFailed(
                f"Job {self.id} failed: {(self.data.get('status') or {}).get('message', 'no reason given')}"
            )
        return self

    def metrics(self) -> list[dict[str, Any]]:
        """One dict an optimizer step: loss, grad_norm, entropy, ... and the figures of its chunk (mean_score, ...). For a DataFrame."""
        found = self._figures()
        chunks = {event["step"]: event for event in found["events"] if event["kind"] == "chunk" and event["sealed"]}
        left_out = {"kind", "time", "sealed", "metrics", "learning_rate"}
        return [
            {**{name: value for name, value in chunks.get(line["step"], {}).items() if name not in left_out}, **line}
            for line in found["metrics"]
        ]

    def events(self, kind: str | None = None) -> list[dict[str, Any]]:
        """What the run recorded: chunks, held-out evaluations, versions, controls. `kind` keeps one of them."""
        return [event for event in self._figures()["events"] if kind in (None, event["kind"])]

    def rollouts(
        self,
        *,
        epoch: int | None = None,
        step: int | None = None,
        kind: str | None = None,
        valid: bool | None = None,
        contains: str | None = None,
        order_by: str | None = None,
        limit: int | None = None,
    ) -> list[dict[str, Any]]:
        """Rollouts with their rows (messages, score, reason), in the order of their arrival unless `order_by` ("score desc") says otherwise."""
        query = {"epoch": epoch, "step": step, "kind": kind, "contains": contains, "orderBy": order_by}
        flag = {} if valid is None else {"valid": str(valid).lower()}
        what = f"Fetching rollouts of job '{self.id}'"
        return self._platform.pages(what, f"{self._path()}/rollouts", "rollouts", limit=limit, **query, **flag)

    def logs(
        self, *, level: str | None = None, source: str | None = None, contains: str | None = None, tail: int = 500
    ) -> list[dict[str, Any]]:
        """The last log lines of its processes and agents: time, source, level, message, ..."""
        query = {"level": level, "source": source, "contains": contains, "tail": tail}
        return self._platform.call(f"Fetching logs of job '{self.id}'", "GET", f"{self._path()}/logs", params=query)[
            "lines"
        ]

    def cancel(self) -> Job:
        """Ask for its end; `wait(check=False)` waits for it."""
        self._act("cancel")
        return self.refresh()

    def resume(self) -> Job:
        """Go on with a FAILED job where it failed."""
        self._act("resume")
        return self.refresh()

    def extend(self, epochs: int = 1, *, job_id: str | None = None, output_model: str | None = None) -> Job:
        """A new job that goes on where this one ended, for more epochs."""
        body = {"epochs": epochs, **({"outputModel": output_model} if output_model else {})}
        made = self._act("extend", body, {"reinforcementFineTuningJobId": job_id})
        return self._platform.job(made["name"])

    def promote(self, step: int, *, model: str | None = None) -> Model:
        """Make the adapter after `step` optimizer steps the job's model, or the model of another name."""
        made = self._act("promote", {"version": step, **({"model": model} if model else {})})
        return Model(self._platform, made["model"])

    def export(self, folder: str | Path, *, format: str = "peft", quantization: str | None = None) -> Path:
        """Save the job's model (`Model.export`)."""
        return self.model.export(folder, format=format, quantization=quantization)

    @property
    def model(self) -> Model:
        """The model that it makes; it can be called once the job has ended well."""
        return self._platform.model((self.data.get("trainingConfig") or {}).get("outputModel") or self.id)

    def _figures(self) -> dict[str, Any]:
        return self._platform.call(f"Fetching metrics of job '{self.id}'", "GET", f"{self._path()}/metrics")

    def _act(
        self, verb: str, body: dict[str, Any] | None = None, query: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        what = f"Asking to {verb} job '{self.id}'"
        return self._platform.call(what, "POST", f"{self._path()}:{verb}", json=body or {}, params=query)

    def _path(self) -> str:
        return f"reinforcementFineTuningJobs/{self.id}"


def _display(job: Job) -> Any:
    """A function that shows the job as it is now: a picture in a notebook, lines elsewhere."""
    if "ipykernel" in sys.modules:
        from IPython.display import HTML, display  # noqa: PLC0415 - there in a notebook only # pyright: ignore[reportMissingImports]

        handle = display(HTML(job._repr_html_()), display_id=True)
        return lambda: handle.update(HTML(job._repr_html_()))
    shown: list[str] = []

    def show() -> None:
        lines = [job.state, *(line_of(event, job.data) for event in job.events("chunk"))]
        for line in lines[1:] if shown and shown[0] == job.state else lines:
            if line not in shown:
                print(line, file=sys.stderr, flush=True)
        shown[:] = lines

    return show


def _tunesmith() -> str:
    beside = Path(sys.executable).with_name("tunesmith")
    found = str(beside) if beside.is_file() else shutil.which("tunesmith")
    if found is None:
        raise UsageError(
            'Formats other than peft are made by the `tunesmith` command, which is not here: pip install "tunesmith[train]".'
        )
    return found
