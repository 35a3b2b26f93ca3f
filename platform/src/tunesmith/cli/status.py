"""`tunesmith status`: what runs in a data folder, and the jobs of the profile's account."""

from __future__ import annotations

import http.client
import json
import socket
import time
from pathlib import Path
from typing import Any

import click

from tunesmith.cli.client import call
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.jobs import all_rft_jobs, state_of
from tunesmith.cli.profile import find_profile, with_chosen_key
from tunesmith.cli.terminal import say
from tunesmith.errors import TunesmithError, Unavailable


@click.command("status")
@click.option("--data-dir", help="The data folder (default: TUNESMITH_DATA_DIR or ~/.tunesmith/data).")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(data_dir: str | None, as_json: bool) -> None:
    """Show the platform's processes with their memory, whether it answers, and the unfinished jobs. Exit status 1 when it is down.

    \b
    Examples:
      tunesmith status
      tunesmith status --json
    """
    from tunesmith.settings import Settings

    with told_plainly():
        folder = Settings.load(data_dir=data_dir).data_dir
        processes = running_processes(folder / "supervisor.sock")
    profile = find_profile()
    health, jobs = "no client profile", []
    if profile is not None:
        profile = with_chosen_key(profile)
        try:
            call(profile, "GET", "/health")
            health, jobs = f"{profile.api_base} answers", all_rft_jobs(profile)
        except TunesmithError as error:
            health = error.message
    unfinished = [job for job in jobs if not job.get("completedTime")]
    if as_json:
        click.echo(
            json.dumps(
                {"data_dir": str(folder), "processes": processes, "health": health, "jobs": unfinished}, indent=2
            )
        )
        return
    say(f"Data folder  {folder}\nHealth       {health}")
    for process in processes:
        up = time.strftime("%H:%M:%S", time.gmtime(time.time() - process["started"]))
        say(f"  {process['name']:<40} pid {process['pid']:<8} up {up}  {process['rss_bytes'] >> 20} MiB")
    for job in unfinished:
        queue = job.get("queue")
        how_far = f"place {queue['position']}: {queue['waitingFor']}" if queue else f"{percent_of(job)} %"
        say(f"  {job['name'].rsplit('/', 1)[-1]:<40} {state_of(job)} {how_far}")
        if (sandbox := job.get("sandbox") or {}).get("degraded"):
            say(f"    its evaluator is not fully confined: {sandbox['reason']}")
        for process in job.get("processes") or []:
            say(f"    {process['name']:<38} pid {process['pid']:<8} peak {process['peak_rss_mib']:.0f} MiB")


def percent_of(job: dict[str, Any]) -> int:
    """How far a job has come."""
    return (job.get("jobProgress") or {}).get("percent", 0)


def running_processes(control: Path) -> list[dict[str, Any]]:
    """The supervisor's processes with their resident memory. Raises Unavailable when no supervisor answers."""
    connection = _UnixConnection(control)
    try:
        connection.request("GET", "/processes")
        processes = json.loads(connection.getresponse().read())["processes"]
    except OSError as error:
        raise Unavailable(f"Tunesmith does not run on {control.parent}. Start it with `tunesmith up`.") from error
    finally:
        connection.close()
    return [{**process, "rss_bytes": _rss(process["pid"])} for process in processes]


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("supervisor", timeout=10)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _rss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmRSS:")), 0)
