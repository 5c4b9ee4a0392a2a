#!/usr/bin/env bash
# Installs the foreign software that the interop checks run: Apache ZooKeeper (the server to
# compare with, its Java client and zkCli; 3.5 besides), Apache Curator, kazoo with its test suite, and the
# C client. Everything lands in one cache directory; a second run does nothing.
#
#   QUORATE_INTEROP_CACHE   where to put it (default: target/interop of the repository)
#
# Needs: bash, a JDK 11 or newer, Maven, Python 3.9 or newer with venv. The C client is taken
# from Debian's packages without installing them; where apt-get is missing it is left out, and
# run.sh says so.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
cache=${QUORATE_INTEROP_CACHE:-$root/target/interop}
mkdir -p "$cache"
cache=$(cd "$cache" && pwd)

# A part is done when its stamp holds the checksum of the files that describe it.
stamp_of() { cat "$@" | sha256sum | cut -d' ' -f1; }
is_done() { [ -f "$cache/.stamp-$1" ] && [ "$(cat "$cache/.stamp-$1")" = "$2" ]; }
mark_done() { printf '%s' "$2" >"$cache/.stamp-$1"; }

jars() { # name pom target
  local stamp
  stamp=$(stamp_of "$2")
  is_done "$1" "$stamp" && return
  echo "setup: $1"
  rm -rf "$3"
  mvn -q -B -f "$2" dependency:copy-dependencies -DoutputDirectory="$3"
  mark_done "$1" "$stamp"
}

python_tools() {
  local stamp
  stamp=$(stamp_of "$here/requirements.txt")
  is_done python "$stamp" && return
  echo "setup: python"
  rm -rf "$cache/venv" "$cache/kazoo-src"
  python3 -m venv "$cache/venv"
  "$cache/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
  # The wheel and the source archive are one release; only the latter has the tests.
  local kazoo
  kazoo=$(grep '^kazoo==' "$here/requirements.txt")
  mkdir -p "$cache/kazoo-src"
  "$cache/venv/bin/pip" download -q --disable-pip-version-check --no-deps \
    --no-binary :all: -d "$cache/kazoo-src" "$kazoo"
  tar -xzf "$cache/kazoo-src"/kazoo-*.tar.gz -C "$cache/kazoo-src" --strip-components=1
  mark_done python "$stamp"
}

c_client() {
  is_done c-client 1 && return
  if ! command -v apt-get >/dev/null || ! command -v dpkg >/dev/null; then
    echo "setup: no apt-get here, the C client is left out"
    return
  fi
  echo "setup: c-client"
  rm -rf "$cache/c-client"
  mkdir -p "$cache/c-client/deb"
  if ! (cd "$cache/c-client/deb" &&
    apt-get download -q libzookeeper-mt-dev libzookeeper-mt2 >/dev/null 2>&1); then
    echo "setup: the C client's packages cannot be had here, it is left out"
    return
  fi
  for deb in "$cache/c-client/deb"/*.deb; do
    dpkg -x "$deb" "$cache/c-client"
  done
  mark_done c-client 1
}

jars zookeeper "$here/java/zookeeper/pom.xml" "$cache/lib"
jars zookeeper-3.5 "$here/java/zookeeper-3.5/pom.xml" "$cache/lib-3.5"
jars curator "$here/java/curator/pom.xml" "$cache/curator"
python_tools
c_client
