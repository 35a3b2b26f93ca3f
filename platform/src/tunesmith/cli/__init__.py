"""The `tunesmith` command. Subcommands are imported when they are called, so that `--help` answers at once."""

from __future__ import annotations

from importlib import import_module

import click

from tunesmith.cli.profile import accept_api_key

# name -> (module with an attribute `command`, what --help says)
_COMMANDS = {
    "up": ("tunesmith.cli.up", "Start the platform on this machine, in the foreground."),
    "studio": ("tunesmith.cli.studio", "Edit a reward while a model learns from it."),
    "env": ("tunesmith.cli.env", "Print the exports with which published clients find the platform."),
    "dashboard": ("tunesmith.cli.dashboard", "Open the dashboard, signed in."),
    "evaluator": ("tunesmith.cli.evaluators", "Evaluators: versions, source, edits."),
    "dataset": ("tunesmith.cli.datasets", "Rows to the platform and back."),
    "sftj": ("tunesmith.cli.sftj", "SFT jobs: a model learns the answers of a dataset."),
    "dpoj": ("tunesmith.cli.dpoj", "DPO and ORPO jobs: a model learns which answer is preferred."),
    "rftj": ("tunesmith.cli.rftj", "List, show, cancel and delete RFT jobs."),
    "rft": ("tunesmith.cli.rft", "Before an RFT job: is there anything to learn?"),
    "job": ("tunesmith.cli.job", "A job taken further: more epochs, another step as its model, a step to check."),
    "model": ("tunesmith.cli.models", "What jobs made: list, download, delete."),
    "provider": ("tunesmith.cli.providers", "Upstreams for models that are not served here."),
    "session": ("tunesmith.cli.sessions", "The Agent: from an instruction to a deployed model, in seven phases."),
    "deployment": ("tunesmith.cli.deployments", "Keep models ready under a name."),
    "user": ("tunesmith.cli.users", "Users and service accounts."),
    "api-key": ("tunesmith.cli.api_keys", "API keys of users and service accounts."),
    "doctor": ("tunesmith.cli.doctor", "What is wrong with this machine, or why a job's reward is flat."),
    "gc": ("tunesmith.cli.retention", "Remove what is no longer needed."),
    "backup": ("tunesmith.cli.backup", "Everything into one file, also while it runs."),
    "restore": ("tunesmith.cli.restore", "A data folder from such a file."),
    "status": ("tunesmith.cli.status", "What runs here: processes, memory, jobs."),
}
_ALIASES = {"dpo-job": "dpoj"}
_WITHOUT_KEY = {"up", "env", "studio", "gc", "backup", "restore"}
"""They make and print the profile, or bring the platform with them; every other command calls the API with it, or with `--api-key`."""


class _LazyGroup(click.Group):
    """Knows its commands by name; imports the module of the one that is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        cmd_name = _ALIASES.get(cmd_name, cmd_name)
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(_COMMANDS[cmd_name][0]).command
        return command if cmd_name in _WITHOUT_KEY else accept_api_key(command)

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
