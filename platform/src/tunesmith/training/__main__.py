"""`python -m tunesmith.training RUN_DIR`: the learner as a process. Exits 0 when the run is over, 1 with one line when it cannot go on,
74 when the disk is full and the run can go on from its last checkpoint later.

What kind of run it is says `kind` in its run.json: `tuning` is SFT, DPO or ORPO, without one it is RFT.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import sys
from pathlib import Path

from pydantic import ValidationError
from transformers.utils.logging import disable_progress_bar

from tunesmith.disk import NO_ROOM_EXIT, trouble
from tunesmith.errors import TunesmithError
from tunesmith.runs.tuning import TuningConfig, TuningLoss
from tunesmith.training import dpo, rft, sft
from tunesmith.training.measure import measure
from tunesmith.training.memory import WHAT_TO_DO, first_line, is_out_of_memory
from tunesmith.training.tuning import refuse

log = logging.getLogger(__name__)

LOOPS = {TuningLoss.SFT: sft.train, TuningLoss.DPO: dpo.train, TuningLoss.ORPO: dpo.train}


def main() -> int:
    """Parse arguments, train, and say on stderr why it stopped when it did not end well."""
    parser = argparse.ArgumentParser(prog="python -m tunesmith.training", description=__doc__)
    parser.add_argument("run_dir", type=Path, nargs="?", help="run directory with run.json")
    parser.add_argument("--until-step", type=int, default=None, help="stop after this many optimizer steps")
    parser.add_argument(
        "--measure", type=Path, metavar="FOLDER", help="print how fast a base model trains here, as JSON"
    )
    parser.add_argument("--tokens", type=int, default=256, help="with --measure: tokens of a row (default 256)")
    parser.add_argument("--family", default=None, help="with --measure: rendering family of the base model (catalogue)")
    arguments = parser.parse_args()
    if (arguments.run_dir is None) == (arguments.measure is None):
        parser.error("give a run directory, or --measure FOLDER")
    if arguments.tokens < 2:
        parser.error("--tokens must be 2 or more")
    disable_progress_bar()  # stderr is a log file here
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    logging.getLogger("tunesmith").setLevel(logging.INFO)
    try:
        if arguments.measure is not None:
            print(json.dumps(measure(arguments.measure, arguments.tokens, family=arguments.family)))
            return 0
        try:
            steps = train(arguments.run_dir, arguments.until_step)
        except Exception as error:  # whatever library met it: safetensors wraps the system's error in its own
            if (full := trouble(error, arguments.run_dir)) is None:
                raise
            with contextlib.suppress(OSError):  # the log may lie on the same disk
                print(f"learner: {full.message}", file=sys.stderr, flush=True)
            return NO_ROOM_EXIT
    except TunesmithError as error:
        print(f"learner: {error.message}", file=sys.stderr)
        return 1
    except FileNotFoundError as error:
        print(f"learner: {error.filename} is missing; is {arguments.run_dir} a run directory?", file=sys.stderr)
        return 1
    except ValidationError as error:
        print(f"learner: {arguments.run_dir / 'run.json'} is not valid: {error}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        log.exception("The learner ran out of memory.")
        print(f"learner: the learner ran out of memory ({first_line(error)}). {WHAT_TO_DO}", file=sys.stderr)
        return 1
    print(f"learner: done after {steps} optimizer steps", file=sys.stderr)
    return 0


def train(run_dir: Path, until_step: int | None = None) -> int:
    """Run the loop that a run directory's run.json asks for; return the number of optimizer steps taken."""
    if not _is_tuning(run_dir):
        return rft.train(run_dir, until_step)
    try:
        config = TuningConfig.read(run_dir)
    except ValidationError as error:
        refuse(run_dir, f"run.json is not valid: {error}")
        raise
    return LOOPS[config.loss](run_dir, config, until_step)


def _is_tuning(run_dir: Path) -> bool:
    try:
        content = json.loads((run_dir / "run.json").read_text())
    except ValueError:
        return False  # RFT's reader says what is wrong with it
    return isinstance(content, dict) and content.get("kind") == "tuning"


if __name__ == "__main__":
    sys.exit(main())
