"""`tunesmith up`: everything in one command, in the foreground, until Ctrl-C."""

from __future__ import annotations

import asyncio
import logging
import resource
import signal
import socket
from pathlib import Path

import click

from tunesmith.cli.errors import told_plainly
from tunesmith.disk import LEAST_FREE, advice, free_bytes
from tunesmith.errors import FailedPrecondition, InvalidArgument, NoRoom
from tunesmith.settings import DEFAULT_ACCOUNT, Settings

OPEN_FILES = 65_536
"""As many files as each process may hold open, where the machine allows it: calls that wait, streams, databases."""
FEWEST_FILES = 1024
"""Below this a job with its usual 96 rollouts at a time may run out of them."""


@click.command("up")
@click.option(
    "--port", type=click.IntRange(0, 65535), help="Port of API, gateway and dashboard (default 7777; 0 = a free one)."
)
@click.option("--data-dir", help="Folder of everything the platform owns (default ~/.tunesmith/data).")
@click.option("--host", help="Address to listen on (default 127.0.0.1).")
def command(port: int | None, data_dir: str | None, host: str | None) -> None:
    """Start the platform: control plane, gateway, jobs; engines as they are needed. Ctrl-C or SIGTERM stops all of it.

    \b
    Examples:
      tunesmith up
      tunesmith up --port 8080 --data-dir /var/lib/tunesmith
    """
    from tunesmith.cli import engines
    from tunesmith.cli.control import check_socket_path
    from tunesmith.cli.lockfile import hold, sign
    from tunesmith.cli.profile import make_profile_folder

    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(message)s")
    with told_plainly():
        settings = Settings.load(port=port, data_dir=data_dir, host=host)
        files = _raise_open_files()
        check_socket_path(settings.data_dir / "supervisor.sock")
        served_by = engines.describe(settings)
        try:
            settings.data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
            lock = hold(settings.data_dir / "up.lock")
        except OSError as error:
            raise FailedPrecondition(
                f"The data folder {settings.data_dir} cannot be used ({error.strerror}). Choose another with --data-dir."
            ) from error
        with lock:
            if free_bytes(settings.data_dir) < LEAST_FREE:
                raise NoRoom(advice("no space left", settings.data_dir))
            make_profile_folder()
            settings = settings.model_copy(update={"port": _free_port(settings)})
            sign(lock, settings.port)
            asyncio.run(_run(settings, served_by, files))


async def _run(settings: Settings, served_by: str, files: int) -> None:
    from tunesmith.cli.account import ensure_account_key, publish_profile
    from tunesmith.cli.control import serve
    from tunesmith.cli.supervisor import Supervisor
    from tunesmith.db.captured import check_known
    from tunesmith.db.session import check_readable
    from tunesmith.evaluators.protection import describe

    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    for name in ("tunesmith.db", "completions.db"):
        check_readable(settings.path(name))
    check_known(settings.path("completions.db"))
    protection = describe(settings.sandbox)
    key = ensure_account_key(settings)
    supervisor = Supervisor(settings)
    async with serve(supervisor, settings.path("supervisor.sock")):
        try:
            starting = asyncio.create_task(supervisor.start())
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if starting.done():
                starting.result()
                # Not before it answers: a start that fails must not take another platform's profile away.
                profile, note = publish_profile(settings.base_url, key)
                click.echo(_welcome(settings, settings.base_url, profile, note, protection, served_by))
                if files < FEWEST_FILES:
                    click.echo(
                        f"Each process may hold only {files} files open, and the limit cannot be raised from here: many calls at a time "
                        f"will have to wait or fail. Raise it (`ulimit -Hn {FEWEST_FILES}` as root, LimitNOFILE= in a systemd unit, "
                        "--ulimit nofile in Docker), or give jobs a lower --max-concurrent-rollouts.\n"
                    )
                await stopped
            starting.cancel()
            click.echo("Stopping ...")
        finally:
            await supervisor.stop()
    click.echo("Stopped.")


def _raise_open_files() -> int:
    """Use what the machine allows (the hard limit), as shells and service managers leave processes far less. Returns what is allowed then."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, OPEN_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
        soft = most
    return OPEN_FILES if soft == resource.RLIM_INFINITY else soft


def _free_port(settings: Settings) -> int:
    """The port, known to be free a moment ago; 0 becomes a free one. Raises FailedPrecondition, InvalidArgument."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
            probe.listen(1)
        except socket.gaierror as error:
            raise InvalidArgument(
                f"--host {settings.host} is no address of this machine ({error.strerror})."
            ) from error
        except OSError as error:
            raise FailedPrecondition(
                f"Port {settings.port} on {settings.host} cannot be used ({error.strerror}). "
                "Stop what listens there, or choose another with --port."
            ) from error
        return probe.getsockname()[1]


def _welcome(settings: Settings, url: str, profile: Path, note: str, protection: str, served_by: str) -> str:
    return f"""
Tunesmith is up at {url}

  account     {DEFAULT_ACCOUNT}
  key         in {profile}{note}
  data        {settings.data_dir}
  logs        {settings.path("logs", "web.log").parent}
  engine      {served_by}
  {protection}

Next, in another terminal:
  tunesmith dashboard           see everything in the browser, signed in
  python evaluation.py          run an eval against the served model
  ep create rft                 train against it
  tunesmith session create      have the Agent fine-tune on a dataset
  eval "$(tunesmith env)"       point the published clients here
  tunesmith status              what runs

Ctrl-C stops everything.
"""
