#!/usr/bin/env bash
# The published clients, unmodified, in an environment of their own: .venv-clients. Used by `make test-clients`.
set -euo pipefail
cd "$(dirname "$0")/.."
stamp=.venv-clients/.ready
if [ ! -e "$stamp" ] || [ "$0" -nt "$stamp" ]; then
  echo "clients: installing eval-protocol 0.3.33 (about 110 packages, 200 MB to download)"
  rm -rf .venv-clients
  "${PYTHON:-python3}" -m venv .venv-clients
  .venv-clients/bin/python -m pip install -q --disable-pip-version-check eval-protocol==0.3.33
  touch "$stamp"
fi
.venv-clients/bin/python -m pip list --format=freeze 2>/dev/null | grep -iE '^(eval-protocol|fireworks-ai|litellm)=='
