#!/usr/bin/env bash
# Sets up .venv and what the system lacks. Prints what it downloads and how much. Run by `make setup`.
set -euo pipefail
cd "$(dirname "$0")/.."
python=${PYTHON:-python3}
log=.tools/setup.log
mkdir -p .tools
: >"$log"

"$python" - <<'PY' || { echo "setup: Python 3.11 or newer with venv is needed (set PYTHON=/path/to/python3.11)." >&2; exit 1; }
import sys, venv
sys.exit(sys.version_info < (3, 11))
PY
command -v node >/dev/null || echo "setup: no node found; the type checker fetches its own (about 30 MB)."

if ! command -v bwrap >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "setup: installing bubblewrap (evaluators run inside it) with apt-get"
    { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends bubblewrap; } >>"$log" 2>&1 \
      || echo "setup: bubblewrap could not be installed (see $log); evaluators will run without a sandbox, and tunesmith up says so."
  else
    echo "setup: bubblewrap is missing and this user cannot install it: run 'sudo apt-get install bubblewrap'. Evaluators run without a sandbox until then."
  fi
fi

install() { # install MESSAGE PIP-ARGUMENTS...: pip, with every download named and summed
  local message=$1; shift
  echo "setup: $message"
  if ! .venv/bin/python -m pip install --progress-bar off -c constraints.txt "$@" 2>&1 | tee -a "$log" \
      | sed -nE 's/^ *Downloading ([^ ]+) \(([^)]+)\)$/  \1  \2/p'; then
    tail -20 "$log" >&2; exit 1
  fi
}

[ -x .venv/bin/python ] || "$python" -m venv .venv
install "torch (about 0.2 GB as a CPU build, 3 GB where pip picks the CUDA build)" torch==2.13.0
install "the two distributions and the tools of the gates (about 120 MB)" -e sdk -e "platform[train]" -r requirements-dev.txt
.venv/bin/python scripts/build_sdk_wheels.py
"$python" - "$log" <<'PY'
import re, sys
unit = {"kB": 1e-3, "MB": 1.0, "GB": 1e3}
sizes = re.findall(r"Downloading \S+ \(([\d.]+) (kB|MB|GB)\)", open(sys.argv[1]).read())
print(f"setup: done; {len(sizes)} files, {sum(float(n) * unit[u] for n, u in sizes):.0f} MB downloaded.")
PY
