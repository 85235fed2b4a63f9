#!/usr/bin/env bash
# Runs the init suite (tests/init) on litevisor and on the small inits people use today, as PID 1 and as a plain
# process, and writes the table docs/init-conformance.md. Needs the packages tini, dumb-init and catatonit.
# Fails when litevisor fails a check.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

table=docs/init-conformance.md
results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT

for program in tini dumb-init catatonit python3 unshare setpriv; do
  command -v "$program" >/dev/null || { echo "peers: $program is missing; install the package that has it" >&2; exit 1; }
done

# Name of the column = command before the app's words. Absolute: a check starts it without PATH.
columns=(litevisor tini "tini -s -g" dumb-init catatonit)
subject() {
  case $1 in
    litevisor) ;;
    *) local program=${1%% *} options=""
       [ "$program" = "$1" ] || options=${1#* }
       echo "$(command -v "$program") $options --" ;;
  esac
}

cargo test --locked --quiet --test init --no-run

# suite COLUMN MODE: lines `CHECK ok|FAILED` into $results/COLUMN.MODE
suite() {
  local command log=$results/log
  command=$(subject "$1")
  if [ -n "$command" ]; then export LITEVISOR_INIT_SUITE_SUBJECT=$command; else unset LITEVISOR_INIT_SUITE_SUBJECT; fi
  LITEVISOR_INIT_SUITE_MODE=$2 LITEVISOR_INIT_SUITE_LIMIT=8 RUST_BACKTRACE=0 \
    cargo test --locked --quiet --test init -- --skip own:: --test-threads "${RUST_TEST_THREADS:-2}" --format pretty \
    >"$log" 2>&1 || true
  sed -n 's/^test \([a-z_:0-9]*\) \.\.\. \(ok\|FAILED\)$/\1 \2/p' "$log" | sort >"$results/$1.$2"
  [ -s "$results/$1.$2" ] || { echo "peers: nothing ran for $1 ($2):" >&2; cat "$log" >&2; exit 1; }
  echo "peers: $1 ($2): $(grep -c ' ok$' "$results/$1.$2") of $(wc -l <"$results/$1.$2") checks passed" >&2
}

for column in "${columns[@]}"; do
  for mode in pid1 plain; do suite "$column" "$mode"; done
done

result() { awk -v check="$3" '$1 == check { print $2 }' "$results/$1.$2"; }

cell() {
  local pid1 plain
  pid1=$(result "$1" pid1 "$2") plain=$(result "$1" plain "$2")
  case $pid1,$plain in
    ok,ok) echo ok ;;
    FAILED,FAILED) echo FAIL ;;
    FAILED,ok) echo "pid1 FAIL" ;;
    ok,FAILED) echo "plain FAIL" ;;
    *) echo "?" ;;
  esac
}

version() { dpkg-query -W -f='${Version}' "$1" 2>/dev/null || echo unknown; }

mkdir -p docs
{
  cat <<TEXT
# Inits compared

Made by \`tests/peers.sh\`; do not edit. Every check of \`tests/init\` that applies to any init, as PID 1 of a namespace
and as a plain process. tini $(version tini), dumb-init $(version dumb-init), catatonit $(version catatonit).

A cell is the result in both modes, or names the mode that failed. Checks marked * are choices rather than defects: a peer
that fails there was made so.

TEXT
  printf '| check |'; printf ' %s |' "${columns[@]}"; echo
  printf '|---|'; printf -- '---|%.0s' "${columns[@]}"; echo
  choices=" exit::exec_no_shebang signal::realtime_queued stop::second_term stop::frozen_child group::term_reaches_grandchild \
 group::sh_c_wrapper group::no_straggler group::straggler_termed death::init_killed child::mask_inherited_or_reset \
 child::ignored_inherited child::fds_passed child::listen_pid init::does_not_pin_cwd init::does_not_pin_fds init::idle_wakeups \
 tty::not_taken_from_the_background "
  while read -r check _; do
    mark=""
    case $choices in *" $check "*) mark=" *" ;; esac
    name=${check//::/.}
    printf '| %s%s |' "${name//_/-}" "$mark"
    for column in "${columns[@]}"; do printf ' %s |' "$(cell "$column" "$check")"; done
    echo
  done <"$results/litevisor.plain"
  printf '| **passed** |'
  for column in "${columns[@]}"; do
    printf ' **%s of %s** |' "$(cat "$results/$column".* | grep -c ' ok$')" "$(cat "$results/$column".* | wc -l)"
  done
  echo
} >"$table"
echo "peers: wrote $table" >&2

if grep -q FAILED "$results"/litevisor.*; then
  echo "peers: litevisor fails a check" >&2
  exit 1
fi
