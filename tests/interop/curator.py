#!/usr/bin/env python3
"""Apache Curator's recipes (java/curator/src) on a server of ours.

    curator.py --kind zookeeper
    curator.py --kind quorate:target/release/quorate
"""

import argparse
import subprocess
import sys

import harness

SOURCES = sorted((harness.HERE / "java" / "curator" / "src").glob("*.java"))
TIMEOUT_S = 600


def compiled():
    """The directory with the programs' classes."""
    classes = harness.cache() / "curator-classes"
    for source in SOURCES:
        built = classes / f"{source.stem}.class"
        if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
            classes.mkdir(exist_ok=True)
            subprocess.run(["javac", "-nowarn", "-cp", harness.classpath("curator"), "-d",
                            str(classes), str(source)], check=True)
    return classes


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_server_options(parser)
    arguments = parser.parse_args()
    classes = compiled()
    checks = harness.Checks("curator")
    with harness.server_from(arguments) as server:
        result = subprocess.run(
            ["java", *harness.JAVA_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
             f"{classes}:{harness.classpath('curator')}", "CuratorProgram", server.hosts],
            stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    steps = [line for line in result.stdout.splitlines() if line.startswith(("OK ", "FAIL "))]
    for line in steps:
        outcome, _, rest = line.partition(" ")
        name, _, why = rest.partition(": ")

        def action():
            assert outcome == "OK", why
        checks.run(name, action)

    def whole():
        assert steps and result.returncode in (0, 1), f"exit status {result.returncode}"
    checks.run("the program comes to its end", whole)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
