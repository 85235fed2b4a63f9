#!/usr/bin/env bash
# Each check of the init suite can fail: for each flaw of tests/init/broken.py the named checks must fail, and
# without a flaw they must all pass. Arguments are the flaws to try; default all. The checks that are not here fail on one of the inits of tests/peers.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

flaws='always-0 exit::codes exit::signal_128n exit::signal_realtime exit::status_not_stolen stop::child_code_after_term stop::default_child_143 stop::waits_for_cleanup
always-1 exit::zero exit::race_fast_child init::ends_with_child
bare-signal exit::signal_128n exit::signal_realtime stop::default_child_143
any-child exit::status_not_stolen reap::orphan reap::orphan_flood
slow exit::race_fast_child
no-usage exit::no_command
no-shell exit::exec_no_shebang
no-path child::path_lookup
no-reaping reap::orphan reap::orphan_flood
deaf signal::forward_term signal::forward_int signal::forward_hup signal::forward_quit signal::forward_user signal::forward_rare signal::forward_realtime signal::storm signal::from_inside stop::default_child_143 stop::term_while_starting stop::child_code_after_term child::unprivileged
twice signal::forward_hup signal::forward_quit signal::forward_user signal::forward_rare signal::forward_realtime signal::realtime_queued signal::storm
merge signal::realtime_queued signal::storm
chld signal::chld_not_forwarded
no-cont signal::tstp_cont
deaf-when-blocked signal::blocked_at_start
stop-is-end stop::stopped_child_is_not_dead
hasty stop::waits_for_cleanup stop::child_ignores_term stop::child_code_after_term
once stop::second_term
one-group group::own tty::ctrl_c_once tty::ctrl_z_once tty::winch
no-terminal tty::foreground tty::ctrl_c_once tty::ctrl_z_once tty::winch tty::job_control
unreachable tty::ctrl_c_ends_default_child
no-hup tty::hangup signal::forward_hup
spurious-hup tty::no_spurious_hup
daemons init::ends_with_child
stdin stdio::stdin
chatter stdio::stdout_stderr
leak child::fds_no_leak
close child::fds_passed
sigpipe child::dispositions_clean
argv child::argv_exact
env child::env_exact child::env_empty
cwd child::cwd
umask child::umask_nice_oom
limits child::rlimit_nofile
no-new-privs child::no_new_privs
needs-root child::unprivileged'

python=$(python3 -c 'import sys; print(sys.executable)')
cargo test --locked --quiet --test init --no-run

# run FLAW CHECK...: the suite's own report
run() {
  local flaw=$1; shift
  LITEVISOR_INIT_SUITE_SUBJECT="$python -S $PWD/tests/init/broken.py $flaw --" LITEVISOR_INIT_SUITE_LIMIT=${limit:-3} \
    RUST_BACKTRACE=0 cargo test --locked --quiet --test init -- --exact --format pretty \
    --test-threads "${RUST_TEST_THREADS:-2}" "$@" 2>/dev/null || true
}

if [ $# -gt 0 ]; then
  flaws=$(grep -E "^($(IFS='|'; echo "$*")) " <<<"$flaws")
fi
wrong=0
mapfile -t all < <(cut -d' ' -f2- <<<"$flaws" | tr ' ' '\n' | sort -u)
limit=10 good=$(run none "${all[@]}")
for check in "${all[@]}"; do
  grep -q "^test $check \.\.\. ok$" <<<"$good" || { echo "broken: $check fails without a flaw" >&2; wrong=1; }
done
while read -r flaw checks; do
  for mode in plain pid1; do
    # shellcheck disable=SC2086 # a list of words
    report=$(LITEVISOR_INIT_SUITE_MODE=$mode run "$flaw" $checks)
    for check in $checks; do
      grep -q "^test $check \.\.\. FAILED$" <<<"$report" || { echo "broken: $check passes with $flaw ($mode)" >&2; wrong=1; }
    done
  done
done <<<"$flaws"
[ $wrong = 0 ] && echo "broken: ${#all[@]} checks, each seen to pass and to fail"
exit $wrong
