#!/usr/bin/env bash
# kazoo's own test suite on a server of ours; see kazoo_suite.py.
#
#   kazoo_suite.sh KIND [--size 3] [--short] [--record]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export QUORATE_INTEROP_CACHE=${QUORATE_INTEROP_CACHE:-$here/../../target/interop}
exec "$QUORATE_INTEROP_CACHE/venv/bin/python" "$here/kazoo_suite.py" "$@"
