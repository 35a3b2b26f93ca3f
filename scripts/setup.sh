#!/usr/bin/env bash
# Sets up .venv and what the system lacks. Prints what it downloads and how much. Run by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
log=.tools/setup.log
mkdir -p .tools
: >"$log"

system_package() { # system_package NAME PURPOSE: install a Debian package where that is possible; says what happened
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing $1 with apt-get ($2)"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "$1"; } >>"$log" 2>&1 \
      || echo "setup: $1 could not be installed (see $log)."
  else
    echo "setup: $1 is missing ($2) and this user cannot install it: run 'sudo apt-get install $1'."
  fi
}

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || { echo "setup: Python 3.11 or newer is needed (set PYTHON=/path/to/python3.11)." >&2; exit 1; }
"$python" -c 'import ensurepip' 2>/dev/null || system_package python3-venv "virtual environments"
command -v node >/dev/null || echo "setup: no node found; the type checker fetches its own (about 30 MB)."
command -v bwrap >/dev/null \
  || system_package bubblewrap "the sandbox of evaluators; without it they run unconfined, and tunesmith up says so"

install() { # install MESSAGE PIP-ARGUMENTS...: pip, with every download named and summed
  local message=$1; shift
  echo "setup: $message"
  if ! .venv/bin/python -m pip install --progress-bar off -c constraints.txt "$@" 2>&1 | tee -a "$log" \
      | sed -nE 's/^ *Downloading ([^ ]+) \(([^)]+)\)$/  \1  \2/p'; then
    tail -20 "$log" >&2; exit 1
  fi
}

[ -x .venv/bin/pip ] || "$python" -m venv .venv
install "torch (about 0.2 GB as a CPU build, 3 GB where pip picks the CUDA build)" torch==2.13.0
install "the two distributions and the tools of the gates (about 120 MB)" -e sdk -e "platform[train]" -r requirements-dev.txt
"$python" - "$log" <<'PY'
import re, sys
unit = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}
sizes = re.findall(r"Downloading \S+ \(([\d.]+) (kB|MB|GB)\)", open(sys.argv[1]).read())
print(f"setup: done; {len(sizes)} files, {sum(float(n) * unit[u] for n, u in sizes):.0f} MB downloaded.")
PY
