#!/usr/bin/env bash
# TensorBoard, MLflow and W&B in an environment of their own (about 120 MB), with the platform's trackers; then the checks.
set -euo pipefail
cd "$(dirname "$0")/.."
python=.tools/trackers/bin/python
[ -x $python ] || "${PYTHON:-python3}" -m venv .tools/trackers
$python -c 'import tensorboard, mlflow, wandb, sqlalchemy' 2>/dev/null \
  || $python -m pip install -q -c constraints.txt tensorboard wandb mlflow-skinny sqlalchemy alembic flask pydantic
PYTHONPATH=platform/src $python -W ignore -m scripts.check_trackers
