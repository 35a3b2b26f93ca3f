"""`make demo-agent`: one sentence in, a deployed model out that beats its base on held-out data.

Starts the platform in `.demo/agent/`, creates the dataset of `examples/sft/`, has the Agent carry out one instruction, approves at both
gates, runs the snippet that it gave, and copies the report with its pictures to `docs/agent-report/`. Writes `.demo/agent/result.json`.
With a terminal, the platform keeps running until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.story import BIN, DEMO, REPO, Story, console, say, step

PROJECT = REPO / "examples" / "sft"
FOLDER = DEMO / "agent"
REPORT = REPO / "docs" / "agent-report"
CLIENTS = REPO / ".venv-clients" / "bin" / "python"
"""Environment of the published clients, where `make test-clients` made it."""
DATASET, SESSION = "word-problems", "demo"
INSTRUCTION = (
    f"Run SFT on accounts/local/datasets/{DATASET} across tiny-math-v1 with learning rates 2e-3 and 1e-3, "
    "LoRA ranks 8 and 16, and 2 epochs. Generate an evaluator for me."
)
ANSWERS = {"plan": "Approved, proceed.", "promotion": "Proceed with the winning config."}
"""What a person says at each gate."""


def main() -> int:
    """Run the story; exit code 0 when the session succeeded and its model was shown to be better than its base."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--report", type=Path, default=REPORT, help="where the report goes (default docs/agent-report)")
    options = parser.parse_args()
    started = time.monotonic()
    story = Story(FOLDER, PROJECT)
    step("1/4  Starting the platform", f"tunesmith up --port {story.port} --data-dir .demo/agent/data")
    try:
        with story.platform():
            step("2/4  The data", f"tunesmith dataset create {DATASET} problems.jsonl")
            tunesmith(story, "dataset", "create", DATASET, "problems.jsonl")

            step("3/4  The session", f'tunesmith session create --instruction "{INSTRUCTION}"')
            tunesmith(story, "session", "create", "--session-id", SESSION, "--instruction", INSTRUCTION, "--wait")
            session = approve(story)

            step("4/4  What came of it")
            saved = story.folder / "report" / "final_report.md"
            shutil.rmtree(saved.parent, ignore_errors=True)
            saved.parent.mkdir()
            tunesmith(story, "session", "get", SESSION, "--report", saved)
            publish(story, options.report)
            answer = run_snippet(story, session)
            report(story, session, answer, options.report, time.monotonic() - started)
            story.linger()
            return 0 if session["state"] == "succeeded" and is_better(session) else 1
    except (RuntimeError, OSError) as error:
        console.print(f"[red]The demo stopped:[/red] {error}", markup=True)
        console.print("Logs: .demo/agent/up.log and .demo/agent/data/logs/")
        return 1


def tunesmith(story: Story, *words: object) -> None:
    """One command, its output on this terminal."""
    story.run([BIN / "tunesmith", *words])


def approve(story: Story) -> dict[str, Any]:
    """Say yes at each gate until the session has ended. Raises RuntimeError where it asks something else."""
    while (session := get(story, f"sessions/{SESSION}"))["state"] == "waiting":
        gate = session["pendingGate"]
        if gate["kind"] not in ANSWERS:
            raise RuntimeError(f"the session asks: {gate['text']}")
        words = ANSWERS[gate["kind"]]
        console.print(f'$ tunesmith session send {SESSION} "{words}" --wait', style="cyan")
        tunesmith(story, "session", "send", SESSION, words, "--wait")
    if session["state"] != "succeeded":
        raise RuntimeError(f"the session {session['state']}: {session['message']}")
    return session


def get(story: Story, path: str) -> dict[str, Any]:
    """A resource of the account."""
    key = json.loads(story.profile.read_text())["api_key"]
    request = urllib.request.Request(
        f"{story.url}/v1/accounts/local/{path}", headers={"Authorization": f"Bearer {key}"}
    )
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())


def publish(story: Story, target: Path) -> None:
    """Copy the report and its pictures to where the documents are."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(story.folder / "report", target)


def run_snippet(story: Story, session: dict[str, Any]) -> str:
    """Run the session's snippet as it is; without the `fireworks-ai` package, the same call by hand."""
    deployed = session["deployed"]
    python = next((each for each in (CLIENTS, Path(sys.executable)) if has_client(each)), None)
    if python is not None:
        say("the snippet, run as it is with the fireworks-ai package:")
        ended = subprocess.run(
            [python, "-c", deployed["snippet"]], env=story.env, capture_output=True, text=True, timeout=120
        )
        if ended.returncode != 0:
            raise RuntimeError(f"the snippet failed: {ended.stderr[-1000:]}")
        return ended.stdout.strip()
    say("the fireworks-ai package is not installed here; the same call by hand:")
    row = json.loads((PROJECT / "problems.jsonl").read_text().splitlines()[0])
    body = {"model": deployed["deployment"], "messages": row["messages"][:-1], "temperature": 0}
    key = json.loads(story.profile.read_text())["api_key"]
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    request = urllib.request.Request(deployed["endpoint"], json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=120) as response:
        return json.loads(response.read())["choices"][0]["message"]["content"]


def has_client(python: Path) -> bool:
    """Whether this Python has the published `fireworks-ai`."""
    find = "import sys, importlib.util; sys.exit(importlib.util.find_spec('fireworks') is None)"
    return python.exists() and subprocess.run([python, "-c", find], cwd=DEMO).returncode == 0


def is_better(session: dict[str, Any]) -> bool:
    """Whether the held-out evaluation showed the final model to be better than its base."""
    found = session["heldOut"]
    return found["pValue"] < 0.05 and found["difference"]["mean"] > 0


def report(story: Story, session: dict[str, Any], answer: str, target: Path, seconds: float) -> None:
    """Before and after, the answer, where things are; and the same as `.demo/agent/result.json`."""
    found, deployed = session["heldOut"], session["deployed"]
    console.print(answer, markup=False)
    for name, figures in (("before", found["base"]), ("after", found["tuned"])):
        console.print(
            f"{name:>8}: {figures['mean']:.3f} [{figures['low']:.3f}, {figures['high']:.3f}]"
            f" on {figures['rows']} held-out problems",
            markup=False,
        )
    console.print(found["statement"], markup=False)
    console.print(f"\n[bold]Model[/bold]      {deployed['model']}\n[bold]Deployment[/bold] {deployed['deployment']}")
    shown = target.relative_to(REPO) if target.is_relative_to(REPO) else target
    console.print(f"[bold]Report[/bold]     {shown}{os.sep}final_report.md")
    result = {"session": session, "answer": answer, "seconds": round(seconds, 1)}
    (story.folder / "result.json").write_text(json.dumps(result, indent=1))
    console.print(f"\n{seconds:.0f} s in all; the same numbers in .demo/agent/result.json")


if __name__ == "__main__":
    sys.exit(main())
