#!/usr/bin/env python3
"""ZooKeeper's C client (c_client.c, every synchronous call) on a server of ours.

Left out, and said so, where setup.sh found no package of the C client.

    c_client.py --kind zookeeper
    c_client.py --kind quorate:target/release/quorate
"""

import argparse
import os
import subprocess
import sys

import harness

SOURCE = harness.HERE / "c_client.c"
TIMEOUT_S = 180


def libraries():
    """The directory of libzookeeper_mt, or None."""
    found = sorted((harness.cache() / "c-client").glob("usr/lib/**/libzookeeper_mt.so"))
    return found[0].parent if found else None


def compiled(where):
    program = harness.cache() / "c-client-program"
    if not program.exists() or program.stat().st_mtime < SOURCE.stat().st_mtime:
        subprocess.run(
            ["cc", "-O1", "-Wall", "-I", str(harness.cache() / "c-client/usr/include"),
             str(SOURCE), "-o", str(program), "-L", str(where), "-lzookeeper_mt", "-lpthread"],
            check=True)
    return program


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_server_options(parser)
    arguments = parser.parse_args()
    checks = harness.Checks("c-client")
    where = libraries()
    if where is None:
        print("     c-client: the package is not here, left out")
        return checks.finish()
    program = compiled(where)
    with harness.server_from(arguments) as server:
        result = subprocess.run([str(program), server.hosts], stdout=subprocess.PIPE, text=True,
                                stderr=subprocess.DEVNULL, timeout=TIMEOUT_S, check=False,
                                env=dict(os.environ, LD_LIBRARY_PATH=str(where)))
    for line in result.stdout.splitlines():
        outcome, _, rest = line.partition(" ")
        if outcome not in ("OK", "FAIL"):
            continue
        name, _, why = rest.partition(": ")

        def action(outcome=outcome, why=why):
            assert outcome == "OK", why
        checks.run(name, action)

    def whole():
        assert result.stdout.endswith("END\n"), f"exit status {result.returncode}"
    checks.run("the program comes to its end", whole)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
