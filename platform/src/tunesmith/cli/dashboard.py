"""`tunesmith dashboard`: the pages, in the browser of whoever has the key, without typing it there."""

from __future__ import annotations

import webbrowser

import click

from tunesmith.cli.client import call
from tunesmith.cli.errors import told_plainly
from tunesmith.cli.profile import read_profile


@click.command("dashboard")
@click.option("--no-open", is_flag=True, help="Only print the link.")
def command(no_open: bool) -> None:
    """Open the dashboard, signed in with your key: by a link that works once, within five minutes.

    \b
    Examples:
      tunesmith dashboard
      tunesmith dashboard --no-open      print the link, for a browser elsewhere
    """
    with told_plainly():
        url = call(read_profile(), "POST", "/dashboard/links", {})["url"]
    opened = not no_open and webbrowser.open(url)
    click.echo(
        "Opened the dashboard in your browser. If nothing shows, open this link:" if opened else "Open this link:"
    )
    click.echo(f"  {url}")
    click.echo("It signs one browser in, once, within five minutes.")
