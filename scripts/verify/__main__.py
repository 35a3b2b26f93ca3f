"""Build the two wheels, install them into an empty environment, and check every claim there.

    python -m scripts.verify [--problems 300] [--folder .tools/verify] [--keep-environment]

The claims run with the environment's own Python: nothing of the platform or the SDK is imported from the repository.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]


def main() -> int:
    """Exit code 0 when every claim holds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--problems", type=int, default=300, help="fresh problems for each before and after")
    parser.add_argument("--folder", type=Path, default=REPO / ".tools" / "verify", help="everything is written here")
    parser.add_argument("--keep-environment", action="store_true", help="use the environment of an earlier run")
    parser.add_argument("--only", nargs="+", default=[], help="names of claims, for a second look at one of them")
    options = parser.parse_args()
    started = time.monotonic()
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "environment" / "bin" / "python"
    if not (options.keep_environment and python.exists()):
        install(folder)
    argv = [str(python), "-m", "scripts.verify.claims", "--folder", str(folder), "--problems", str(options.problems)]
    argv += ["--started", str(started), *(["--only", *options.only] if options.only else [])]
    # Without the environment that pip or make was called in, and without the repository's own packages on the path.
    own = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV", "PIP_"))}
    return subprocess.run(argv, cwd=REPO, env=own).returncode


def install(folder: Path) -> None:
    """Wheels of both distributions into `folder/wheels`, installed into `folder/environment`; output in `folder/install.log`."""
    shutil.rmtree(folder / "environment", ignore_errors=True)
    shutil.rmtree(folder / "wheels", ignore_errors=True)
    print("verify: building both wheels and installing them into an empty environment (a minute or two)", flush=True)
    with open(folder / "install.log", "w") as log:

        def run(*argv: object) -> None:
            ended = subprocess.run([str(word) for word in argv], cwd=REPO, stdout=log, stderr=log)
            if ended.returncode:
                raise SystemExit(f"verify: {' '.join(str(word) for word in argv)} failed; see {folder / 'install.log'}")

        for distribution in ("sdk", "platform"):
            run(sys.executable, "-m", "build", "--wheel", "--outdir", folder / "wheels", distribution)
        run(os.environ.get("PYTHON", "python3"), "-m", "venv", folder / "environment")
        pip = (
            folder / "environment" / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--no-compile",
            "-c",
            "constraints.txt",
        )
        run(*pip, "torch==2.13.0")
        sdk, platform = (next((folder / "wheels").glob(f"{name}-*.whl")) for name in ("tunesmith_eval", "tunesmith"))
        run(*pip, sdk, f"{platform}[train]", "pytest", "pytest-asyncio", "psutil")


if __name__ == "__main__":
    sys.exit(main())
