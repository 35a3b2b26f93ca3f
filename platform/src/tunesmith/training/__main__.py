"""`python -m tunesmith.training RUN_DIR`: the learner as a process. Exits 0 when the run is over, 1 with one line when it cannot go on."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pydantic import ValidationError
from transformers.utils.logging import disable_progress_bar

from tunesmith.errors import TunesmithError
from tunesmith.training.rft import train


def main() -> int:
    """Parse arguments, train, and say on stderr why it stopped when it did not end well."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.training", description=__doc__)
    parser.add_argument("run_dir", type=Path, help="run directory with run.json")
    parser.add_argument("--until-step", type=int, default=None, help="stop after this many optimizer steps")
    arguments = parser.parse_args()
    disable_progress_bar()  # stderr is a log file here
    try:
        steps = train(arguments.run_dir, arguments.until_step)
    except TunesmithError as error:
        print(f"learner: {error.message}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        print(f"learner: {error.filename} is missing; is {arguments.run_dir} a run directory?", file=sys.stderr)
        return 1
    except ValidationError as error:
        print(f"learner: {arguments.run_dir / 'run.json'} is not valid: {error}", file=sys.stderr)
        return 1
    print(f"learner: done after {steps} optimizer steps", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
