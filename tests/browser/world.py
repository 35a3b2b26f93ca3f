"""A platform with something of everything, made through the public command lines, for the pages to show."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from tests.loop import projects, tuning
from tests.loop.platform import BIN, Platform

ROOT = "/v1/accounts/local"
HOSTILE = [
    "<script>window.__hacked = 1</script>",
    '<img src=x onerror="window.__hacked = 1">',
    "[click](javascript:window.__hacked=1)",
    '```svg\n<svg xmlns="http://www.w3.org/2000/svg" onload="window.__hacked=1"><script>window.__hacked=1</script>'
    '<foreignObject><body xmlns="http://www.w3.org/1999/xhtml" onload="window.__hacked=1"/></foreignObject>'
    '<image href="http://203.0.113.9/leak.png"/></svg>\n```',
    '<a href="data:text/html,<script>window.__hacked=1</script>">open</a>',
    "![leak](http://203.0.113.9/pixel.png)",
    "\u001b[31m\u202eevil\u0000 </pre><script>window.__hacked=1</script>",
]
"""Text that must stay text, wherever it is shown. Each would set `window.__hacked`, or call another host."""


@dataclass
class World:
    """Names of what is there."""

    platform: Platform
    folder: Path
    rft: str = ""
    """Id of an RFT job that ended."""
    failed: str = ""
    """Id of an RFT job that FAILED."""
    sft: str = "sums-sft"
    dpo: str = "sums-dpo"
    session: str = ""
    evaluator: str = ""
    evaluator_version: int = 1
    dataset: str = ""
    model: str = ""
    pages: dict[str, str] = field(default_factory=dict)
    """Name of each page -> its path."""


def make(platform: Platform, folder: Path) -> World:
    """Fill a platform: about a minute and a half."""
    world = World(platform, folder)
    world.rft = create_rft(world, "good", "dense")
    world.failed = create_rft(world, "broken", "raises_mostly")
    tuning.upload(platform, folder, "sums", [*tuning.chats(24), *map(hostile_row, HOSTILE)])
    tuning.upload(platform, folder, "pairs", tuning.pairs(12))
    tuning.create(platform, "sftj", world.sft, "sums", "--epochs", "1", "--eval-auto-carveout")
    tuning.create(platform, "dpoj", world.dpo, "pairs", "--epochs", "1")
    job = platform.wait(f"accounts/local/reinforcementFineTuningJobs/{world.rft}")
    assert job["state"] == "JOB_STATE_COMPLETED", job
    failed = platform.wait(f"accounts/local/reinforcementFineTuningJobs/{world.failed}")
    assert failed["state"] == "JOB_STATE_FAILED", failed
    world.model = (
        job["outputModel"].rsplit("/", 1)[-1]
        if "outputModel" in job
        else job["trainingConfig"]["outputModel"].rsplit("/", 1)[-1]
    )
    world.evaluator, world.dataset = job["evaluator"].rsplit("/", 1)[-1], job["dataset"].rsplit("/", 1)[-1]
    world.evaluator_version = failed["evaluatorVersion"]
    platform.request("POST", f"{ROOT}/secrets", {"name": "accounts/local/secrets/token", "keyName": "TOKEN", "value": "do-not-show-me"})  # fmt: skip
    platform.request(
        "POST", f"{ROOT}/deployments?deploymentId=shown", {"baseModel": f"accounts/local/models/{world.model}"}
    )
    instruction = (
        "Run SFT on accounts/local/datasets/sums across tiny-math-v1 with learning rates 1e-3 and 2e-3, LoRA rank 8, and 1 epoch. "
        "Use validation loss for evaluation."
    )
    tuning.run(platform, "session", "create", "--session-id", "shown", "--instruction", instruction, "--wait")
    world.session = "shown"
    world.pages = pages(world)
    return world


def create_rft(world: World, name: str, body: str, *flags: str, count: int = 8) -> str:
    """Start an RFT job on a small project; its id."""
    folder = projects.write(world.folder / name, body, dataset=projects.rows(count))
    return start_rft(world, name, folder, *flags)


def start_rft(world: World, name: str, folder: Path, *flags: str) -> str:
    """`ep create rft` in a project's folder; the id of the job."""
    command = ["ep", "create", "rft", "--base-model", projects.BASE, "--epochs", "2", "--chunk-size", "4", "--n", "4"]
    started = world.platform.run(BIN / command[0], *command[1:], "--job-id", f"{name}-job", *flags, "--yes", cwd=folder)
    assert started.returncode == 0, started.stdout
    return f"{name}-job"


