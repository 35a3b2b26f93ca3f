"""`tunesmith doctor`: what is wrong with this machine, or, with a job, why its reward is flat.

Each check looks at one thing and says what was found and what to do; none changes anything.
"""

from __future__ import annotations

import email.utils
import http.client
import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import click

from tunesmith.cli.client import call
from tunesmith.cli.doctor_place import Check, Place
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import all_rft_jobs, rft_path, state_of
from tunesmith.cli.listing import short
from tunesmith.cli.profile import Profile, find_profile, read_profile, with_chosen_key
from tunesmith.cli.status import running_processes
from tunesmith.cli.terminal import plain, say
from tunesmith.errors import TunesmithError

GB = 2**30
LOW_DISK, LOW_MEMORY = 5 * GB, 2 * GB
"""Free bytes below which a check warns; a tenth of that is an error."""
MOST_SKEW_SECONDS = 30.0
FEWEST_FILES = 1024
"""Open files that a process should be allowed."""
LONG_QUEUE = 5
ENGINE_SECONDS = 5.0
"""How long an engine may take to say that it is well."""
_MARKS = {"ok": "ok   ", "warning": "WARN ", "error": "ERROR"}


@click.command("doctor")
@click.argument("job", required=False)
@click.option("--data-dir", help="The data folder (default: TUNESMITH_DATA_DIR or ~/.tunesmith/data).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(job: str | None, data_dir: str | None, as_json: bool) -> None:
    """Without JOB: check this machine and the platform on it. With an RFT JOB: what may keep its reward flat, with evidence and remedy.

    Exit status 1 when something on the machine is an error.

    \b
    Examples:
      tunesmith doctor
      tunesmith doctor my-job
      tunesmith doctor my-job --json
    """
    if job is not None:
        with told_plainly():
            profile = read_profile()
            found = call(profile, "GET", f"{rft_path(profile, job)}/doctor")
        click.echo(json.dumps(found, indent=2) if as_json else plain("\n".join(_job_lines(found))))
        return
    from tunesmith.settings import Settings

    with told_plainly():
        settings = Settings.load(data_dir=data_dir)
    profile = find_profile()
    place = Place.of(settings, data_dir, profile)
    if not as_json:
        say("\n".join([*place.lines(), ""]))
    checks = [
        *place.others(),
        *machine(settings.data_dir, place.port, settings.sandbox),
        *platform(with_chosen_key(profile) if profile else None),
    ]
    if as_json:
        click.echo(json.dumps({"lookedAt": place.as_json(), "checks": [asdict(check) for check in checks]}, indent=2))
    else:
        for check in checks:
            say(f"{_MARKS[check.state]} {check.name:<16}{check.found}")
            if check.remedy:
                say(f"{'':<22}{check.remedy}")
    if any(check.state == "error" for check in checks):
        raise SystemExit(1)


def _job_lines(found: dict[str, Any]) -> list[str]:
    lines = [found["summary"]]
    for number, finding in enumerate(found["findings"], start=1):
        lines += [
            "",
            f"{number}. {finding['title']}",
            f"   Evidence  {finding['evidence']}",
            f"   Remedy    {finding['remedy']}",
        ]
    return lines


def machine(data_dir: Path, port: int, sandbox: str) -> list[Check]:
    """What jobs need of this machine, whether the platform runs or not."""
    looks: tuple[Callable[[], Check], ...] = (
        lambda: disk(data_dir),
        memory,
        open_files,
        lambda: port_check(port),
        torch_check,
        node_check,
        lambda: sandbox_check(sandbox),
        lambda: engines(data_dir),
    )
    return [look() for look in looks]


def disk(data_dir: Path) -> Check:
    """Room and permission in the data folder."""
    place = data_dir
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    said = f"{free / GB:.1f} GB free at {data_dir}"
    if not os.access(place, os.W_OK):
        return Check("disk", "error", f"{place} cannot be written", "Give TUNESMITH_DATA_DIR a folder of your own.")
    state = "error" if free < LOW_DISK / 10 else "warning" if free < LOW_DISK else "ok"
    return Check("disk", state, said, "" if state == "ok" else "Make room; `tunesmith gc` removes what old jobs left.")


def memory() -> Check:
    """Memory that is available now, of the machine or of the control group that we are in."""
    from tunesmith.jobs.memory import Machine

    found = Machine.look()
    if not found.total:
        return Check("memory", "warning", "cannot be read from /proc/meminfo")
    free = found.available
    state = "error" if free < LOW_MEMORY / 10 else "warning" if free < LOW_MEMORY else "ok"
    remedy = "End other programs, or take a smaller base model: a job holds it in engine and learner."
    said = f"{free / GB:.1f} of {found.total / GB:.1f} GB available"
    return Check("memory", state, said, "" if state == "ok" else remedy)


def open_files() -> Check:
    """How many files a process may hold open."""
    import resource

    allowed = resource.getrlimit(resource.RLIMIT_NOFILE)[1]  # `tunesmith up` takes what it may
    if allowed >= FEWEST_FILES or allowed < 0:
        return Check("open files", "ok", f"{allowed} allowed")
    return Check(
        "open files",
        "warning",
        f"only {allowed} allowed",
        f"`ulimit -Hn {FEWEST_FILES}` as root before `tunesmith up`.",
    )


def port_check(port: int) -> Check:
    """Whether the platform's port is free, or the platform's own."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            return Check("port", "ok", f"{port} is free: the platform is not running on it")
        except OSError:
            pass
    try:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{port}/health", timeout=5) as answer:
            if answer.status == 200:
                return Check("port", "ok", f"{port} answers as the platform")
    except (OSError, urllib.error.URLError):
        pass
    return Check(
        "port", "error", f"{port} is taken by another program", "`tunesmith up --port ANOTHER`, or end that program."
    )


def torch_check() -> Check:
    """Whether models can be served and trained here."""
    if importlib.util.find_spec("torch") is None:
        return Check("torch", "error", "not installed", "`pip install 'tunesmith[train]'`: engine and learner need it.")
    # In a process of its own: importing it takes seconds and hundreds of MB, and commands do not touch it.
    code = "import torch; print(torch.__version__, torch.cuda.is_available())"
    try:
        ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    except subprocess.TimeoutExpired:
        return Check(
            "torch",
            "warning",
            "did not import within two minutes",
            "The machine is busy, or the installation is broken.",
        )
    if ended.returncode != 0:
        return Check(
            "torch", "error", f"does not import: {ended.stderr.strip().splitlines()[-1:]}", "Install it again."
        )
    version, cuda = ended.stdout.split()
    return Check("torch", "ok", f"{version}, {'with' if cuda == 'True' else 'without'} a CUDA device")


def node_check() -> Check:
    """Node, for TypeScript agents and for building the pages from source."""
    node = shutil.which("node")
    if node is None:
        return Check("node", "ok", "not installed; only TypeScript agents and building the pages need it")
    try:
        version = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return Check(
            "node", "warning", f"{node} does not start", "Install Node 20 or newer, if you use TypeScript agents."
        )
    major = int(version.lstrip("v").split(".")[0] or 0) if version.lstrip("v")[:1].isdigit() else 0
    if major < 20:
        return Check("node", "warning", f"{version} is old", "TypeScript agents need Node 20 or newer.")
    return Check("node", "ok", version)


def sandbox_check(policy: str) -> Check:
    """Whether evaluators can be kept apart."""
    from tunesmith.evaluators.protection import chosen

    try:
        found = chosen(policy)
    except TunesmithError as error:
        return Check("sandbox", "error", error.message)
    if not found.degraded:
        return Check("sandbox", "ok", f"{found.kind.value} (policy {policy})")
    remedy = "Install bubblewrap, or run only evaluators that you trust."
    return Check("sandbox", "warning", f"{found.kind.value} (policy {policy}): {found.reason}", remedy)


def engines(data_dir: Path) -> Check:
    """Which engines the platform on this data folder runs, and whether each answers."""
    try:
        processes = running_processes(data_dir / "supervisor.sock")
    except TunesmithError:
        return Check("engines", "ok", "none: the platform does not run on this data folder")
    found = [_engine(process, data_dir) for process in processes if process["name"].startswith("engine")]
    if not found:
        return Check("engines", "ok", "none: the first call to a model starts one")
    state = max((check.state for check in found), key=("ok", "warning", "error").index)
    remedies = dict.fromkeys(check.remedy for check in found if check.remedy)
    return Check("engines", state, ", ".join(check.found for check in found), " ".join(remedies))


def _engine(process: dict[str, Any], data_dir: Path) -> Check:
    """One engine, asked for its health."""
    name, size = process["name"], f"{process['rss_bytes'] >> 20} MiB"
    if "url" not in process:
        return Check(name, "ok", f"{name} (starting, {size})")
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"{process['url']}/health", timeout=ENGINE_SECONDS):
            return Check(name, "ok", f"{name} (answers, {size})")
    except (OSError, http.client.HTTPException) as error:  # refused, cut, or an HTTP error status
        late = isinstance(getattr(error, "reason", error), TimeoutError)
    who = f"{name} (pid {process['pid']}, {size})"
    if late:
        remedy = (
            f"It is busy or stuck; if that lasts, `kill {process['pid']}`: the next call to its model starts it again."
        )
        return Check(name, "warning", f"{who} gave no answer within {ENGINE_SECONDS:g} s", remedy)
    remedy = f"The next call to its model starts it again; its log is in {data_dir / 'logs'}."
    return Check(name, "error", f"{who} does not answer at {process['url']}", remedy)


def platform(profile: Profile | None) -> list[Check]:
    """What the platform of the client profile says: clock, engines, queue."""
    if profile is None:
        return [Check("platform", "warning", "no client profile", "`tunesmith up` makes one.")]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    address = urlsplit(profile.api_base)
    try:
        with opener.open(f"{address.scheme}://{address.netloc}/health", timeout=10) as answer:
            date = answer.headers.get("Date")
    except OSError as error:
        return [
            Check(
                "platform", "error", f"nobody answers at {profile.api_base} ({error})", "Start it with `tunesmith up`."
            )
        ]
    checks = [Check("platform", "ok", f"{profile.api_base} answers"), *_skew(date)]
    try:
        listed = all_rft_jobs(profile)
    except TunesmithError as error:
        return [*checks, Check("account", "error", error.message, "`tunesmith env` shows which profile is used.")]
    waiting = sum(state_of(job) == "PENDING" for job in listed)
    failed = [short(job["name"]) for job in listed if state_of(job) == "FAILED"][:3]
    state = "warning" if waiting >= LONG_QUEUE else "ok"
    checks.append(
        Check(
            "queue",
            state,
            f"{waiting} RFT jobs wait",
            "TUNESMITH_CONCURRENT_RFT_JOBS lets more run at a time." if state != "ok" else "",
        )
    )
    if failed:
        names = ", ".join(failed)
        checks.append(
            Check("failed jobs", "warning", f"the latest: {names}", f"`tunesmith doctor {failed[0]}` says why.")
        )
    return checks


def _skew(date: str | None) -> list[Check]:
    if not date:
        return []
    skew = abs(email.utils.parsedate_to_datetime(date).timestamp() - time.time())
    if skew <= MOST_SKEW_SECONDS:
        return [Check("clock", "ok", f"{skew:.0f} s from the platform's")]
    return [
        Check(
            "clock",
            "warning",
            f"{skew:.0f} s from the platform's",
            "Set both clocks by NTP: signed links expire by the clock.",
        )
    ]
