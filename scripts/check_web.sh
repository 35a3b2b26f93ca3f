#!/usr/bin/env bash
# The gates of web/: lint, format, types, generated API types, unit tests. Skipped, aloud, where there is no Node (never in CI).
set -euo pipefail
cd "$(dirname "$0")/../web"
if [ ! -d node_modules ]; then
  [ -z "${CI:-}" ] || { echo "web/node_modules is missing: make setup could not install it." >&2; exit 1; }
  echo "web: not checked, for lack of Node 20.19 or newer."
  exit 0
fi
npx --no biome check . --log-level=warn
npx --no -- tsc --noEmit
bash scripts/api-types.sh --check
npx --no vitest run --reporter=dot
