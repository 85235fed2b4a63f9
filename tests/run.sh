#!/usr/bin/env bash
# The one test command: installs what the tests need, then runs all of them, on real servers.
# Arguments go to `cargo test`, e.g. `tests/run.sh --test interop`.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests/setup.sh
# Three at a time: most of them wait for servers and apps. A half of two cores stays free, so that times mean something.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-3}
if [ $# -gt 0 ]; then
  cargo test --locked "$@"
else
  # The model test lives as many lives as three minutes on two cores allow.
  export LITEVISOR_HUNT_SEEDS=${LITEVISOR_HUNT_SEEDS:-2000}
  # Everything is run, also after a failure; what failed, and why, stands once more at the end.
  report=$(mktemp)
  trap 'rm -f "$report"' EXIT
  if ! cargo test --locked --workspace --no-fail-fast 2>&1 | tee "$report"; then
    sed -n '/^failures:$/,/^test result/p' "$report"
    exit 101
  fi
fi
