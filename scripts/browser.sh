#!/usr/bin/env bash
# Chromium for the browser tests, from the system's packages; fails where there is none and none can be installed.
set -euo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  echo "browser: installing chromium with apt-get"
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends chromium; } >/tmp/chromium.log 2>&1 || cat /tmp/chromium.log >&2
fi
command -v chromium >/dev/null || { echo "browser: Chromium is missing; install it (Debian: apt-get install chromium)." >&2; exit 1; }
