"""`ep` and `eval-protocol`: run an eval here, upload it, train against it.

This module imports Click and nothing else, so that `ep --help` is instant: each command lives in its own module, which is
imported when the command runs, and what a command needs (HTTP, pytest, rich) is imported inside it.
"""

from __future__ import annotations

import sys
from importlib import import_module

import click

__all__ = ["main"]

COMMANDS = {
    "create": ("eval_protocol.cli.create", "create", "Start a job on the platform (`create rft`: reinforcement fine-tuning)."),
    "local-test": ("eval_protocol.cli.local_test", "local_test", "Run an evaluator on this machine, as the platform would."),
    "logs": ("eval_protocol.cli.logs", "logs", "Look at every rollout kept on this machine, in a browser."),
    "results": ("eval_protocol.cli.results", "results", "List the scores kept on this machine."),
    "upload": ("eval_protocol.cli.upload", "upload", "Upload secrets and the evaluator, without starting a job."),
}  # fmt: skip


class LazyGroup(click.Group):
    """A group that imports a command when it runs, and lists all of them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names in alphabetical order."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; None when there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module, attribute, _ = COMMANDS[cmd_name]
        return getattr(import_module(module), attribute)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list under `Commands:`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][2]) for name in self.list_commands(ctx)])


@click.command(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--server",
    metavar="URL",
    help="Platform to talk to. It must be the one that the profile or FIREWORKS_API_BASE names: a key never goes to another host.",
)
@click.option("--verbose", "-v", is_flag=True, help="Show what is sent, and the whole traceback of an error.")
@click.version_option(package_name="tunesmith-eval", prog_name="ep")
@click.pass_context
def cli(ctx: click.Context, server: str | None, verbose: bool) -> None:
    """Write an eval as a pytest test, run it here, look at every rollout, train a model against it."""
    from eval_protocol.cli.session import Invocation

    ctx.obj = Invocation(server=server, verbose=verbose)


def main() -> None:
    """Entry point of the console scripts. Exit status: 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    try:
        status = cli.main(standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("Aborted.", err=True)
        status = 130
    except click.ClickException as error:
        error.show()
        status = error.exit_code
    sys.exit(status if isinstance(status, int) else 0)
