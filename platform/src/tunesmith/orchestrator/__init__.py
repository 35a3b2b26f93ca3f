"""RFT's data side, torch-free: rows -> rollouts -> completions -> samples -> sealed batches.

`python -m tunesmith.orchestrator RUN_DIR` runs one job from its `run.json`. It talks to the evaluator host (rollouts and scores),
to the gateway (what the policy sampled, publishing new versions) and, through files, to the learner.
"""
