# Sourced by containers.sh: functions for the images, the bucket, the containers and the verdicts of its cases.

for program in podman runc debootstrap python3 openssl; do
  command -v "$program" >/dev/null || { echo "containers: $program is missing; install the package that has it" >&2; exit 1; }
done
[ "$(id -u)" = 0 ] || { echo "containers: run as root" >&2; exit 1; }

cache=$PWD/.cache/containers
work=$(mktemp -d)
run=litevisor-$$

# The helpers of podman write files into the working directory.
podman() { (cd "$work" && command podman --runtime runc --cgroup-manager cgroupfs "$@"); }

helpers=() images=()
cleanup() {
  local id
  podman ps -aq --filter "name=$run" | while read -r id; do podman rm -f -v -t 0 "$id" >/dev/null 2>&1 || true; done
  for id in ${helpers[@]+"${helpers[@]}"}; do kill -9 "$id" 2>/dev/null || true; done
  # By name, because another run may have created the same image.
  for id in ${images[@]+"${images[@]}"}; do podman rmi "$id" >/dev/null 2>&1 || true; done
  rm -rf "$work"
}
trap cleanup EXIT

number=0 failed=0
limits=(--ulimit nofile=1024:1024 --ulimit nproc=1024:1024 --network host)

wait_for() { # SECONDS COMMAND...
  local end=$((SECONDS + $1)); shift
  until "$@" >/dev/null 2>&1; do
    if [ $SECONDS -gt "$end" ]; then echo "containers: waited in vain for: $*" >&2; return 1; fi
    sleep 0.05
  done
}

# Not through a pipe: a reader that ends first makes the writer fail, and with it the pipe (pipefail).
logs_say() { grep -q -- "$1" <<<"$(podman logs "$name" 2>&1)"; }
code() { podman wait "$name"; }
free_port() { python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'; }

# verdict TITLE EXPECTED FOUND: prints one line for the case, and the last lines of the container's log if it failed.
verdict() {
  if [ "$2" = "$3" ]; then
    echo "containers: $1: ok"
  else
    echo "containers: $1: FAILED: expected $2, found $3"
    failed=1
    podman logs "$name" 2>&1 | tail -15 >&2 || true
  fi
}

# The base of all images: the smallest Debian, with Python and certificates. It is built once (MIRROR names a mirror other than
# debootstrap's default).
if [ ! -e "$cache/base-python.tar" ]; then
  mkdir -p "$cache"
  debootstrap --variant=minbase --include=python3,ca-certificates stable "$work/base" ${MIRROR:+"$MIRROR"} \
    >"$cache/debootstrap.log" 2>&1 || { tail -5 "$cache/debootstrap.log" >&2; exit 1; }
  tar -C "$work/base" -cf "$cache/base-python.tar.part" . && mv "$cache/base-python.tar.part" "$cache/base-python.tar"
  rm -rf "$work/base"
fi

# LITEVISOR names the binary for the images: the static one, built as in docker/Dockerfile. Without LITEVISOR it is the debug
# build, which runs in the base image but not in an empty image.
cargo build --locked --quiet --bin litevisor --example bank
mkdir "$work/image"
cp "${LITEVISOR:-target/debug/litevisor}" "$work/image/litevisor"
strip "$work/image/litevisor" 2>/dev/null || true
printf 'FROM scratch\nCOPY litevisor /litevisor\nENTRYPOINT ["/litevisor"]\n' >"$work/image/Dockerfile"

# image NAME DIRECTORY: builds the Dockerfile of the directory; BASE and LITEVISOR in it stand for the two images below.
image() {
  sed -i "s#\bBASE\b#localhost/$run-base#; s#\bLITEVISOR\b#localhost/$run-litevisor#" "$2/Dockerfile"
  images=("localhost/$run-$1" ${images[@]+"${images[@]}"})
  podman build --quiet --isolation chroot --format docker --pull=never --layers=false --tag "localhost/$run-$1" "$2" >/dev/null
}
images=("localhost/$run-base")
podman import --quiet "$cache/base-python.tar" "localhost/$run-base" >/dev/null
image litevisor "$work/image"

# A bucket that the cases can stop and start: SeaweedFS, with TLS on a second port for the name `bucket.test`.
key=containers secret=containers-secret
openssl req -x509 -newkey rsa:2048 -nodes -keyout "$work/ca.key" -out "$work/ca.pem" -days 2 -subj "/CN=containers" 2>/dev/null
openssl req -newkey rsa:2048 -nodes -keyout "$work/tls.key" -out "$work/tls.csr" -subj "/CN=bucket.test" 2>/dev/null
openssl x509 -req -in "$work/tls.csr" -CA "$work/ca.pem" -CAkey "$work/ca.key" -days 2 -out "$work/tls.pem" \
  -extfile <(echo "subjectAltName=DNS:bucket.test") 2>/dev/null
python3 - >"$work/s3.json" "$key" "$secret" <<'PYTHON'
import json, sys
actions = ["Admin", "Read", "Write", "List", "Tagging"]
keys = [{"accessKey": sys.argv[1], "secretKey": sys.argv[2]}]
print(json.dumps({"identities": [{"name": "test", "credentials": keys, "actions": actions}]}))
PYTHON
# SeaweedFS also uses each port + 10000, for gRPC.
ports=($(for _ in 1 2 3 4 5 6; do python3 -c '
import socket, random
while True:
    port = random.randrange(11000, 22000)
    try:
        for one in (port, port + 10000): socket.create_server(("127.0.0.1", one)).close()
        break
    except OSError: pass
print(port)'; done))
port=${ports[4]} https=${ports[5]}
bucket_up() {
  TMPDIR=$work .cache/peers/seaweedfs/bin/weed mini -dir="$work/weed" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
    -admin.ui=false -webdav=false -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$work/s3.json" -s3.port="$port" \
    -s3.localSocket="$work/s3.sock" -filer.localSocket="$work/filer.sock" -s3.port.https="$https" -s3.cert.file="$work/tls.pem" \
    -s3.key.file="$work/tls.key" -master.port="${ports[0]}" -volume.port="${ports[1]}" \
    -filer.port="${ports[2]}" -admin.port="${ports[3]}" >"$work/weed.log" 2>&1 &
  weed=$!
  helpers+=("$weed")
  disown "$weed"
  wait_for 30 bucket_answers
}
bucket_down() { kill -9 "$weed"; wait_for 10 gone "$weed"; }
gone() { ! kill -0 "$1"; }
bucket_answers() {
  AWS_ACCESS_KEY_ID=$key AWS_SECRET_ACCESS_KEY=$secret timeout 5 target/debug/litevisor replicate --once --config "$work/probe.toml" ||
    { echo 's3.bucket.create -name bucket' | timeout 5 .cache/peers/seaweedfs/bin/weed shell \
      -master="127.0.0.1:${ports[0]}" -filer="127.0.0.1:${ports[2]}"; false; }
}
mkdir -p "$work/weed"
python3 -c 'import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); c.execute("create table t (x)"); c.commit()' "$work/probe.db"
printf '[[database]]\npath = "%s"\n[database.replica]\nurl = "s3://bucket/probe"\nendpoint = "http://127.0.0.1:%s"\nforce_path_style = true\n' \
  "$work/probe.db" "$port" >"$work/probe.toml"
