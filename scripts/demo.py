"""`make demo`: a newcomer's whole story on one machine, and what it came to.

Starts the platform in `.demo/`, runs the GSM8K-style example as a local eval, launches RFT with one command, and compares base
and tuned model on held-out problems. Writes `.demo/result.json`. With a terminal, the platform keeps running until Ctrl-C.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.held_out import Measured, measure
from scripts.story import BIN, DEMO, REPO, Story, console, say, scores, step, write_result

PROJECT = REPO / "examples" / "gsm8k"
HELD_OUT = PROJECT / "gsm8k_heldout.jsonl"
BASE_MODEL = "accounts/tunesmith/models/tiny-math-v1"


def main() -> int:
    """Run the story; exit code 0 when the job completed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=600, help="held-out problems per temperature (default 600)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training rows (default 1)")
    options = parser.parse_args()
    story = Story(DEMO, PROJECT)
    step("1/5  Starting the platform", f"tunesmith up --port {story.port} --data-dir .demo/data")
    try:
        with story.platform():
            job, _, _ = tell(story, problems=options.problems, epochs=options.epochs)
            story.linger()
            return 0 if job["state"] == "JOB_STATE_COMPLETED" else 1
    except (RuntimeError, OSError) as error:
        console.print(f"[red]The demo stopped:[/red] {error}", markup=True)
        console.print("Logs: .demo/up.log and .demo/data/logs/")
        return 1


def tell(story: Story, *, problems: int = 600, epochs: int = 1) -> tuple[dict[str, Any], Measured, dict[str, float]]:
    """The story on a platform that is up: the job, the tuned model's scores, and the gain over the base at its best temperature.

    Raises RuntimeError when a part of it fails.
    """
    started = time.monotonic()
    step("2/5  A local eval of the base model", "cd examples/gsm8k && python evaluation.py")
    story.run([sys.executable, "evaluation.py"])

    step("3/5  The base model on held-out problems, at four temperatures")
    sizes = {"problems": problems, "pass_problems": min(100, problems)}
    before = measure(PROJECT, BASE_MODEL, rows=HELD_OUT, env=story.env, say=say, **sizes)

    # A secret of the evaluator, so that the upload is seen; the evaluator of the example does not read it.
    (story.folder / "env").write_text("EXAMPLE_JUDGE_KEY=only-for-show\n")
    command = ["ep", "create", "rft", "--base-model", BASE_MODEL, "--eval-auto-carveout"]
    command += ["--env-file", str(story.folder / "env")]
    command += ["--epochs", str(epochs), "--yes", "--wait"]
    step("4/5  Reinforcement fine-tuning, one command", "cd examples/gsm8k && " + " ".join(command))
    story.run([BIN / "ep", *command[1:]])
    job = story.job()

    step("5/5  The tuned model on the same problems")
    model = job["trainingConfig"]["outputModel"]
    after = measure(PROJECT, model, rows=HELD_OUT, env=story.env, say=say, **sizes)
    gain = report(before, after, job, story, time.monotonic() - started)
    return job, after, gain


def report(before: Measured, after: Measured, job: dict[str, Any], story: Story, seconds: float) -> dict[str, float]:
    """The table, the samples, the snippet and the links; and the same as `result.json` of the story's folder. Returns the gain."""
    gain = scores(before, after)
    for (question, old, _), (_, new, score) in zip(before.samples, after.samples, strict=True):
        console.print(f"\n[bold]Q[/bold] {question}")
        console.print("  before: ", old.replace("\n", " ⏎ "), markup=False)
        console.print("  after:  ", new.replace("\n", " ⏎ "), f"({score:g})", markup=False)
    snippet = (
        f"curl {story.url}/v1/chat/completions -H \"Authorization: Bearer $(python3 -c 'import json; "
        f'print(json.load(open("{story.profile}"))["api_key"])\')" -H \'Content-Type: application/json\' \\\n'
        f'  -d \'{{"model": "{after.model}", "messages": [{{"role": "system", "content": "Put the final number inside <answer> '
        'tags."}, {"role": "user", "content": "Tom has 7 apples and buys 5 more. How many apples does Tom have now?"}]}\''
    )
    links = story.links(job)
    console.print(f"\n[bold]Model[/bold]  {after.model}  ({job['run']['optimizer_steps']} optimizer steps)")
    console.print("[bold]Call it[/bold]")
    print(snippet)
    for what, link in links.items():
        console.print(f"{what:>10}: {link}")
    write_result(
        story.folder / "result.json", before, after, gain, job, snippet=snippet, links=links, seconds=round(seconds, 1)
    )
    console.print(f"\n{seconds:.0f} s in all; the same numbers in {story.folder.name}/result.json")
    return gain


if __name__ == "__main__":
    sys.exit(main())
