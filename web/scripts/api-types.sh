#!/usr/bin/env bash
# Writes src/api/schema.d.ts from the control plane's OpenAPI document. `--check`: fails when it is out of date.
set -euo pipefail
cd "$(dirname "$0")/.."
document=$(mktemp --suffix .json)
trap 'rm -f "$document"' EXIT
../.venv/bin/python -m tunesmith.server.openapi >"$document"
out=src/api/schema.d.ts
[ "${1:-}" = --check ] && out=$(mktemp --suffix .d.ts)
npx openapi-typescript "$document" --output "$out" >/dev/null
if [ "${1:-}" = --check ]; then
  cmp -s "$out" src/api/schema.d.ts || { echo "web/src/api/schema.d.ts is out of date: run 'npm run api-types' in web/." >&2; exit 1; }
fi
