#!/usr/bin/env bash
# The tests, in two processes side by side: those that run whole jobs through the command line mostly wait, the others mostly compute.
# Prints the output of the second when the first has ended; fails when either does.
set -uo pipefail
cd "$(dirname "$0")/.."
mkdir -p .tools
log=.tools/tests-of-rooms.log
which="not clients and not browser and not vllm and not upgrade"
.venv/bin/python -m pytest -m "$which" tests --ignore=tests/loop --durations=10 >"$log" 2>&1 &
rooms=$!
trap 'kill $rooms 2>/dev/null' EXIT
.venv/bin/python -m pytest -m "$which" tests/loop --durations=10
loop=$?
while kill -0 $rooms 2>/dev/null; do
  echo "test: the tests of the rooms go on; so far: $(grep -oE '\[ *[0-9]+%\]' "$log" | tail -1)"
  for _ in $(seq 30); do kill -0 $rooms 2>/dev/null && sleep 1; done
done
wait $rooms
status=$?
cat "$log"
exit $((loop ? loop : status))