def live_rft(world: World) -> str:
    """Id of an RFT job full of hostile text that goes on for minutes, until somebody cancels it; started once."""
    name = "live"
    if not (world.folder / name).exists():
        start_rft(world, name, hostile_project(world.folder / name), "--epochs", "10", "--chunk-size", "1")
    return f"{name}-job"


def hostile_project(folder: Path) -> Path:
    """A project whose prompts, reasons, metrics and printed lines are hostile, and whose evaluator puts hostile text into answers."""
    source = projects.HEADER.replace("def scored(", "def judged(")
    source += f"    hostile = {HOSTILE!r}[number % {len(HOSTILE)}]\n    print('INFO', hostile, flush=True)\n"
    source += projects.BODIES["dense"]
    source += "    row.messages[-1].content = text + ' ' + hostile\n"
    source += "    metric = MetricResult(score=score, is_score_valid=True, reason=hostile)\n"
    source += (
        "    row.evaluation_result = EvaluateResult(score=score, reason=hostile, metrics={hostile[:40]: metric})\n"
    )
    source += "    return row\n"
    rows = projects.rows(16)
    for number, row in enumerate(rows):
        row["messages"][0]["content"] += f" {HOSTILE[number % len(HOSTILE)]}"
    return projects.write(folder, dataset=rows, source=source)


def hostile_row(text: str) -> dict[str, object]:
    """A row whose question and answer are hostile."""
    return tuning.chat(f"What does this do? {text}", f"This is text: {text}")


def pages(world: World) -> dict[str, str]:
    """Every page of the dashboard."""
    rft = f"/dashboard/fine-tuning/reinforcement/{world.rft}"
    return {
        "overview": "/dashboard",
        "jobs": "/dashboard/fine-tuning",
        "create-rft": "/dashboard/fine-tuning/create?kind=rft",
        "create-sft": "/dashboard/fine-tuning/create?kind=sft",
        "clone-rft": f"/dashboard/fine-tuning/create?kind=rft&from={world.rft}",
        "rft": rft,
        "rft-epoch": f"{rft}?tab=epoch&epoch=1",
        "rft-odd-query": f"{rft}?tab=nothing&step=x&page=-1&rollout=",
        "rft-audit": f"{rft}?tab=audit",
        "rft-logs": f"{rft}?tab=logs",
        "rft-options": f"{rft}?tab=options",
        "rft-failed": f"/dashboard/fine-tuning/reinforcement/{world.failed}",
        "compare": f"/dashboard/fine-tuning/compare?job={world.rft}&job={world.failed}",
        "sft": f"/dashboard/fine-tuning/supervised/{world.sft}",
        "dpo": f"/dashboard/fine-tuning/dpo/{world.dpo}",
        "studio": f"/dashboard/studio/{world.rft}",
        "evaluators": "/dashboard/evaluators",
        "evaluator": f"/dashboard/evaluators/{world.evaluator}",
        "evaluator-version": f"/dashboard/evaluators/{world.evaluator}/versions/{world.evaluator_version}",
        "datasets": "/dashboard/datasets",
        "dataset": "/dashboard/datasets/sums",
        "models": "/dashboard/models",
        "model": f"/dashboard/models/{world.model}",
        "deployments": "/dashboard/deployments",
        "deployment": "/dashboard/deployments/shown",
        "playground": "/dashboard/playground",
        "sessions": "/dashboard/sessions",
        "session": f"/dashboard/sessions/{world.session}",
        "secrets": "/dashboard/secrets",
        "api-keys": "/dashboard/api-keys",
        "missing": "/dashboard/nowhere",
    }
