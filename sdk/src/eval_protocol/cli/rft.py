"""What `ep create rft` does, in order.

Here: find the evaluator, read and check the dataset. The platform checks the options and the job's id. Then the evaluator runs here on a
few rows. Then on the platform: secrets, the evaluator and its build, the dataset, the job. Nothing is sent before everything here is in
order; `--dry-run` stops there.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eval_protocol.cli.evaluators import decide, ensure_evaluator, wait_until_active
from eval_protocol.cli.follow import closing_lines, follow, output_model, snippet, state_of
from eval_protocol.cli.plan import DatasetPlan, Plan, Request, prepare, try_evaluator
from eval_protocol.cli.secrets import choose, describe, upload_secrets
from eval_protocol.cli.session import Invocation, Printer, dashboard, find_profile, mask
from eval_protocol.client.control_plane import ControlPlane
from eval_protocol.client.errors import Missing, PlatformError, Refused, Taken
from eval_protocol.errors import DatasetError, EvalProtocolError

if TYPE_CHECKING:
    from eval_protocol.client.wire import Job
    from eval_protocol.settings import Profile

INTERRUPTED = 130
UNKNOWN_ACCOUNT = "<account>"


def create_rft(invocation: Invocation, request: Request) -> int:
    """Run the whole command; returns its exit status."""
    say = Printer(request.as_json, invocation.verbose)
    profile = find_profile(invocation)
    account, answers, exists = asyncio.run(_ask_platform(profile, request, say))
    root = Path.cwd()
    plan = prepare(root, request, profile, say, missing_in=account if exists is False else None)
    if plan is None:
        return 1
    if not request.dry_run:
        asyncio.run(_check(profile, account, plan, request.job_id))
    if not try_evaluator(root, request, plan, profile, say):
        return 1
    if request.dry_run:
        return asyncio.run(_show(plan, request, profile, account, answers, say))
    plan = replace(plan, secrets=choose(plan.secrets, request.asks))
    try:
        return asyncio.run(_send(plan, request, profile, say))
    except KeyboardInterrupt:
        say("Interrupted. What was uploaded so far stays on the platform; run the command again to go on.", err=True)
        return INTERRUPTED


async def _ask_platform(profile: Profile, request: Request, say: Printer) -> tuple[str, bool, bool | None]:
    """Check the key before anything else. A dry run goes on without the platform.

    Returns the account, whether the platform answers, and whether it has the evaluator of `--evaluator` (None: not asked).
    """
    async with ControlPlane(profile.api_base, profile.api_key) as platform:
        try:
            account = await platform.verify_api_key()
            exists = await platform.get_evaluator(request.evaluator) is not None if request.evaluator else None
            return account, True, exists
        except EvalProtocolError as error:
            if not request.dry_run:
                raise
            say(f"--dry-run goes on without the platform: {error}")
            return platform.account_id or profile.account_id or UNKNOWN_ACCOUNT, False, None


async def _check(profile: Profile, account: str, plan: Plan, job_id: str | None) -> None:
    """`_check_options` while nothing was run or sent yet."""
    async with ControlPlane(profile.api_base, profile.api_key, account) as platform:
        await _check_options(platform, plan, job_id)


async def _check_options(platform: ControlPlane, plan: Plan, job_id: str | None) -> None:
    """Have the platform check the options and the job's id, though evaluator and rows may not be there yet. Raises Refused with its words,
    and EvalProtocolError where the job is there: rows that are uploaded anew would make it another one."""
    made = await platform.validate_job(
        {
            **plan.body,
            "dataset": platform.resource("datasets", plan.dataset.id),
            "evaluator": platform.resource("evaluators", plan.evaluator_id),
        },
        job_id,
    )
    if made and any(each is not None and each.rows is not None for each in (plan.dataset, plan.evaluation)):
        name = made.rsplit("/", 1)[-1]
        raise EvalProtocolError(
            f"RFT job '{name}' exists already, with these options: nothing was uploaded. Follow it with `tunesmith rftj logs {name} -f`, "
            "or choose another --job-id."
        )


async def _send(plan: Plan, request: Request, profile: Profile, say: Printer) -> int:
    """Steps on the platform."""
    links = dashboard(profile.api_base)
    async with ControlPlane(profile.api_base, profile.api_key) as platform:
        account = await platform.verify_api_key()
        describe(plan.secrets, account, say)
        await upload_secrets(platform, plan.secrets, say)
        say()
        short_id = plan.evaluator_id.rsplit("/", 1)[-1]
        if plan.local:
            evaluator = await ensure_evaluator(platform, plan.local, request.force, links, say)
            say(f"✓ Uploaded/ensured evaluator: {short_id}")
        elif (evaluator := await platform.get_evaluator(plan.evaluator_id)) is None:
            raise EvalProtocolError(
                f"Evaluator '{plan.evaluator_id}' not found in account {account}, and this folder has no test of that name. "
                "Run the command in the evaluator's project, or give the id of one that was uploaded."
            )
        if not await wait_until_active(platform, plan.evaluator_id, links, say):
            say.result({"error": f"Evaluator '{short_id}' is not ACTIVE.", "evaluator": short_id})
            return 1
        dataset = await _create_dataset(platform, plan.dataset, say)
        evaluator_name = platform.resource("evaluators", plan.evaluator_id)
        # With the version, an upload of another project under the same id cannot slip in between.
        body = {
            **plan.body,
            "dataset": platform.resource("datasets", dataset),
            "evaluator": evaluator.pinned(evaluator_name),
        }
        if plan.evaluation:
            held_out = await _create_dataset(platform, plan.evaluation, say)
            body["evaluationDataset"] = platform.resource("datasets", held_out)
        say(f"Prepared RFT job for evaluator '{short_id}' using dataset '{dataset.rsplit('/', 1)[-1]}'")
        say.detail(json.dumps(body, indent=2))
        job = await platform.create_job(body, request.job_id)
        found = _links(links, short_id, dataset, job.name)
        say()
        say("✅ Created Reinforcement Fine-tuning Job")
        say(f"   name: {job.name}")
        say()
        say("📊 Dashboard Links:")
        say(f"   Evaluator: {found['evaluator']}")
        say(f"   Dataset:   {found['dataset']}")
        say(f"   RFT Job:   {found['job']}")
        result = {
            "job": job.name,
            "state": state_of(job),
            "evaluator": evaluator_name,
            "dataset": body["dataset"],
            "links": found,
        }
        if not request.wait:
            say.result(result)
            return 0
        say()
        return await _wait(platform, job, plan, profile, result, say)


async def _create_dataset(platform: ControlPlane, plan: DatasetPlan, say: Printer) -> str:
    """Upload rows, unless they are there. Returns the id (or the full name that was given)."""
    if plan.rows is None:
        say(f"✓ Using dataset: {plan.id}")
        return plan.id
    name = plan.id
    for number in range(2, 7):
        try:
            await platform.create_dataset(name, plan.rows.count)
            break
        except Taken:  # somebody started a job in the same second
            name = f"{plan.id[:60]}-{number}"
    else:
        raise DatasetError(f"Dataset '{plan.id}' and its next five names are taken. Run the command again.")
    await platform.upload_dataset(name, plan.filename, plan.rows.content)
    say(f"✓ Created and uploaded dataset: {name}")
    return name


async def _wait(
    platform: ControlPlane, job: Job, plan: Plan, profile: Profile, result: dict[str, Any], say: Printer
) -> int:
    """Follow the job, say how it ended and how to call what came out."""
    try:
        view = await follow(platform, job, say)
    except (asyncio.CancelledError, KeyboardInterrupt):
        say()
        say(f"Stopped watching. The job goes on: {job.name}")
        say(f"   {result['links']['job']}")
        say.result({**result, "interrupted": True})
        return INTERRUPTED
    except Missing:
        say()
        say(f"❌ Job {job.id} was deleted while it ran.")
        say.result({**result, "state": "DELETED", "output_model": None})
        return 1
    for line in closing_lines(view):
        say(line)
    model = output_model(view.job, platform.account_id)
    if model:
        say(f"   Output model: {model}")
        say()
        messages = plan.dataset.rows.first_messages if plan.dataset.rows else [{"role": "user", "content": "Hello"}]
        for line in snippet(platform.api_base, model, messages, _key_file(profile)):
            say(line)
    say.result(
        {
            **result,
            "state": state_of(view.job),
            "message": view.job.status.message if view.job.status else "",
            "output_model": model,
            "run": view.job.run.model_dump() if view.job.run else None,
            "rewards": [event.mean_score for event in view.metrics.chunks],
            "evaluations": [event.model_dump(exclude_unset=True) for event in view.metrics.evaluations],
        }
    )
    return 0 if view.job.is_good else 1


async def _show(plan: Plan, request: Request, profile: Profile, account: str, answers: bool, say: Printer) -> int:
    """`--dry-run`: the five steps as they would be sent, with the decision about the evaluator if the platform answers."""
    platform = ControlPlane(profile.api_base, profile.api_key, account)
    if answers:
        await _check_here(plan, request, profile, account, say)
    else:
        say("The options were not checked, since the platform does not answer.")
    body = {
        **plan.body,
        "dataset": platform.resource("datasets", plan.dataset.id),
        "evaluator": platform.resource("evaluators", plan.evaluator_id),
    }
    if plan.evaluation:
        body["evaluationDataset"] = platform.resource("datasets", plan.evaluation.id)
    say()
    say(f"--dry-run: nothing was uploaded to {profile.api_base} and nothing was written. Without it:")
    masked = {name: mask(value) for name, value in plan.secrets.values.items()}
    say(f"1. Secrets: {', '.join(f'{name} ({value})' for name, value in masked.items()) or 'none'}")
    for name, reason in plan.secrets.kept.items():
        say(f"   {name} stays here: {reason}.")
    action = await _evaluator_action(plan, request, profile, account)
    say(f"2. Evaluator '{plan.evaluator_id}': {action}")
    if plan.local:
        archive = plan.local.archive
        say(f"   {archive.filename} ({archive.size:,} bytes): {', '.join(archive.files)}")
        say(f"   {json.dumps(plan.local.request)}")
    say("3. Wait for its build")
    for label, dataset in (("4. Dataset", plan.dataset), ("   Held-out dataset", plan.evaluation)):
        if dataset:
            size = (
                f"{dataset.rows.count} rows, {len(dataset.rows.content):,} bytes"
                if dataset.rows
                else "is on the platform"
            )
            say(f"{label} '{dataset.id}': {size}")
    say("5. RFT job:")
    say(json.dumps(body, indent=2, ensure_ascii=False))
    say.result(
        {
            "dry_run": True,
            "secrets": masked,
            "evaluator": plan.local.request if plan.local else None,
            "evaluator_action": action,
            "files": list(plan.local.archive.files) if plan.local else [],
            "rows": plan.dataset.rows.count if plan.dataset.rows else None,
            "job": body,
        }
    )
    return 0


async def _check_here(plan: Plan, request: Request, profile: Profile, account: str, say: Printer) -> None:
    """The platform's check of the options, in a dry run: what it refuses ends the command, silence does not."""
    async with ControlPlane(profile.api_base, profile.api_key, account) as platform:
        try:
            await _check_options(platform, plan, request.job_id)
        except PlatformError as error:
            if isinstance(error, Refused) and error.status < 500:
                raise
            say(f"--dry-run goes on, but the options were not checked: {error}")
        else:
            say("✓ The platform accepts the options.")


async def _evaluator_action(plan: Plan, request: Request, profile: Profile, account: str) -> str:
    if plan.local is None:
        return "used as it is on the platform"
    try:
        async with ControlPlane(profile.api_base, profile.api_key, account) as platform:
            decision = decide(plan.local, await platform.get_evaluator(plan.local.id), request.force)
    except EvalProtocolError:
        return "uploaded unless the same source is there"
    verb = ("uploaded as its next version" if decision.again else "uploaded") if decision.upload else "left"
    return f"{verb}: {decision.reason}"


def _links(base: str, evaluator: str, dataset: str, job: str) -> dict[str, str]:
    return {
        "evaluator": f"{base}/dashboard/evaluators/{evaluator}",
        "dataset": f"{base}/dashboard/datasets/{dataset.rsplit('/', 1)[-1]}",
        "job": f"{base}/dashboard/fine-tuning/reinforcement/{job.rsplit('/', 1)[-1]}",
    }


def _key_file(profile: Profile) -> str | None:
    return profile.source if profile.source.endswith(".json") else None
