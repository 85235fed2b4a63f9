#!/usr/bin/env bash
# Tests litevisor as the entrypoint of real containers: podman stop, podman kill, -it, --user, --read-only, --init, --memory; real
# apps with a bucket (apps.sh); fewer rights than the default (rights.sh); rolling deploys (rollouts.sh); empty images (bare.sh). Needs
# root, podman with catatonit, runc, debootstrap, openssl and python3. The base image is built once from Debian packages. LITEVISOR names the binary
# to test, which should be the static one that is shipped; without LITEVISOR it is the debug build. Prints one line for each case,
# and fails if one of them fails.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tests/setup.sh >/dev/null
. docker/base.sh

# The bank, with a directory as its bucket.
mkdir -p "$work/bank"
cp target/debug/examples/bank "$work/bank/bank"
strip "$work/bank/bank" 2>/dev/null || true
cat >"$work/bank/Dockerfile" <<'DOCKERFILE'
FROM BASE
COPY --from=LITEVISOR /litevisor /usr/bin/litevisor
COPY bank /usr/bin/bank
RUN mkdir -m 1777 /disk /bucket
ENTRYPOINT ["/usr/bin/litevisor", "run", "--db", "/disk/bank.db", "--replica", "/bucket/bank", "--"]
DOCKERFILE
image bank "$work/bank"

# begin OPTIONS... -- COMMAND...: creates a container with its own bucket, and sets $name to its name.
begin() {
  number=$((number + 1)) name=$run-$number bucket=$work/bucket-$number
  local options=()
  while [ "$1" != -- ]; do options+=("$1"); shift; done
  shift
  mkdir -m 1777 "$bucket"
  podman create --name "$name" "${limits[@]}" -v "$bucket:/bucket" "${options[@]}" "localhost/$run-bank" "$@" >/dev/null
}

transfers() { [ "$(wc -l <"$bucket/ack" 2>/dev/null || echo 0)" -ge "$1" ]; }

# Checks that the replica holds everything that the bank has acknowledged.
complete() {
  rm -f "$work/restored.db"
  target/debug/litevisor restore "file://$bucket/bank" -o "$work/restored.db" >"$work/judge" 2>&1 &&
    target/debug/examples/bank check --db "$work/restored.db" --ack "$bucket/ack" >>"$work/judge" 2>&1 ||
    { cat "$work/judge" >&2; return 1; }
}

# judge NAME EXPECTED FOUND [complete]
judge() {
  local verdict=ok
  [ "$2" = "$3" ] || verdict="FAILED: expected $2, found $3"
  if [ "${4:-}" = complete ] && ! complete; then verdict="FAILED: the replica is not complete"; fi
  echo "containers: $1: $verdict"
  if [ "$verdict" != ok ]; then failed=1; podman logs "$name" 2>&1 | tail -15 >&2; fi
}

bank=(bank run --db /disk/bank.db --ack /bucket/ack --rate 100 --on-term write-more)

stop_case() { # NAME OPTIONS...
  local title=$1; shift
  begin "$@" -- "${bank[@]}"
  podman start "$name" >/dev/null
  wait_for 20 transfers 30 && podman stop -t 10 "$name" >/dev/null
  judge "$title" 0 "$(code)" complete
}

stop_case "podman stop"
stop_case "podman stop, --init" --init
stop_case "podman stop, --user" --user 12345:12345 --tmpfs /disk:rw,mode=1777
stop_case "podman stop, --read-only" --read-only --read-only-tmpfs=false --tmpfs /disk:rw,mode=1777

begin -- bash -c 'trap "echo heard HUP" HUP; trap "exit 7" TERM; echo ready; while :; do sleep .05; done'
podman start "$name" >/dev/null
wait_for 20 logs_say '^ready'
podman kill --signal HUP "$name" >/dev/null
wait_for 20 logs_say 'heard HUP'
podman stop -t 10 "$name" >/dev/null
judge "podman kill --signal HUP" "7 and 1" "$(code) and $(podman logs "$name" 2>/dev/null | grep -c 'heard HUP')"

begin -it -- bash -c 'trap "echo heard INT; exit 9" INT; echo ready; while :; do sleep .05; done'
python3 -S - "$name" >"$work/tty" <<'PYTHON' || true
import os, pty, sys, time
pid, master = pty.fork()
if pid == 0:
    os.execvp('podman', ['podman', '--runtime', 'runc', '--cgroup-manager', 'cgroupfs', 'start', '-ai', sys.argv[1]])
seen, typed = b'', False
while True:
    try: part = os.read(master, 4096)
    except OSError: break
    if not part: break
    seen += part
    if b'ready' in seen and not typed: typed = True; time.sleep(.3); os.write(master, b'\x03')
print(seen.decode(errors='replace'))
PYTHON
judge "-it, Ctrl-C" "9 and 1" "$(code) and $(grep -c 'heard INT' "$work/tty")"

# At the memory limit the kernel kills the largest process of the container. That must be the app, and litevisor must flush.
begin --memory 96m --memory-swap 96m -- bash -c "${bank[*]} & while ! [ \$(wc -l </bucket/ack) -ge 30 ]; do sleep .05; done 2>/dev/null
  exec perl -e 'my @a; push @a, \"x\" x (1 << 20) for 1 .. 4096; sleep 60'"
if podman start "$name" >/dev/null 2>"$work/memory"; then
  judge "--memory at its limit" 137 "$(code)" complete
else
  # Without a memory controller the kernel cannot limit the memory.
  echo "containers: --memory at its limit: NOT TRIED: $(tail -1 "$work/memory")"
fi
. docker/rights.sh
. docker/rollouts.sh
. docker/apps.sh
. docker/bare.sh
echo "containers: all cases took $SECONDS s"
exit $failed
