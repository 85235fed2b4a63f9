#!/usr/bin/env bash
# Shows in a minute how litevisor keeps a database on disposable disks: a bank runs under litevisor, the script wipes its
# disk, litevisor restores it. Needs only the Rust toolchain. Two temporary directories are the disk and the bucket.
#
#   ./examples/demo.sh             watch
#   ./examples/demo.sh --browser   play: the bank in the browser, wipe its disk with Enter
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$repository/examples/story.sh"
stage=$(mktemp -d "${TMPDIR:-/tmp}/litevisor-demo.XXXXXX")
disk=$stage/disk bucket=$stage/bucket
ack=$stage/acknowledged log=$stage/log
supervisor=

# Stops litevisor at every exit. An exit before a verdict is set is a failure.
verdict=unfinished
stop_supervisor() {
  local end=$((SECONDS + 12))
  kill -TERM "$supervisor" 2>/dev/null || return 0
  while kill -0 "$supervisor" 2>/dev/null && [ "$SECONDS" -lt "$end" ]; do sleep 0.05; done
  kill -KILL "$supervisor" 2>/dev/null || true
  wait "$supervisor" 2>/dev/null || true
}
finish() {
  local status=$?
  [ -z "$supervisor" ] || stop_supervisor
  if [ "$verdict" = unfinished ]; then
    printf '\n%sThe demo stopped early (status %s). The end of litevisor'"'"'s log:%s\n' "$red" "$status" "$plain"
    [ ! -f "$log" ] || tail -n 15 "$log"
    status=1
  fi
  rm -rf "$stage"
  exit "$status"
}

trap finish EXIT
trap 'verdict=stopped; exit 130' INT
trap 'verdict=stopped; exit 143' TERM

show() { sed "s/^/   $dim│$plain /"; }
broken() { printf '\n%sNOT AS PROMISED: %s%s\n' "$red" "$*" "$plain"; verdict=broken; tail -n 15 "$log" | show; exit 1; }

build() {
  if [ -n "${DEMO_BIN_DIR:-}" ]; then
    bin=$DEMO_BIN_DIR
    return
  fi
  printf '%sBuilding litevisor and the bank (the first time takes a minute or two)…%s\n' "$dim" "$plain"
  # Without remote stores and unoptimised: it compiles in about a minute, and is fast enough for the demo.
  (cd "$repository" && cargo build --locked --profile demo --no-default-features --bin litevisor --example bank)
  bin=${CARGO_TARGET_DIR:-$repository/target}/demo
}

acknowledged() { if [ -f "$ack" ]; then wc -l <"$ack"; else echo 0; fi; }
more_than() { [ "$(acknowledged)" -gt "$1" ]; }

# start OPTIONS...: starts litevisor, which starts the bank, as the ENTRYPOINT of an image does.
start() {
  mkdir -p "$disk" "$bucket"
  "$bin/litevisor" run --db "$disk/bank.db" --replica "file://$bucket" -- \
    "$bin/examples/bank" run --db "$disk/bank.db" --ack "$ack" "$@" >"$log" 2>&1 &
  supervisor=$!
}

# ended WANTED: waits until litevisor exits, and checks its exit status.
ended() {
  local status=0
  wait "$supervisor" || status=$?
  supervisor=
  [ "$status" = "$1" ] || broken "litevisor ended with status $status instead of $1"
  printf '   litevisor ended with status %s, the app'"'"'s own. Its last line:\n' "$status"
  tail -n 1 "$log" | fold -s -w 100 | show
}

look() { (cd "$stage" && for f in disk/* bucket/*; do [ -e "$f" ] && du -sh "$f" || true; done) | show; }

wipe() {
  printf '   $ rm -rf disk\n'
  rm -rf "$disk"
  [ ! -e "$disk/bank.db" ] || broken "the disk is still there"
  look
}

check() {
  local report
  if report=$("$bin/examples/bank" check --db "$disk/bank.db" --ack "$ack"); then
    printf '   %s✔ %s%s\n' "$green" "$report" "$plain"
  else
    broken "$report"
  fi
}

# The bank prints its PID when it starts.
bank_pid() { sed -n 's/^bank: open, process \([0-9]*\)$/\1/p' "$log" | tail -n 1; }

life() {
  local before
  step "An empty disk, an empty bucket. litevisor starts the bank; the bank moves money, 200 times a second."
  start --rate 200
  wait_for 20 "400 transfers" more_than 400
  printf '   %s transfers acknowledged to customers so far\n' "$(acknowledged)"

  step "The platform says stop: SIGTERM."
  kill -TERM "$supervisor"
  ended 0
  check
  before=$(acknowledged)
  look

  step "The machine is recycled. Its disk is gone."
  wipe

  step "A new machine starts the same command."
  start --rate 200
  wait_for 20 "the bank to go on" more_than $((before + 200))
  check
  printf '   %s transfers were acknowledged before the wipe, %s by now\n' "$before" "$(acknowledged)"

  step "The app crashes hard: kill -9, in the middle of its work."
  kill -KILL "$(bank_pid)"
  ended 137
  before=$(acknowledged)
  printf '   %s transfers acknowledged at that moment\n' "$before"
  wipe

  step "Back again, on a third machine: the bank opens, adds one transfer, and closes."
  start --rate max --count 1
  ended 0
  check
  [ "$(acknowledged)" = $((before + 1)) ] || broken "$(acknowledged) acknowledgements instead of $((before + 1))"

  verdict=kept
  printf '\n%s%sTwo disks lost, one crash, %s transfers acknowledged: every one is there, and no coin is missing.%s\n' \
    "$bold" "$green" "$(acknowledged)" "$plain"
  printf '\nPlay with it in the browser:   ./examples/demo.sh --browser\n'
}

browser() {
  local port=${PORT:-8080} answer
  verdict=played
  while :; do
    start --http "$port"
    wait_for 20 "the page" grep -q 'in a browser' "$log"
    printf '\n%sOpen http://127.0.0.1:%s and move some money.%s\n' "$bold" "$port" "$plain"
    printf 'Enter: stop, wipe the disk, start again. q and Enter: leave. '
    read -r answer || answer=q
    kill -TERM "$supervisor"
    ended 0
    [ "$answer" != q ] || return 0
    wipe
  done
}

case ${1:-} in
  '') act=life ;;
  --browser) act=browser ;;
  *) verdict=usage; sed -n '2,6s/^# \{0,1\}//p' "${BASH_SOURCE[0]}" >&2; exit 64 ;;
esac
build
"$act"
