#!/usr/bin/env bash
# The published clients, unmodified, each in an environment of its own. Used by `make test-clients`; fails where one cannot be installed.
#   .venv-clients                             eval-protocol from the Python package index
#   .venv-agents                              the OpenAI Agents SDK, beside our SDK, which serves its agents
#   examples/svg_agent/server_ts/node_modules eval-protocol from npm
# With the argument eval-protocol it stops after the first.
set -euo pipefail
cd "$(dirname "$0")/.."

environment() { # environment FOLDER MESSAGE REQUIREMENTS...: made anew when this script has changed since
  local folder=$1 message=$2; shift 2
  local stamp=$folder/.ready
  if [ ! -e "$stamp" ] || [ "$0" -nt "$stamp" ]; then
    echo "clients: installing $message"
    rm -rf "$folder"
    "${PYTHON:-python3}" -m venv "$folder"
    "$folder/bin/python" -m pip install -q --disable-pip-version-check "$@"
    touch "$stamp"
  fi
}

environment .venv-clients "eval-protocol 0.3.33 (about 110 packages, 200 MB to download)" eval-protocol==0.3.33
[ "${1:-}" != eval-protocol ] || exit 0
environment .venv-agents "the OpenAI Agents SDK 0.24.0 (about 60 packages, 20 MB to download)" openai-agents==0.24.0 uvicorn -e sdk

server=examples/svg_agent/server_ts
command -v npm >/dev/null || { echo "clients: Node 20 or newer with npm is needed for the npm package eval-protocol." >&2; exit 1; }
if [ ! -e $server/node_modules/.package-lock.json ] || [ $server/package-lock.json -nt $server/node_modules/.package-lock.json ]; then
  echo "clients: installing npm's eval-protocol with $server (about 70 packages, 10 MB to download)"
  (cd $server && npm ci)
fi

.venv-clients/bin/python -m pip list --format=freeze 2>/dev/null | grep -iE '^(eval-protocol|fireworks-ai|litellm)=='
.venv-agents/bin/python -m pip list --format=freeze 2>/dev/null | grep -iE '^openai(-agents)?=='
node -p '"npm eval-protocol==" + require("./'$server'/node_modules/eval-protocol/package.json").version'
