"""`make demo-svg`: an agent on a server of its own is evaluated, trained and looked at, on one machine.

Starts the platform in `.demo/svg/` and an agent server (`--server py` or `ts`), runs the SVG example as a local eval, launches RFT
with one command, and compares base and tuned model on held-out drawings. Writes `.demo/svg-result.json` and the pictures
`.demo/svg-before.png` and `.demo/svg-after.png`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.agent_server import KINDS, SERVERS, agent_server, shown_command
from scripts.contact_sheet import write_sheets
from scripts.held_out import Measured, measure
from scripts.story import BIN, DEMO, REPO, Story, console, say, scores, step, write_result

PROJECT = SERVERS / "evaluator"
HELD_OUT = SERVERS / "held_out.jsonl"
BASE_MODEL = "accounts/tunesmith/models/tiny-svg-v1"
SHOWN = 12
"""Drawings on each sheet."""


def main() -> int:
    """Run the story; exit code 0 when the job completed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", choices=KINDS, default="py", help="which agent server (default py)")
    parser.add_argument("--problems", type=int, default=300, help="held-out drawings per temperature (default 300)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training rows (default 1)")
    parser.add_argument("--rows", type=int, default=20, help="rows of the local eval (default 20)")
    parser.add_argument("--pictures", type=Path, default=DEMO, help="folder that the pictures are written to")
    options = parser.parse_args()
    started = time.monotonic()
    folder = DEMO / "svg"
    story = Story(folder, PROJECT)
    step("1/6  Starting the platform", f"tunesmith up --port {story.port} --data-dir .demo/svg/data")
    try:
        with story.platform():
            step("2/6  Starting the agent's server", shown_command(options.server))
            with agent_server(options.server, folder / "agent.log") as agent:
                say(f"it listens on {agent.url}")
                story.env.update(agent.setting)
                before, after, job = train_and_compare(story, options, agent.env_file(folder / "env"))
            files = write_sheets(options.pictures, before.samples, after.samples)
            report(before, after, job, story, files, options.server, time.monotonic() - started)
            story.linger()
            return 0 if job["state"] == "JOB_STATE_COMPLETED" else 1
    except (RuntimeError, OSError) as error:
        console.print(f"[red]The demo stopped:[/red] {error}", markup=True)
        console.print("Logs: .demo/svg/up.log, .demo/svg/agent.log and .demo/svg/data/logs/")
        return 1


def train_and_compare(
    story: Story, options: argparse.Namespace, env_file: Path
) -> tuple[Measured, Measured, dict[str, Any]]:
    """Local eval, the base model's score, the job, the tuned model's score."""

    def score(model: str) -> Measured:
        return measure(
            PROJECT,
            model,
            rows=HELD_OUT,
            env=story.env,
            problems=options.problems,
            pass_problems=min(50, options.problems),
            samples=SHOWN,
            say=say,
        )

    step("3/6  A local eval of the base model", "cd examples/svg_agent/evaluator && python evaluation.py")
    story.run([sys.executable, "evaluation.py"], {"EP_MAX_DATASET_ROWS": str(options.rows)})
    step("4/6  The base model on held-out drawings, at four temperatures")
    before = score(BASE_MODEL)

    command = ["ep", "create", "rft", "--base-model", BASE_MODEL, "--eval-auto-carveout", "--ignore-docker"]
    command += ["--env-file", str(env_file), "--epochs", str(options.epochs), "--yes", "--wait"]
    step("5/6  Reinforcement fine-tuning, one command", "cd examples/svg_agent/evaluator && " + " ".join(command))
    story.run([BIN / "ep", *command[1:]])
    job = story.job()
    step("6/6  The tuned model on the same drawings")
    return before, score(job["trainingConfig"]["outputModel"]), job


def report(
    before: Measured, after: Measured, job: dict[str, Any], story: Story, files: list[Path], server: str, seconds: float
) -> None:
    """The table, the links and the pictures; and the same as `.demo/svg-result.json`."""
    gain = scores(before, after)
    console.print(f"\n[bold]Model[/bold]  {after.model}  ({job['run']['optimizer_steps']} optimizer steps)")
    links = story.links(job)
    for what, link in links.items():
        console.print(f"{what:>10}: {link}")
    shown = [str(file.relative_to(REPO) if file.is_relative_to(REPO) else file) for file in files]
    console.print(f"  pictures: {', '.join(shown)}")
    result = DEMO / "svg-result.json"
    more = {"server": server, "links": links, "pictures": shown, "seconds": round(seconds, 1)}
    write_result(result, before, after, gain, job, **more)
    console.print(f"\n{seconds:.0f} s in all; the same numbers in .demo/svg-result.json")


if __name__ == "__main__":
    sys.exit(main())
