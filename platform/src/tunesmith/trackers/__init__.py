"""What a run measures, in the programs that people watch runs with: TensorBoard, Weights & Biases, MLflow.

A tracker follows `events.jsonl` and `metrics.jsonl` of a run directory and never touches the run: when it fails, the job goes on and the
figures are still in the platform. Each one asks its own receiver what it has, so that a tracker that was killed doubles nothing.
"""
