#!/usr/bin/env bash
# llama.cpp in an environment of its own (MIT; a wheel of about 34 MB).
set -euo pipefail
cd "$(dirname "$0")/.."
[ -x .tools/llamacpp/bin/python ] || "${PYTHON:-python3}" -m venv .tools/llamacpp
.tools/llamacpp/bin/python -c 'import xllamacpp' 2>/dev/null \
  || .tools/llamacpp/bin/pip install -q --only-binary :all: 'xllamacpp==2026.10.11549'
