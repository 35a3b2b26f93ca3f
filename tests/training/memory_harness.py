"""A learner in a process with little address space: `python -m tests.training.memory_harness RUN_DIR MIB`.

The limit is what the process has after it loaded a policy and took one pass, plus MIB: steps have that much to themselves. Python and the
allocator are as they are; nothing pretends.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import torch
from tunesmith.runs.config import RunConfig
from tunesmith.training.__main__ import main as learner
from tunesmith.training.model import load_policy


def main() -> int:
    run_dir, mebibytes = Path(sys.argv[1]), int(sys.argv[2])
    torch.set_num_threads(1)
    config = RunConfig.read(run_dir)
    policy = load_policy(config.base_model, config.learner, config.seed)
    policy.score([1, 2, 3])  # what is imported or allocated once is there
    del policy
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    limit = pages * resource.getpagesize() + mebibytes * 2**20
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    sys.argv = ["training", str(run_dir)]
    return learner()


if __name__ == "__main__":
    sys.exit(main())
