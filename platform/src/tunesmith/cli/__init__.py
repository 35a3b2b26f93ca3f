"""The `tunesmith` command. Subcommands are imported when they are called, so that `--help` answers at once."""

from __future__ import annotations

from importlib import import_module

import click

# name -> (module with an attribute `command`, what --help says)
_COMMANDS = {
    "up": ("tunesmith.cli.up", "Start the platform on this machine, in the foreground."),
    "env": ("tunesmith.cli.env", "Print the exports with which published clients find the platform."),
    "rftj": ("tunesmith.cli.rftj", "List, show, cancel and delete RFT jobs."),
    "provider": ("tunesmith.cli.providers", "Upstreams for models that are not served here."),
    "status": ("tunesmith.cli.status", "What runs here: processes, memory, jobs."),
}


class _LazyGroup(click.Group):
    """Knows its commands by name; imports the module of the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        return import_module(_COMMANDS[cmd_name][0]).command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in _COMMANDS.items()])


@click.command(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tunesmith")
def main() -> None:
    """Tunesmith: serve, evaluate and fine-tune models against your evals, on your own machine.

    \b
    Examples:
      tunesmith up                        start everything at http://127.0.0.1:7777
      eval "$(tunesmith env)"             point the published clients at it
      tunesmith rftj list                 see the training jobs
    """
