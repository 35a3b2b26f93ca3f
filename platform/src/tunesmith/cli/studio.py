"""`tunesmith studio`: a reward that is edited while a model learns from it. No GPU, no key, one command."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
import threading
import time
import urllib.parse
import webbrowser
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tunesmith.cli.client import ApiError, call
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.profile import Profile
from tunesmith.cli.terminal import say
from tunesmith.errors import TunesmithError, Unavailable

if TYPE_CHECKING:
    from tunesmith.cli.studio_example import Example
    from tunesmith.settings import Settings

LOOK_SECONDS = 0.4
"""How often folder and platform are compared."""
START_SECONDS = 150.0
STOP_GRACE_SECONDS = 30.0
"""`tunesmith up` stops its own processes within these."""


@click.command("studio")
@click.option(
    "--example", default="svg", show_default=True, help="What is learned: an example, or a folder with a studio.json."
)
@click.option(
    "--folder",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("tunesmith-studio/evaluator"),
    show_default=True,
    help="Where the evaluator is written, and watched; kept if it is there.",
)
@click.option("--port", type=click.IntRange(0, 65535), help="Port of a platform that has to be started (default 7777).")
@click.option("--data-dir", help="The platform's data folder (default: TUNESMITH_DATA_DIR or ~/.tunesmith/data).")
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser.")
def command(example: str, folder: Path, port: int | None, data_dir: str | None, open_page: bool) -> None:
    """Watch a model learn, and edit the reward that it learns from: in the page, or in FOLDER with any editor.

    Starts the platform unless it runs; Ctrl-C pauses the job, and stops the platform if the studio started it.

    \b
    Examples:
      tunesmith studio
      tunesmith studio --folder my-reward --no-open
    """
    from tunesmith.cli.studio_example import Example
    from tunesmith.cli.studio_folder import StudioFolder
    from tunesmith.settings import Settings

    with told_plainly():
        settings = Settings.load(data_dir=data_dir, port=port)
        chosen = Example(example, folder)
        stop = _stop_event()
        with _platform(settings, stop) as profile:
            written = chosen.write()
            click.echo(f"The evaluator {'is' if written else 'was there already'} in {chosen.folder.resolve()}")
            chosen.upload(profile, click.echo)
            job = _job(chosen, profile)
            url = _page(profile, job)
            click.echo(_welcome(url, chosen))
            if open_page:
                with contextlib.suppress(webbrowser.Error):
                    webbrowser.open(_signed_in(profile, url))
            try:
                _watch(StudioFolder(chosen, profile, _say), chosen, profile, stop)
            finally:
                _pause(chosen, profile)


def _watch(folder: Any, example: Example, profile: Profile, stop: threading.Event) -> None:
    """Until it is stopped. A platform that does not answer for a moment is waited for."""
    away = False
    while not stop.wait(LOOK_SECONDS):
        try:
            folder.look()
            if example.running_job(profile) is None:
                _say(
                    "The job has ended. `tunesmith studio` starts a new one; `tunesmith rftj report JOB` keeps what happened."
                )
                return
        except Unavailable as error:
            if not away:
                _say(f"{error.message} Waiting for it.")
            away = True
            continue
        except ApiError as error:
            if error.status < 500:
                raise
            continue
        away = False


def _job(example: Example, profile: Profile) -> dict[str, Any]:
    """The job that an earlier studio left, going on; else a new one."""
    job = example.running_job(profile)
    if job is None:
        return example.start_job(profile)
    click.echo(f"Going on with {job['name'].rsplit('/', 1)[-1]}.")
    return example.control(profile, job["name"], {"paused": False, "autoEvaluatorVersion": True})


def _pause(example: Example, profile: Profile) -> None:
    """Leave the job paused: it would train for nobody."""
    try:
        job = example.running_job(profile)
        if job is not None:
            example.control(profile, job["name"], {"paused": True})
            identity = job["name"].rsplit("/", 1)[-1]
            click.echo(
                f"{identity} is paused; `tunesmith studio` goes on with it, `tunesmith rftj cancel {identity}` ends it."
            )
    except TunesmithError as error:
        click.echo(f"The job could not be paused: {error.message}", err=True)


@contextlib.contextmanager
def _platform(settings: Settings, stop: threading.Event) -> Iterator[Profile]:
    """The platform of this data folder: the one that runs, else one that runs as long as the studio."""
    from tunesmith.launch import start

    running = _running(settings)
    if running is not None:
        click.echo(f"Using the platform at {running.api_base}")
        yield running
        return
    click.echo("Starting the platform ...")
    argv = [sys.executable, "-m", "tunesmith", "up", "--data-dir", str(settings.data_dir), "--port", str(settings.port)]
    process = start(argv, name="platform", log_path=settings.path("logs", "studio.log"))
    try:
        deadline = time.monotonic() + START_SECONDS
        while (profile := _running(settings)) is None:
            if not process.running:
                said = [line for line in process.log_tail(20).splitlines() if line.strip()]
                raise Unavailable(f"The platform did not start: {said[-1] if said else 'it said nothing'}")
            if stop.is_set() or time.monotonic() > deadline:
                raise Unavailable(f"The platform does not answer; see {settings.path('logs', 'studio.log')}.")
            time.sleep(0.2)
        yield profile
    finally:
        if process.running:
            click.echo("Stopping the platform ...")
            asyncio.run(process.stop(STOP_GRACE_SECONDS))


def _running(settings: Settings) -> Profile | None:
    """The platform that runs on the data folder and answers, with the account's own key; None when there is none."""
    from tunesmith.settings import DEFAULT_ACCOUNT

    try:
        port = json.loads((settings.data_dir / "supervisor.json").read_text())["port"]
        key = (settings.data_dir / "keys" / "account.key").read_text().strip()
        profile = Profile(settings.model_copy(update={"port": port}).base_url, key, DEFAULT_ACCOUNT)
        call(profile, "GET", "/health")
    except (OSError, ValueError, KeyError, TunesmithError):
        return None
    return profile


def _page(profile: Profile, job: dict[str, Any]) -> str:
    return f"{profile.api_base}/dashboard/studio/{job['name'].rsplit('/', 1)[-1]}"


def _signed_in(profile: Profile, url: str) -> str:
    """The page behind a link that signs the browser in once; the page itself where that is not to be had."""
    try:
        link = call(profile, "POST", "/dashboard/links", {})["url"]
    except TunesmithError:
        return url
    path, _, token = link.partition("#")
    return f"{path}?next={urllib.parse.quote(url.removeprefix(profile.api_base))}#{token}"


def _welcome(url: str, example: Example) -> str:
    entry = example.settings["entryPoint"].split("::")[0]
    return f"""
  {url}

Edit {example.folder / entry}, or the code in the page: what you save is what the next step is scored by.
Ctrl-C ends the studio.
"""


def _say(text: str) -> None:
    say(f"{time.strftime('%H:%M:%S')}  {text}")


def _stop_event() -> threading.Event:
    """Set by Ctrl-C and SIGTERM; the second Ctrl-C ends at once."""
    stop = threading.Event()

    def asked(_number: int, _frame: object) -> None:
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, asked)
    return stop
