"""The learner: a pure function from sealed batches to adapters, as a process beside the run directory.

`python -m tunesmith.training RUN_DIR` runs `rft.train`. Everything else here is one part of that page: the policy
(`model`), the layout of its forward pass (`packing`, `attention`, `logprobs`), what is optimized (`advantages`, `losses`),
and what is left on disk (`checkpoints`, `publish`).
"""
