"""The code of docs/guides/notebook.md, block after block, against a real platform."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from tests.loop import projects
from tests.loop.platform import REPO, Platform

FOUND = """
import json
longer.cancel()
print(json.dumps({
    "state": job.state, "steps": [step["step"] for step in steps], "evaluations": len(evaluations),
    "best": [rollout["score"] for rollout in best], "wrong": [rollout["step"] for rollout in wrong],
    "longer": longer.data["rewoundTo"], "early": early.name, "lines": isinstance(lines, list),
}))
"""


def test_the_guide_runs_as_it_is_written(platform: Platform, short_tmp: Path) -> None:
    guide = (REPO / "docs/guides/notebook.md").read_text()
    code = "".join(re.findall(r"```python\n(.*?)```", guide, re.DOTALL))
    (upload,) = re.findall(r"`(ep upload [^`]+)`", guide)
    uploaded = platform.run(*upload.split(), cwd=projects.write(short_tmp / "project"))
    assert uploaded.returncode == 0, uploaded.stdout
    ended = platform.run(sys.executable, "-c", code + FOUND, cwd=short_tmp)
    assert ended.returncode == 0, ended.stdout
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["state"] == "COMPLETED"
    assert said["steps"] == [*range(8)], "18 rows, five at a time, twice"
    assert said["evaluations"] >= 2, "before the first step and after the last"
    assert said["best"] == sorted(said["best"], reverse=True)
    assert len(said["best"]) == 5
    assert set(said["wrong"]) <= {3}
    assert (said["longer"], said["early"], said["lines"]) == (8, "accounts/local/models/after-three", True)
    files = sorted(path.name for path in (short_tmp / "adapter").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    platform.wait("accounts/local/reinforcementFineTuningJobs/from-a-notebook")
