# Sourced by containers.sh: rolling deploys. Each instance is a container with a disk of its own; they share a bucket and ask each other
# for it (`[handover]`). The new one starts first, then the old one is stopped; in each fifth deploy the old one is frozen, so that it cannot
# answer, and thawed when the new one runs. ROLLOUTS is the number of deploys.

mkdir -p "$work/rollouts"
cp "$work/bank/bank" "$work/rollouts/bank"
cat >"$work/rollouts/supervisor.toml" <<'TOML'
[handover]
enabled = true
poll = "200ms"
wait = "2s"
[[database]]
path = "/disk/bank.db"
[database.replica]
url = "file:///bucket/bank"
TOML
cat >"$work/rollouts/Dockerfile" <<'DOCKERFILE'
FROM BASE
COPY --from=LITEVISOR /litevisor /usr/bin/litevisor
COPY bank /usr/bin/bank
COPY supervisor.toml /etc/litevisor/supervisor.toml
RUN mkdir -m 1777 /disk /bucket
ENTRYPOINT ["/usr/bin/litevisor", "run", "--"]
DOCKERFILE
image rollouts "$work/rollouts"

bucket=$work/bucket-rollouts
mkdir -m 1777 "$bucket"

# deploy COMMAND...: starts the next instance, and sets $name.
deploy() {
  number=$((number + 1)) name=$run-$number
  podman create --name "$name" "${limits[@]}" -v "$bucket:/bucket" "localhost/$run-rollouts" "$@" >/dev/null
  podman start "$name" >/dev/null
}
# Each instance has a file of its own for what it acknowledges.
instance() {
  ack=ack-$((number + 1))
  deploy bank run --db /disk/bank.db --ack "/bucket/$ack" --rate 50
}
writes() { [ "$(wc -l <"$bucket/$ack" 2>/dev/null || echo 0)" -ge 10 ]; }

rollouts=${ROLLOUTS:-20}
instance
wait_for 20 writes || failed=1
wrong=
for round in $(seq "$rollouts"); do
  old=$name old_ack=$ack expected=0
  [ $((round % 5)) != 0 ] || expected=75
  [ $expected = 0 ] || podman pause "$old" >/dev/null
  instance
  wait_for 30 writes || wrong="$wrong $round: the new one writes nothing;"
  if [ $expected = 0 ]; then
    podman stop -t 10 "$old" >/dev/null
  else
    podman unpause "$old" >/dev/null
  fi
  status=$(podman wait "$old")
  [ "$status" = $expected ] || wrong="$wrong $round: the old one ended with $status;"
  # Without a gate, a frozen owner may have acknowledged what it did not upload.
  [ $expected = 0 ] || rm "$bucket/$old_ack"
  podman rm "$old" >/dev/null
  [ -z "$wrong" ] || break
done
[ -n "$wrong" ] || podman stop -t 10 "$name" >/dev/null
cat "$bucket"/ack-* >"$bucket/ack"
judge "$rollouts rolling deploys, each fifth with a frozen owner" "" "$wrong" complete
