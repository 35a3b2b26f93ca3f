"""`ep upload`: secrets and evaluator to the platform, without starting a job."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eval_protocol.cli.session import Invocation, Printer, reports_errors

if TYPE_CHECKING:
    from eval_protocol.cli.evaluators import LocalEvaluator
    from eval_protocol.cli.secrets import Secrets
    from eval_protocol.settings import Profile


@click.command("upload")
@click.option(
    "--path", default=".", type=click.Path(exists=True, file_okay=False), help="Project folder. Default: this one."
)
@click.option("--entry", metavar="FILE[::FUNC]", help="Which evaluator. Default: the only one here, or you are asked.")
@click.option("--yes", "-y", is_flag=True, help="Ask nothing; needs --entry unless there is exactly one evaluator.")
@click.option("--env-file", metavar="FILE", help="File of secrets. Default: .env of the project.")
@click.option("--force", is_flag=True, help="Upload the evaluator even if its source did not change.")
@click.option(
    "--evaluator-id", "--id", "name", metavar="ID", help="Id of the evaluator. Default: from file and function."
)
@click.option("--wait", is_flag=True, help="Wait until the evaluator is built. Exit status 1 if the build fails.")
@click.pass_obj
@reports_errors
def upload(
    invocation: Invocation,
    path: str,
    entry: str | None,
    yes: bool,
    env_file: str | None,
    force: bool,
    name: str | None,
    wait: bool,
) -> int:
    """Upload secrets and the evaluator, without starting a job."""
    from eval_protocol.cli.plan import pack_evaluator
    from eval_protocol.cli.secrets import choose, find_secrets
    from eval_protocol.cli.selection import evaluator_id, select_test
    from eval_protocol.cli.session import find_profile

    say = Printer(verbose=invocation.verbose)
    profile = find_profile(invocation)
    root = Path(path).resolve()
    test = select_test(root, say, entry=entry, assume_yes=yes)
    if test is None:
        return 1
    local = pack_evaluator(root, test, name or evaluator_id(test), say)
    secrets = choose(find_secrets(root, env_file, profile.api_key), not yes and sys.stdin.isatty())
    return asyncio.run(_send(profile, local, secrets, force, wait, say))


async def _send(
    profile: Profile, local: LocalEvaluator, secrets: Secrets, force: bool, wait: bool, say: Printer
) -> int:
    from eval_protocol.cli.evaluators import ensure_evaluator, wait_until_active
    from eval_protocol.cli.secrets import describe, upload_secrets
    from eval_protocol.cli.session import dashboard
    from eval_protocol.client.control_plane import ControlPlane

    links = dashboard(profile.api_base)
    async with ControlPlane(profile.api_base, profile.api_key) as platform:
        account = await platform.verify_api_key()
        describe(secrets, account, say)
        await upload_secrets(platform, secrets, say)
        say()
        await ensure_evaluator(platform, local, force, links, say)
        say(f"✓ Uploaded/ensured evaluator: {local.id}")
        return 0 if not wait or await wait_until_active(platform, local.id, links, say) else 1
