# Sourced by containers.sh: images of real apps, started by litevisor as PID 1. The cases write words by HTTP and must read them
# back from another container. The apps are PocketBase (Go; two databases in WAL mode; a second process creates its superuser)
# and Isso (Python; one database with a rollback journal; SIGTERM kills it).

peers=$PWD/.cache/peers
client=$PWD/docker/client.py
app_port=$(free_port)

# app_image NAME DATABASE...: builds the image of an app. Its start script is on stdin, its files are in $work/NAME/files.
app_image() {
  local app=$1 database; shift
  cat >"$work/$app/start"
  chmod 755 "$work/$app/start"
  {
    printf '[app]\ncommand = ["/start"]\n[restore]\ntimeout = "3s"\n'
    for database in "$@"; do
      # shellcheck disable=SC2016 # litevisor's own variables
      printf '[[database]]\npath = "/data/%s"\n[database.replica]\nurl = "s3://bucket/${PREFIX}/%s"\nendpoint = "${ENDPOINT}"
force_path_style = true\naccess_key_id = "${KEY}"\nsecret_access_key = "${SECRET}"\n' "$database" "$database"
    done
  } >"$work/$app/supervisor.toml"
  cat >"$work/$app/Dockerfile" <<DOCKERFILE
FROM BASE
COPY --from=LITEVISOR /litevisor /usr/local/bin/litevisor
COPY files /opt
COPY start /start
COPY supervisor.toml /etc/litevisor/supervisor.toml
RUN mkdir -m 1777 /data
ENV PREFIX=$app ENDPOINT=http://127.0.0.1:$port KEY=$key SECRET=$secret PORT=$app_port
ENTRYPOINT ["/usr/local/bin/litevisor", "run", "--"]
CMD ["/start"]
DOCKERFILE
  image "$app" "$work/$app"
}

mkdir -p "$work/pocketbase/files" "$work/isso/files"
cp "$peers/pocketbase/bin/pocketbase" "$work/pocketbase/files/"
cp -r "$peers/isso" "$work/isso/files/isso"

app_image pocketbase data.db auxiliary.db <<'SH'
#!/bin/sh
/opt/pocketbase superuser upsert admin@example.com Passw0rd-1 --dir /data || exit
exec /opt/pocketbase serve --http "127.0.0.1:$PORT" --dir /data --automigrate=false --hooksWatch=false
SH

app_image isso comments.db <<'SH'
#!/bin/sh
cat >/data/isso.cfg <<CFG
[general]
dbpath = /data/comments.db
host = http://localhost/
[server]
listen = http://127.0.0.1:$PORT/
[guard]
enabled = false
[markup]
renderer = mistune
CFG
export PYTHONPATH=/opt/isso PYTHONDONTWRITEBYTECODE=1
exec python3 -c "import sys, isso; sys.exit(isso.main())" -c /data/isso.cfg run
SH

# app OPTIONS...: starts a container of $app, and sets $name to its name.
app() {
  number=$((number + 1)) name=$run-$number
  podman run --detach --name "$name" "${limits[@]}" "$@" "localhost/$run-$app" >/dev/null
}
remove() { podman rm -f -t 0 "$name" >/dev/null; }
client() { python3 "$client" "$app" "http://127.0.0.1:$app_port" "$@"; }
wrote() { client write "$1" && written="$written $1"; }
# words WORD...: writes the words; the first write waits for the app.
words() {
  wait_for 30 wrote "$1"; shift
  local word
  for word in "$@"; do client write "$word" && written="$written $word"; done
}
# reads_back TITLE: checks that the app returns exactly the words that were written.
reads_back() {
  local expected found
  # shellcheck disable=SC2086 # one word each
  expected=$(printf '%s\n' $written | LC_ALL=C sort | xargs)
  wait_for 30 client read && found=$(client read) || found="no answer"
  verdict "$app: $1" "$expected" "$found"
}
stopped() { podman stop -t 10 "$name" >/dev/null; code; }

app_cases() { # APP STATUS-AFTER-STOP
  app=$1 written=
  local status=$2 disk=$work/$1-disk

  app; words one two three
  verdict "$app: podman stop -t 10" "$status" "$(stopped)"; remove
  app; reads_back "a new container has what was written"
  words four; podman stop -t 10 "$name" >/dev/null; remove

  # Stops the container half a second after its start, during the restore or the start of the app.
  app; sleep 0.5
  verdict "$app: stopped 0.5 s after the start, within its time" yes "$(stopped >/dev/null; [ "$(podman inspect -f '{{.State.ExitCode}}' "$name")" != 137 ] && echo yes)"
  remove
  app; reads_back "and nothing is lost"
  podman stop -t 10 "$name" >/dev/null; remove

  mkdir -m 1777 "$disk"
  app -v "$disk:/data"; words five six
  podman kill "$name" >/dev/null; words_after_kill=$(code); remove
  verdict "$app: podman kill" 137 "$words_after_kill"
  app -v "$disk:/data"; reads_back "a killed one goes on with its volume"
  words seven; podman stop -t 10 "$name" >/dev/null; remove
  app; reads_back "and what the volume had is in the bucket"

  # The bucket becomes unreachable while the app runs.
  bucket_down
  words eight nine
  reads_back "with the bucket down the app goes on"
  wait_for 20 logs_say 'waits for the replica'
  bucket_up
  verdict "$app: the bucket is back, podman stop" "$status" "$(stopped)"; remove
  bucket_down
  app
  verdict "$app: the bucket is down at the start" 69 "$(code)"; remove
  bucket_up

  app --user 12345:12345 --tmpfs /data:rw,mode=1777; reads_back "not root"
  words ten; verdict "$app: not root, podman stop" "$status" "$(stopped)"; remove
  app --read-only --read-only-tmpfs=false --tmpfs /data:rw,mode=1777 --tmpfs /tmp:rw,mode=1777
  reads_back "a read-only root"
  words eleven; verdict "$app: a read-only root, podman stop" "$status" "$(stopped)"; remove
}

bucket_up
# APPS=isso runs the cases of one app only.
for each in ${APPS:-pocketbase isso}; do
  case $each in isso) app_cases isso 143 ;; *) app_cases "$each" 0 ;; esac
done
