"""`make demo`: a newcomer's whole story on one machine, and what it came to.

Starts the platform in `.demo/`, runs the GSM8K-style example as a local eval, launches RFT with one command, and compares base
and tuned model on held-out problems. Writes `.demo/result.json`. With a terminal, the platform keeps running until Ctrl-C.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from scripts.held_out import TEMPERATURES, Measured, difference, measure

REPO = Path(__file__).resolve().parents[1]
DEMO = REPO / ".demo"
PROJECT = REPO / "examples" / "gsm8k"
HELD_OUT = PROJECT / "gsm8k_heldout.jsonl"
BASE_MODEL = "accounts/tunesmith/models/tiny-math-v1"
BIN = Path(sys.executable).parent
console = Console(highlight=False)


def main() -> int:
    """Run the story; exit code 0 when the job completed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--problems", type=int, default=600, help="held-out problems per temperature (default 600)")
    parser.add_argument("--epochs", type=int, default=1, help="passes over the training rows (default 1)")
    options = parser.parse_args()
    started = time.monotonic()
    shutil.rmtree(DEMO, ignore_errors=True)
    (DEMO / "home").mkdir(parents=True)
    port = _free_port()
    url = f"http://127.0.0.1:{port}"
    env = {k: v for k, v in os.environ.items() if not k.startswith(("FIREWORKS_", "EP_", "TUNESMITH_"))}
    env |= {"HOME": str(DEMO / "home"), "PATH": f"{BIN}:{env['PATH']}"}

    step("1/5  Starting the platform", f"tunesmith up --port {port} --data-dir .demo/data")
    with open(DEMO / "up.log", "wb") as log:
        argv = [BIN / "tunesmith", "up", "--port", str(port), "--data-dir", str(DEMO / "data")]
        platform = subprocess.Popen(argv, env=env, stdout=log, stderr=log, start_new_session=True)
    try:
        _wait_for(platform, url)
        step("2/5  A local eval of the base model", "cd examples/gsm8k && python evaluation.py")
        _run([sys.executable, "evaluation.py"], env)

        step("3/5  The base model on held-out problems, at four temperatures")
        before = measure(PROJECT, BASE_MODEL, rows=HELD_OUT, env=env, problems=options.problems, say=_say)

        # A secret of the evaluator, so that the upload is seen; the evaluator of the example does not read it.
        (DEMO / "env").write_text("EXAMPLE_JUDGE_KEY=only-for-show\n")
        command = ["ep", "create", "rft", "--base-model", BASE_MODEL, "--eval-auto-carveout"]
        command += ["--env-file", str(DEMO / "env")]
        command += ["--epochs", str(options.epochs), "--yes", "--wait"]
        step("4/5  Reinforcement fine-tuning, one command", "cd examples/gsm8k && " + " ".join(command))
        _run([BIN / "ep", *command[1:]], env)
        job = _job(url, env)

        model = job["trainingConfig"]["outputModel"]
        step("5/5  The tuned model on the same problems")
        after = measure(PROJECT, model, rows=HELD_OUT, env=env, problems=options.problems, say=_say)
        report(before, after, job, url, time.monotonic() - started)
        if sys.stdin.isatty() and sys.stdout.isatty():
            console.print(f"\nThe platform is still running at {url}; Ctrl-C stops it.")
            _until_interrupted(platform)
        else:
            console.print("\nThe platform was stopped. Bring it back with:")
            console.print(f"  HOME=$PWD/.demo/home .venv/bin/tunesmith up --port {port} --data-dir .demo/data")
        return 0 if job["state"] == "JOB_STATE_COMPLETED" else 1
    except (RuntimeError, OSError) as error:
        console.print(f"[red]The demo stopped:[/red] {error}", markup=True)
        console.print("Logs: .demo/up.log and .demo/data/logs/")
        return 1
    finally:
        platform.send_signal(signal.SIGTERM)
        platform.wait(30)


def step(title: str, command: str = "") -> None:
    """Announce what follows."""
    console.rule(f"[bold]{title}")
    if command:
        console.print(f"$ {command}", style="cyan")


