# Sourced by containers.sh: containers with fewer rights than the default, as in hardened pods. In each case the app is stopped,
# the exit status is the app's, and the replica is complete; then a second container restores it on an empty disk and continues.
# Where the rights do not suffice, litevisor starts nothing, and the log names the capability to add.

mkdir -p "$work/rights"
cp "$work/bank/bank" "$work/rights/bank"
# litevisor runs as root, the app as another user.
cat >"$work/rights/supervisor.toml" <<'TOML'
[app]
user = "4242:4242"
[restore]
timeout = "3s"
[[database]]
path = "/disk/bank.db"
[database.replica]
url = "file:///bucket/bank"
TOML
cat >"$work/rights/Dockerfile" <<'DOCKERFILE'
FROM BASE
COPY --from=LITEVISOR /litevisor /usr/bin/litevisor
COPY bank /usr/bin/bank
COPY supervisor.toml /etc/litevisor/supervisor.toml
RUN mkdir -m 1777 /bucket && mkdir -m 755 /disk && chown 4242:4242 /disk
ENTRYPOINT ["/usr/bin/litevisor", "run", "--"]
DOCKERFILE
image rights "$work/rights"

# life IMAGE TRANSFERS OPTIONS...: runs a container with $bucket that makes transfers, stops it, and sets $name to its name.
life() {
  local image=$1 count=$2; shift 2
  number=$((number + 1)) name=$run-$number
  podman run --detach --name "$name" "${limits[@]}" -v "$bucket:/bucket" "$@" "localhost/$run-$image" "${bank[@]}" >/dev/null
  # Until litevisor has refused to start, or the bank has made the transfers.
  wait_for 20 begun "$count" || true
  podman stop -t 10 "$name" >/dev/null
}
begun() { transfers "$1" || [ "$(podman inspect -f '{{.State.Running}}' "$name")" = false ]; }
status() { podman inspect -f '{{.State.ExitCode}}' "$name"; }

fresh_bucket() { bucket=$work/bucket-rights-$number; mkdir -m 1777 "$bucket"; }

# refused PATTERN: checks that nothing was started, and that the log names the capability to add.
refused() { [ ! -e "$bucket/ack" ] && logs_say "$1"; }

# works TITLE IMAGE OPTIONS...
works() {
  local title=$1 image=$2; shift 2
  fresh_bucket
  life "$image" 30 "$@"
  judge "$title" 0 "$(status)" complete
  life "$image" $(($(wc -l <"$bucket/ack" 2>/dev/null || echo 0) + 30)) "$@"
  judge "$title, restored by a second one" 0 "$(status)" complete
}

# works_or_says TITLE PATTERN IMAGE OPTIONS...: as above, or litevisor refuses to start and names what to add. Nothing else passes.
works_or_says() {
  local title=$1 pattern=$2; shift 2
  fresh_bucket
  life "$@"
  if refused "$pattern"; then echo "containers: $title: ok, refused"; return; fi
  judge "$title" 0 "$(status)" complete
}

none=(--cap-drop ALL --security-opt no-new-privileges)
read_only=(--read-only --read-only-tmpfs=false)

# As the "restricted" profile of Kubernetes requires: no root, no capability, a read-only root.
works "rights: a user, no capability, read-only" bank "${none[@]}" "${read_only[@]}" --user 4242:4242 --tmpfs /disk:rw,mode=1777
# Root with no more rights than an ordinary user.
works "rights: root, no capability, read-only" bank "${none[@]}" "${read_only[@]}" --tmpfs /disk:rw,mode=0755
# The default capabilities. litevisor changes the user before the exec, which no-new-privileges allows.
works "rights: user=, no-new-privileges" rights --security-opt no-new-privileges
works "rights: user=, read-only" rights "${read_only[@]}" -v /disk
# The capabilities that a hardened pod adds.
works "rights: user=, SETUID SETGID CHOWN KILL DAC_OVERRIDE FOWNER alone" rights --cap-drop ALL \
  --cap-add SETUID --cap-add SETGID --cap-add CHOWN --cap-add KILL --cap-add DAC_OVERRIDE --cap-add FOWNER
# Fewer capabilities: the app is stopped and the replica is complete, or litevisor starts nothing.
works_or_says "rights: user=, SETUID SETGID CHOWN alone" KILL rights 30 --cap-drop ALL \
  --cap-add SETUID --cap-add SETGID --cap-add CHOWN
works_or_says "rights: user=, SETUID SETGID CHOWN KILL alone" DAC_OVERRIDE rights 30 --cap-drop ALL \
  --cap-add SETUID --cap-add SETGID --cap-add CHOWN --cap-add KILL
works_or_says "rights: user=, without KILL" KILL rights 30 --cap-drop KILL
works_or_says "rights: user=, without DAC_OVERRIDE" DAC_OVERRIDE rights 30 --cap-drop DAC_OVERRIDE
works_or_says "rights: user=, no capability" SETGID rights 30 "${none[@]}"
