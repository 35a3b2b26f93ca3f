#!/usr/bin/env bash
# Builds the pages of `ep logs` and of the dashboard into the two packages. Without a new enough Node everything else works, and
# the servers say what is missing in place of a page.
set -euo pipefail
cd "$(dirname "$0")/../web"
if ! node -e 'const [a, b] = process.versions.node.split(".").map(Number); process.exit(a > 20 || (a === 20 && b >= 19) ? 0 : 1)' 2>/dev/null \
    || ! command -v npm >/dev/null; then
  echo "setup: Node 20.19 or newer with npm is needed for the pages (ep logs, the dashboard); everything else works without."
  [ -z "${CI:-}" ] || exit 1
  exit 0
fi
if [ ! -e node_modules/.package-lock.json ] || [ package-lock.json -nt node_modules/.package-lock.json ]; then
  echo "setup: what the pages are built with (about 360 npm packages, 100 MB)"
  # Not `npm ci`: it refuses a lock without the packages of other systems, which a registry need not have. Versions are the lock's.
  npm install --no-save --no-audit --no-fund --loglevel=error
fi
npm run --silent build
