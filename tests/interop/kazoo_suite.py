#!/usr/bin/env python3
"""kazoo's own test suite, on a server of ours.

Every test that passed on a real ZooKeeper (kazoo_baseline.txt, and kazoo_baseline_3.txt for three
servers; written with `--record`) must pass here, but for those in NOT_YET, and none of them may be
skipped. A failed one gets a second chance alone: some of kazoo's tests depend on timing. Run it
with the Python of the cache that setup.sh fills.

    kazoo_suite.py quorate:target/release/quorate [--size 3]
    kazoo_suite.py zookeeper [--record]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as xml
from pathlib import Path

import harness

# Tests that pass on real ZooKeeper, and not here yet: their ways are not built.
NOT_YET = {
    "kazoo.tests.test_client.TestReconfig::test_add_remove_observer",
    "kazoo.tests.test_client.TestReconfig::test_bad_input",
    "kazoo.tests.test_client.TestReconfig::test_no_super_auth",
}
# What clients notice of an ensemble: connections, sessions, watches, and who holds what.
SHORT = ["test_client", "test_connection", "test_counter", "test_election", "test_lock",
         "test_party", "test_queue", "test_session", "test_watchers"]
# kazoo.tests.test_sasl's Kerberos test wants a KDC.
TIMEOUT_S = 90


def baseline(size):
    """The names of the tests that pass on so many real servers."""
    return harness.HERE / ("kazoo_baseline.txt" if size == 1 else f"kazoo_baseline_{size}.txt")


def run(kind, size, tests, report):
    environment = dict(os.environ, QUORATE_INTEROP_KIND=kind, ZOOKEEPER_CLUSTER_SIZE=str(size),
                       QUORATE_INTEROP_CACHE=str(harness.cache()),
                       PYTHONPATH=str(harness.HERE), PYTHONDONTWRITEBYTECODE="1")
    subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "kazoo_plugin", "-q",
         "--timeout", str(TIMEOUT_S), f"--junitxml={report}", "-p", "no:cacheprovider", *tests],
        cwd=harness.cache() / "kazoo-src", env=environment, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL, check=False)
    results = {}
    for case in xml.parse(report).getroot().iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        problem = next((child for child in case
                        if child.tag in ("failure", "error", "skipped")), None)
        if problem is None:
            results[name] = ("passed", "")
        else:
            text = (problem.get("message") or "").split("\n")[0]
            results[name] = ("skipped" if problem.tag == "skipped" else "failed", text)
    return results


def node_id(name):
    """`kazoo.tests.test_lock.KazooLockTests::test_x` as pytest wants it named."""
    where, test = name.split("::", 1)
    parts = where.split(".")
    last = next(n for n, part in enumerate(parts) if part.startswith("test_"))
    return "::".join(["/".join(parts[:last + 1]) + ".py", *parts[last + 1:], test])


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind")
    parser.add_argument("--record", action="store_true", help="write the baseline")
    parser.add_argument("--size", type=int, default=1, help="servers; kazoo's own number is 3")
    parser.add_argument("--only", default="", help="test files whose name contains this")
    parser.add_argument("--short", action="store_true", help="the test files in SHORT")
    arguments = parser.parse_args()
    report = Path(tempfile.gettempdir()) / f"kazoo-suite-{os.getpid()}.xml"
    every = sorted((harness.cache() / "kazoo-src/kazoo/tests").glob("test_*.py"))
    files = [path.stem for path in every if arguments.only in path.stem]
    if arguments.short:
        files = [file for file in files if file in SHORT]
    if arguments.record:
        tests = [f"kazoo/tests/{file}.py" for file in files]
    else:
        wanted = [name for name in baseline(arguments.size).read_text().splitlines()
                  if name not in NOT_YET and name.split("::")[0].split(".")[2] in files]
        tests = [node_id(name) for name in wanted]
    try:
        results = run(arguments.kind, arguments.size, tests, report)
        if arguments.record:
            passed = sorted(name for name, (outcome, _) in results.items() if outcome == "passed")
            baseline(arguments.size).write_text("".join(f"{name}\n" for name in passed))
            for name, (outcome, text) in sorted(results.items()):
                if outcome != "passed":
                    print(f"{outcome}: {name}: {text[:200]}")
            print(f"{len(passed)} passed, 0 failed")
            return 0
        again = [name for name in wanted if results.get(name, ("missing",))[0] != "passed"]
        if again:
            results.update(run(arguments.kind, arguments.size,
                               [node_id(name) for name in again], report))
    finally:
        report.unlink(missing_ok=True)
    checks = harness.Checks(f"kazoo-suite-{arguments.size}")
    for name in wanted:
        def action(name=name):
            outcome, text = results.get(name, ("missing", "it did not run"))
            assert outcome == "passed", f"{outcome}: {text}"
        checks.run(name, action)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
