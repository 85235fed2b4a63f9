#!/usr/bin/env bash
# The one benchmark command: installs the peers, builds the release, and compares litevisor with Litestream 0.5.17, 0.3.13
# and nothing at all, and its gate with nginx and HAProxy. Prints a Markdown table on stdout, what it is doing on stderr.
#
#   benches/run.sh                       everything, three rounds: about an hour on two cores
#   benches/run.sh writing start         these measures; --help names them
#   benches/run.sh handover              deploys: their parts, and 100 of them under load
#   benches/run.sh --rounds 5 big        more turns
#   benches/run.sh --smoke               tiny sizes, one round, a minute or two: does it still run?
#
# $LITEVISOR_BENCH_BUILD: another target directory with litevisor, bench-load and bench-traffic in it, which is then not built.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

peers=.cache/peers
tests/setup.sh >&2
command -v tini >/dev/null || { echo "bench: tini is missing; install the package tini" >&2; exit 1; }

build=${LITEVISOR_BENCH_BUILD:-}
if [ -z "$build" ]; then
  cargo build --locked --release --bin litevisor --example bench-load --example bench-traffic >&2
  build=${CARGO_TARGET_DIR:-target}/release
fi
absolute() { printf '%s/%s' "$(cd "$(dirname "$1")" && pwd)" "$(basename "$1")"; }

PYTHONPATH=benches PYTHONDONTWRITEBYTECODE=1 exec python3 -m beside \
  --tool-load "$(absolute "$build/examples/bench-load")" --tool-litevisor "$(absolute "$build/litevisor")" \
  --tool-litestream-0.5 "$(absolute $peers/litestream-0.5/bin/litestream)" \
  --tool-litestream-0.3 "$(absolute $peers/litestream-0.3/bin/litestream)" \
  --tool-weed "$(absolute $peers/seaweedfs/bin/weed)" --tool-tini "$(command -v tini)" \
  --tool-traffic "$(absolute "$build/examples/bench-traffic")" \
  --tool-nginx "$(command -v nginx || true)" --tool-haproxy "$(command -v haproxy || true)" "$@"
