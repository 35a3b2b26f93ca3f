"""`python -m eval_protocol.host`: serve an evaluation on a unix socket, or check that it loads."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
from functools import partial
from pathlib import Path

from eval_protocol.errors import EvalProtocolError
from eval_protocol.host import evaluator as hosted
from eval_protocol.host.evaluator import HostedEvaluator
from eval_protocol.host.forks import ForkServer


def main() -> int:
    """Returns the exit code: 0 stopped or checked, 1 could not be loaded or served."""
    options = _options()
    if options.check:
        return _check(options.entry, options.evaluation_timeout)
    try:
        evaluator = hosted.load(options.entry, options.evaluation_timeout)
    except EvalProtocolError as error:
        print(json.dumps({"type": "error", "message": str(error)}), file=sys.stderr, flush=True)
        return 1
    from eval_protocol.host.scorer import rehearse, scorer_main  # noqa: PLC0415 - after the check, which needs none of it

    rehearse(evaluator)
    return ForkServer(
        loop_main=partial(_loop, evaluator, options.socket or options.listen_fd, options.scorers),
        scorer_main=partial(scorer_main, evaluator),
        of_loop=[] if options.listen_fd is None else [options.listen_fd],
        scratch=options.scratch,
    ).run()


def _loop(evaluator: HostedEvaluator, address: Path | int, scorers: int, control: socket.socket) -> int:
    from eval_protocol.host.serving import loop_main  # noqa: PLC0415 - scorers, forked beside it, need none of it

    return loop_main(evaluator, address, scorers, control)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m eval_protocol.host", description=__doc__)
    parser.add_argument(
        "--entry", required=True, metavar="FILE::FUNC", help="the evaluation, relative to the working directory"
    )
    parser.add_argument("--socket", type=Path, metavar="PATH", help="unix socket to listen on")
    parser.add_argument(
        "--listen-fd", type=int, metavar="N", help="descriptor of a unix socket that listens already, in its place"
    )
    parser.add_argument(
        "--scratch",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="folder for temporary files that nothing else uses: what rows leave there is removed; may be given again",
    )
    parser.add_argument("--check", action="store_true", help="load the evaluation, print what it is as JSON, and end")
    parser.add_argument(
        "--evaluation-timeout",
        type=float,
        default=hosted.DEFAULT_TIMEOUT_SECONDS,
        metavar="SECONDS",
        help="longest time for one row (default: %(default)g)",
    )
    parser.add_argument(
        "--scorers",
        type=int,
        default=max(2, min(8, os.cpu_count() or 2)),
        metavar="N",
        help="processes that score rows (default: %(default)d)",
    )
    options = parser.parse_args()
    if not options.check and (options.socket is None) == (options.listen_fd is None):
        parser.error("give one of --socket, --listen-fd and --check")
    if options.listen_fd is not None:
        os.set_inheritable(options.listen_fd, False)  # nothing that the module starts gets it
    if options.evaluation_timeout <= 0 or options.scorers < 1:
        parser.error("--evaluation-timeout and --scorers must be above 0")
    return options


def _check(entry: str, timeout: float) -> int:
    """Print one JSON object. What the module prints goes to stderr, so that stdout holds nothing else."""
    answer = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    try:
        message = hosted.load(entry, timeout).described()
    except EvalProtocolError as error:
        message = {"type": "error", "message": str(error)}
    print(json.dumps(message), file=answer, flush=True)
    return 1 if message["type"] == "error" else 0


if __name__ == "__main__":
    sys.exit(main())
