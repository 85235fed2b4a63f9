#!/usr/bin/env bash
# Deploys version 2 of the bank over version 1 under load, then a broken version 3, and prints what clients saw. Each version is a
# litevisor of its own with a disk of its own; they share a bucket (a local directory). A balancer moves the traffic to an instance
# once /readyz says yes, and then stops the one before it, as a platform does. Needs only the Rust toolchain.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repository/examples/story.sh"
stage=$(mktemp -d "${TMPDIR:-/tmp}/litevisor-rollout.XXXXXX")
declare -A supervisor port
clients=

verdict=unfinished
finish() {
  local status=$?
  exec 3>&- || true
  for pid in "${supervisor[@]}" $clients; do kill -KILL "$pid" 2>/dev/null || true; done
  if [ "$verdict" != kept ]; then
    printf '\n%sThe rollout stopped early (status %s). The ends of the logs:%s\n' "$red" "$status" "$plain"
    tail -n 8 "$stage"/*.log 2>/dev/null || true
    [ "$status" != 0 ] || status=1
  fi
  [ -n "${ROLLOUT_KEEP:-}" ] || rm -rf "$stage"
  exit "$status"
}
trap finish EXIT

broken() { printf '\n%sNOT AS PROMISED: %s%s\n' "$red" "$*" "$plain"; exit 1; }

# Ports that are free now: the gate's, the app's, and the one on which litevisor answers probes.
next_port=${ROLLOUT_PORT:-18400}
free_port() {
  while (exec 9<>"/dev/tcp/127.0.0.1/$next_port") 2>/dev/null; do next_port=$((next_port + 1)); done
  free=$next_port
  next_port=$((next_port + 1))
}

# start VERSION COMMAND...: one instance. `accept = "early"`: users see a slow request instead of an error.
start() {
  local version=$1 gate app
  shift
  free_port; gate=$free
  free_port; app=$free
  free_port; port[$version.status]=$free
  port[$version]=$gate
  mkdir -p "$stage/bucket" "$stage/disk-$version"
  cat >"$stage/$version.toml" <<EOF
[handover]
enabled = true
poll = "500ms"
trial = "20s"
[status]
socket = "$stage/$version.sock"
listen = "127.0.0.1:${port[$version.status]}"
[[gate]]
listen = "127.0.0.1:$gate"
app = "127.0.0.1:$app"
accept = "early"
[[database]]
path = "$stage/disk-$version/bank.db"
[database.replica]
url = "file://$stage/bucket"
EOF
  APP_PORT=$app "$bin/litevisor" run --config "$stage/$version.toml" -- "$@" >"$stage/$version.log" 2>&1 3>&- &
  supervisor[$version]=$!
}
start_bank() {
  # The bank listens where its litevisor expects it.
  start "$1" sh -c "exec '$bin/examples/bank' run --db '$stage/disk-$1/bank.db' --http 127.0.0.1:\$APP_PORT"
}
ready() {
  local status
  exec 9<>"/dev/tcp/127.0.0.1/${port[$1.status]}" || return 1
  printf 'GET /readyz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n' >&9
  read -r status <&9 || true
  exec 9>&-
  [[ $status == *" 200 "* ]]
} 2>/dev/null
serves() { "$bin/litevisor" status --config "$stage/$1.toml" 2>/dev/null | sed -n 's/^hand-over: \([a-z]*\).*/\1/p' | { read -r state && [ "$state" = owner ]; }; }
traffic_to() { printf '%s\n' "${port[$1]}" >"$stage/target.new" && mv "$stage/target.new" "$stage/target"; }
# stopped VERSION STATUS
stopped() {
  local status=0
  wait "${supervisor[$1]}" || status=$?
  unset "supervisor[$1]"
  [ "$status" = "$2" ] || broken "version $1 ended with status $status instead of $2"
  printf '   %sversion %s ended with status %s%s\n' "$dim" "$1" "$status" "$plain"
}

if [ -n "${DEMO_BIN_DIR:-}" ]; then
  bin=$DEMO_BIN_DIR
else
  printf '%sBuilding litevisor, the bank and its clients (the first time takes a minute or two)…%s\n' "$dim" "$plain"
  (cd "$repository" && cargo build --locked --profile demo --no-default-features --bin litevisor --example bank --example rollout)
  bin=${CARGO_TARGET_DIR:-$repository/target}/demo
fi

step "Version 1 starts on an empty disk, with an empty bucket. Four clients transfer money through its gate."
start_bank 1
wait_for 30 "version 1" ready 1
traffic_to 1
mkfifo "$stage/clients.in"
"$bin/examples/rollout" "$stage/target" <"$stage/clients.in" >"$stage/clients.out" 2>&1 &
clients=$!
exec 3>"$stage/clients.in"
tail -n +1 -f --pid=$clients "$stage/clients.out" 2>/dev/null 3>&- | sed -u "s/^/   $dim│$plain /" 3>&- &
answered() { [ -s "$stage/clients.out" ] && [ "$(grep -c acknowledged "$stage/clients.out")" -ge "$1" ]; }
lines() { grep -c acknowledged "$stage/clients.out" || true; }
more_lines() { answered $(($1 + $2)); }
wait_for 30 "answers" answered 3

step "Version 2 starts beside it, on another disk. It asks for the replica; version 1 hands it over."
start_bank 2
wait_for 30 "version 2" ready 2
traffic_to 2
wait_for 30 "the hand-over" serves 2
kill -TERM "${supervisor[1]}"
stopped 1 0
wait_for 30 "answers of version 2" more_lines "$(lines)" 3

step "Version 3 is broken: it exits with status 1 at once. Version 2 takes the replica back."
start 3 sh -c 'echo "version 3: cannot read its configuration" >&2; exit 1'
stopped 3 1
wait_for 30 "version 2 to serve again" serves 2
wait_for 30 "answers of version 2" more_lines "$(lines)" 3

step "The end. What did clients see, and what is in the bucket?"
exec 3>&-
wait "$clients"
clients=
total=$(sed -n 's/^total: //p' "$stage/clients.out")
acknowledged=${total%% *}
kill -TERM "${supervisor[2]}"
stopped 2 0
"$bin/litevisor" restore -o "$stage/restored.db" "file://$stage/bucket" >"$stage/restore.log" 2>&1
"$bin/examples/bank" check --db "$stage/restored.db" | sed 's/^/   /'
transfers=$("$bin/examples/bank" check --db "$stage/restored.db" | sed -n 's/.* \([0-9]*\) transfers without.*/\1/p')
[ "${transfers:-0}" -ge "$acknowledged" ] || broken "$acknowledged transfers were acknowledged, and the bucket has ${transfers:-none}"
verdict=kept
printf '\n%s%sClients saw: %s. Every acknowledged transfer is in the bucket.%s\n' "$bold" "$green" "$total" "$plain"
