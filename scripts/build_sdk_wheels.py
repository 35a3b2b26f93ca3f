"""Build the two wheels that every evaluator's environment gets, into `platform/src/tunesmith/evaluators/wheels/`.

One is our SDK (`tunesmith-eval`). The other is a distribution named `eval-protocol` that holds nothing but metadata: it requires
the SDK, so that a project that pins the published package gets ours, with its extras mapped to ours of the same name (or to none).
"""

from __future__ import annotations

import base64
import hashlib
import subprocess
import sys
import tempfile
import tomllib
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WHEELS = ROOT / "platform" / "src" / "tunesmith" / "evaluators" / "wheels"
VERSION = "0.3.33+tunesmith"
# The extras of the published 0.3.33.
PUBLISHED_EXTRAS = (
    *("bigquery", "box2d", "braintrust", "chinook", "dev", "dspy", "huggingface", "klavis", "langchain", "langfuse"),
    *(
        "langgraph",
        "langgraph-tools",
        "langsmith",
        "openenv",
        "openevals",
        "proxy",
        "pydantic",
        "supabase",
        "svgbench",
        "trl",
    ),
)


def main(folder: Path = WHEELS) -> list[Path]:
    """Build both into `folder`, in place of older ones; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        built = [build_sdk(Path(temporary)), build_stand_in(Path(temporary))]
        for old in folder.glob("*.whl"):
            if old.name not in {wheel.name for wheel in built}:
                old.unlink()
        return [wheel.replace(folder / wheel.name) for wheel in built]


def build_sdk(folder: Path) -> Path:
    """The SDK's own wheel."""
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    done = subprocess.run(command, cwd=ROOT / "sdk", check=False, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"Building the SDK's wheel failed:\n{done.stdout}{done.stderr}")
    return next(folder.glob("tunesmith_eval-*.whl"))


def build_stand_in(folder: Path) -> Path:
    """The distribution `eval-protocol` that requires the SDK."""
    own = tomllib.loads((ROOT / "sdk" / "pyproject.toml").read_text())["project"]
    ours = set(own.get("optional-dependencies", {}))
    info = f"eval_protocol-{VERSION}.dist-info"
    files = {
        f"{info}/METADATA": _metadata(own["requires-python"], ours),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tunesmith\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(f"{name},sha256={_digest(text)},{len(text.encode())}\n" for name, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    wheel = folder / f"eval_protocol-{VERSION}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(zipfile.ZipInfo(name, (2020, 1, 1, 0, 0, 0)), text)
    return wheel


def _metadata(python: str, ours: set[str]) -> str:
    lines = [
        "Metadata-Version: 2.1",
        "Name: eval-protocol",
        f"Version: {VERSION}",
        "Summary: Stands for the published eval-protocol in environments that Tunesmith builds; installs tunesmith-eval.",
        f"Requires-Python: {python}",
        "Requires-Dist: tunesmith-eval",
    ]
    for extra in sorted({*PUBLISHED_EXTRAS, *ours}):
        lines.append(f"Provides-Extra: {extra}")
        if extra in ours:
            lines.append(f'Requires-Dist: tunesmith-eval[{extra}]; extra == "{extra}"')
    return "\n".join(lines) + "\n"


def _digest(text: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    for path in main():
        print(path.relative_to(ROOT))
