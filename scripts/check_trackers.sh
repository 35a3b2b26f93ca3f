#!/usr/bin/env bash
# TensorBoard, MLflow and W&B in an environment of their own (about 900 MB; the light `mlflow-skinny` has no server), with the platform's trackers; then the checks.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.tools/trackers/bin/python
[ -x $python ] || "${PYTHON:-python3}" -m venv .tools/trackers
$python -c 'import tensorboard, mlflow, wandb, flask_cors, huey' 2>/dev/null \
  || $python -m pip install -q -c constraints.txt tensorboard wandb mlflow
PYTHONPATH=platform/src $python -W ignore -m scripts.check_trackers
