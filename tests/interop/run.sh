#!/usr/bin/env bash
# Proof from outside: foreign clients, and a real ZooKeeper to compare with.
#
#   tests/interop/run.sh [short|long]
#
# Installs what it needs (setup.sh), builds the release, runs every check and prints one line for
# each, then `N passed, M failed`. `short` (the default) takes a few minutes, `long` half an hour.
#
#   QUORATE_BIN             the binary to test, instead of building one; `zookeeper` tests a real
#                           ZooKeeper, which proves the checks themselves
#   QUORATE_INTEROP_CACHE   see setup.sh
#   QUORATE_INTEROP_ONLY    run only the areas whose names are given, separated by blanks
set -uo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
root=$(cd "$here/../.." && pwd)
size=${1:-short}
case $size in short | long) ;; *)
  echo "usage: run.sh [short|long]" >&2
  exit 2
  ;;
esac
export QUORATE_INTEROP_CACHE=${QUORATE_INTEROP_CACHE:-$root/target/interop}
"$here/setup.sh" || exit 2

if [ -z "${QUORATE_BIN:-}" ]; then
  (cd "$root" && cargo build --release --quiet) || exit 2
  QUORATE_BIN=${CARGO_TARGET_DIR:-$root/target}/release/quorate
fi
if [ "$QUORATE_BIN" = zookeeper ]; then
  kind=zookeeper
else
  kind=quorate:$(cd "$(dirname "$QUORATE_BIN")" && pwd)/$(basename "$QUORATE_BIN")
fi

python=$QUORATE_INTEROP_CACHE/venv/bin/python
passed=0
failed=0
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
cd "$here"

# Every area prints its own `N passed, M failed` at the end; they are added up here.
area() { # name command...
  local name=$1 sums
  shift
  if [ -n "${QUORATE_INTEROP_ONLY:-}" ] && [[ " $QUORATE_INTEROP_ONLY " != *" $name "* ]]; then
    return
  fi
  "$@" 2>&1 | tee "$logs/$name" | grep -Ev '^[0-9]+ passed, [0-9]+ failed$'
  sums=$(grep -E '^[0-9]+ passed, [0-9]+ failed$' "$logs/$name" | tail -1)
  if [ -z "$sums" ]; then
    echo "FAIL $name: it did not come to its end"
    failed=$((failed + 1))
    return
  fi
  passed=$((passed + ${sums%% *}))
  sums=${sums#*, }
  failed=$((failed + ${sums%% *}))
}

area conformance "$python" conformance.py --kind "$kind"
area rust-client "$python" rust_client.py --kind "$kind"
area kazoo "$python" kazoo_program.py --kind "$kind"
area zkcli "$python" zkcli.py --kind "$kind"
area c-client "$python" c_client.py --kind "$kind"
area curator "$python" curator.py --kind "$kind"
area failover "$python" failover.py --kind "$kind"
if [ "$size" = short ]; then
  area recipes "$python" recipes_matrix.py --kind "$kind"
  area differential "$python" differential.py --kind "$kind" --seeds 10 --steps 300
  area datadir "$python" datadir.py --kind "$kind" --seeds 1 --steps 150
  area kazoo-ensemble ./kazoo_suite.sh "$kind" --size 3 --short
else
  area recipes "$python" recipes_matrix.py --kind "$kind" --rounds 50
  area recipes-faults "$python" recipes_matrix.py --faults
  area differential "$python" differential.py --kind "$kind" --seeds 200 --steps 400
  area restarts "$python" differential.py --kind "$kind" --seeds 20 --steps 300 --restart
  area datadir "$python" datadir.py --kind "$kind"
  area abuse "$python" abuse.py --kind "$kind"
  area faults "$python" differential.py --faults
  area kazoo-suite ./kazoo_suite.sh "$kind"
  area kazoo-ensemble ./kazoo_suite.sh "$kind" --size 3
fi

echo "$passed passed, $failed failed"
[ "$failed" -eq 0 ]