def report(before: Measured, after: Measured, job: dict[str, Any], url: str, seconds: float) -> None:
    """The table, the samples, the snippet and the links; and the same as `.demo/result.json`."""
    table = Table(title="Held-out score, mean [95 % interval]")
    for column in ("", *(f"T = {t:g}" for t in TEMPERATURES), "pass@8"):
        table.add_column(column, justify="right" if column else "left")
    for name, measured in (("base", before), ("after RFT", after)):
        table.add_row(name, *(str(measured.at(t)) for t in TEMPERATURES), f"{measured.pass_at_8:.3f}")
    console.print(table)
    gain, low, high = difference(after.at(1.0), before.best)
    console.print(
        f"At temperature 1 the tuned model is [bold]{gain:+.3f}[/bold] [{low:+.3f}, {high:+.3f}] above the base at its best "
        f"temperature ({before.best.temperature:g}); {before.best.n} problems, one sample each.".replace(
            "[+", r"\[+"
        ).replace("[-", r"\[-")
    )
    for (question, old, _), (_, new, score) in zip(before.samples, after.samples, strict=True):
        console.print(f"\n[bold]Q[/bold] {question}")
        console.print("  before: ", old.replace("\n", " ⏎ "), markup=False)
        console.print("  after:  ", new.replace("\n", " ⏎ "), f"({score:g})", markup=False)
    model, name = after.model, job["name"]
    key_file = DEMO / "home" / ".tunesmith" / "profile.json"
    snippet = (
        f"curl {url}/v1/chat/completions -H \"Authorization: Bearer $(python3 -c 'import json; "
        f'print(json.load(open("{key_file}"))["api_key"])\')" -H \'Content-Type: application/json\' \\\n'
        f'  -d \'{{"model": "{model}", "messages": [{{"role": "system", "content": "Put the final number inside <answer> '
        'tags."}, {"role": "user", "content": "Tom has 7 apples and buys 5 more. How many apples does Tom have now?"}]}\''
    )
    links = {
        "job": f"{url}/dashboard/fine-tuning/reinforcement/{name.rsplit('/', 1)[-1]}",
        "evaluator": f"{url}/dashboard/evaluators/{job['evaluator'].rsplit('/', 1)[-1]}",
        "dataset": f"{url}/dashboard/datasets/{job['dataset'].rsplit('/', 1)[-1]}",
        "model": f"{url}/dashboard/models/{model.rsplit('/', 1)[-1]}",
    }
    console.print(f"\n[bold]Model[/bold]  {model}  ({job['run']['optimizer_steps']} optimizer steps)")
    console.print("[bold]Call it[/bold]")
    print(snippet)
    for what, link in links.items():
        console.print(f"{what:>10}: {link}")
    memory = {process["name"]: process["peak_rss_mib"] for process in job.get("processes", [])}
    result = {
        "before": before.as_json(),
        "after": after.as_json(),
        "gain_over_best_base": {"mean": gain, "low": low, "high": high},
        "job": {"name": name, "state": job["state"], "run": job["run"], "peak_rss_mib": memory},
        "model": model,
        "snippet": snippet,
        "links": links,
        "seconds": round(seconds, 1),
    }
    (DEMO / "result.json").write_text(json.dumps(result, indent=1))
    console.print(f"\n{seconds:.0f} s in all; the same numbers in .demo/result.json")


def _run(argv: list[object], env: dict[str, str]) -> None:
    """Run in the example's folder, on this terminal: its progress is shown live. Raises RuntimeError when it fails."""
    ended = subprocess.run([str(word) for word in argv], cwd=PROJECT, env=env)
    if ended.returncode != 0:
        raise RuntimeError(f"{' '.join(str(word) for word in argv)} ended with status {ended.returncode}")


def _job(url: str, env: dict[str, str]) -> dict[str, Any]:
    """The one job of this platform."""
    key = json.loads((Path(env["HOME"]) / ".tunesmith" / "profile.json").read_text())["api_key"]
    path = f"{url}/v1/accounts/local/reinforcementFineTuningJobs"
    request = urllib.request.Request(path, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=30) as response:
        return json.loads(response.read())["reinforcementFineTuningJobs"][0]


def _wait_for(platform: subprocess.Popen[bytes], url: str) -> None:
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline and platform.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5):
                if (DEMO / "home" / ".tunesmith" / "profile.json").exists():
                    return
        except OSError:
            time.sleep(0.2)
    raise RuntimeError("the platform did not come up:\n" + (DEMO / "up.log").read_text()[-2000:])


def _until_interrupted(platform: subprocess.Popen[bytes]) -> None:
    try:
        platform.wait()
    except KeyboardInterrupt:
        console.print("stopping")


def _free_port() -> int:
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", 7777))
        except OSError:
            probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _say(text: str) -> None:
    console.print(f"  {text}", style="dim")


if __name__ == "__main__":
    sys.exit(main())
