# Sourced by containers.sh: empty images, as in `FROM scratch`, and images without the files that a dynamic program needs. In each
# image litevisor must resolve a name (by DNS, without /etc/hosts), accept a server with a known authority, refuse a server with an
# unknown authority, and find a user of /etc/passwd. Only the static binary can do that.

if [ -z "${LITEVISOR:-}" ] || grep -q 'Requesting program interpreter' <<<"$(readelf -l "$LITEVISOR" 2>/dev/null)"; then
  echo "containers: images with nothing in them: NOT TRIED: LITEVISOR names no static binary"
else
  # A DNS server at 127.0.0.77 that resolves `bucket.test` to 127.0.0.1.
  python3 - <<'PYTHON' &
import socket, struct
server = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
server.bind(("127.0.0.77", 53))
while True:
    query, client = server.recvfrom(512)
    name, at = [], 12
    while query[at]:
        name.append(query[at + 1:at + 1 + query[at]].lower()); at += 1 + query[at]
    end = at + 5
    known = name == [b"bucket", b"test"]
    address = known and query[at + 1:at + 3] == b"\0\1"
    head = query[:2] + struct.pack(">HHHHH", 0x8180 if known else 0x8183, 1, int(address), 0, 0)
    answer = b"\xc0\x0c" + struct.pack(">HHIH", 1, 1, 5, 4) + socket.inet_aton("127.0.0.1")
    server.sendto(head + query[12:end] + (answer if address else b""), client)
PYTHON
  helpers+=("$!")

  mkdir -p "$work/bare/etc" "$work/bare/data" "$work/old/etc"
  chmod 1777 "$work/bare/data"
  printf 'root:x:0:0:root:/:/none\ngrafana:x:472:472:grafana:/:/none\n' >"$work/bare/etc/passwd"
  printf 'root:x:0:\ngrafana:x:472:\n' >"$work/bare/etc/group"
  cat >"$work/bare/supervisor.toml" <<TOML
[app]
user = "grafana"
command = ["/litevisor", "--version"]
[restore]
timeout = "3s"
[[database]]
path = "/data/probe.db"
[database.replica]
url = "s3://bucket/\${PREFIX:-probe}"
endpoint = "https://bucket.test:$https"
force_path_style = true
access_key_id = "$key"
secret_access_key = "$secret"
TOML
  printf 'FROM LITEVISOR\nCOPY etc /etc\nCOPY data /data\nCOPY supervisor.toml /supervisor.toml\n' >"$work/bare/Dockerfile"
  image bare "$work/bare"
  # As in an Alpine or an older or newer Debian: nsswitch.conf names lookup modules that do not exist.
  printf 'passwd: files systemd\ngroup: files systemd\nhosts: files mymachines mdns4_minimal [NOTFOUND=return] myhostname dns\n' >"$work/old/etc/nsswitch.conf"
  printf 'FROM localhost/%s-bare\nCOPY etc /etc\n' "$run" >"$work/old/Dockerfile"
  image old "$work/old"
  printf 'FROM BASE\nCOPY --from=LITEVISOR /litevisor /litevisor\nCOPY etc/passwd etc/group /etc/\nCOPY data /data\nCOPY supervisor.toml /\nENTRYPOINT ["/litevisor"]\n' >"$work/bare/Dockerfile"
  image debian "$work/bare"

  # bare TITLE EXPECTED IMAGE OPTIONS... -- ARGUMENTS...
  bare() {
    local title=$1 expected=$2; shift 2
    number=$((number + 1)) name=$run-$number
    local image=$1 options=(); shift
    while [ "$1" != -- ]; do options+=("$1"); shift; done
    shift
    podman run --name "$name" "${limits[@]}" --dns 127.0.0.77 --no-hosts "${options[@]}" "localhost/$run-$image" "$@" >/dev/null 2>&1 || true
    verdict "$title" "$expected" "$(podman inspect -f '{{.State.ExitCode}}' "$name")"
  }
  known=(-v "$work/ca.pem:/ca.pem:ro" -e SSL_CERT_FILE=/ca.pem)

  for kind in bare old debian; do
    bare "$kind: run, name by DNS, known authority" 0 "$kind" "${known[@]}" -- run --config /supervisor.toml
  done
  for kind in bare debian; do
    bare "$kind: an unknown authority is refused" 69 "$kind" -- run --config /supervisor.toml
  done
  bare "bare: verify" 0 bare "${known[@]}" -- verify --config /supervisor.toml
fi
