"""`ep logs`: the local UI over the results kept on this machine."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from eval_protocol.cli.session import Printer, reports_errors

INERT = (
    "disable_elasticsearch_setup",
    "use_env_elasticsearch_config",
    "use_elasticsearch",
)


@click.command("logs")
@click.option(
    "--port", default=8000, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 takes a free one."
)
@click.option(
    "--store", type=click.Path(dir_okay=False, path_type=Path), help="The results store. Default: EP_RESULTS_DB."
)
@click.option("--open/--no-open", "open_page", default=True, help="Open the page in a browser (default).")
@click.option("--debug", is_flag=True, help="Print what the server does.")
@click.option("--use-fireworks", is_flag=True, help="Insist on a tracing gateway for the lines of remote rollouts.")
@click.option("--use-elasticsearch", is_flag=True, help="Has no effect: there is no Elasticsearch here.")
@click.option("--disable-elasticsearch-setup", is_flag=True, help="Has no effect, likewise.")
@click.option("--use-env-elasticsearch-config", is_flag=True, help="Has no effect, likewise.")
@reports_errors
def logs(port: int, store: Path | None, open_page: bool, debug: bool, use_fireworks: bool, **inert: bool) -> int:
    """Look at every rollout kept on this machine: table, pivot, comparison and logs, in a browser."""
    import asyncio

    from eval_protocol.errors import ProfileError, UsageError
    from eval_protocol.evaluation.local_ui import open_page as show
    from eval_protocol.settings import RunSettings
    from eval_protocol.tracing.route import log_gateway
    from eval_protocol.ui.server import serve

    say = Printer()
    settings = RunSettings.from_environment()
    path = (store or settings.results_db).expanduser()
    for name in INERT:
        if inert[name]:
            say(
                f"--{name.replace('_', '-')} has no effect: lines come from the results store and the tracing gateway.",
                err=True,
            )
    try:
        gateway = log_gateway()
    except ProfileError as error:
        gateway = None
        say(f"Lines of remote rollouts are not shown: {error}", err=True)
    if gateway is None and use_fireworks:
        raise UsageError(
            "--use-fireworks needs a tracing gateway: set FIREWORKS_API_KEY, FW_TRACING_GATEWAY_BASE_URL, or start `tunesmith up`."
        )
    logging.basicConfig(level=logging.DEBUG if debug else logging.WARNING, format="%(levelname)s %(name)s: %(message)s")

    def ready(url: str) -> None:
        say(f"The local UI is at {url} and shows {path}. Ctrl-C ends it.")
        if gateway is not None:
            say(f"Lines of remote rollouts come from {gateway.base}.")
        if open_page and not settings.disable_auto_browser:
            show(url)

    asyncio.run(serve(path, port, gateway, ready=ready), debug=False)
    return 0
