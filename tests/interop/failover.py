#!/usr/bin/env python3
"""An ensemble's leader goes away under Curator's clients (java/curator/src/FailoverProgram.java).

    failover.py --kind zookeeper
    failover.py --kind quorate:target/release/quorate

A client that was connected to the leader is suspended and reconnected, and never loses its
session, its ephemeral znode, or the lock that it holds.
"""

import argparse
import subprocess
import sys

import curator
import harness

# How the leader ends, in this order; it is started again before the next round.
ROUNDS = [
    ("the leader is killed", lambda server: server.kill()),
    ("the leader is stopped in order", lambda server: server.stop()),
    ("the next leader is killed", lambda server: server.kill()),
]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True,
                        help="`zookeeper` or `quorate:<path of the binary>`")
    arguments = parser.parse_args()
    classes = curator.compiled()
    checks = harness.Checks("failover")
    with harness.Ensemble(arguments.kind) as ensemble:
        ensemble.start()
        command = ["java", *harness.JAVA_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
                   "-cp", f"{classes}:{harness.classpath('curator')}", "FailoverProgram",
                   ensemble.hosts]
        with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              text=True) as program:
            for name, end in ROUNDS:
                def action(name=name, end=end):
                    leader = ensemble.leader()
                    print(leader.port, name, file=program.stdin, flush=True)
                    line = program.stdout.readline().strip()
                    if line == "READY":
                        end(leader)
                        line = program.stdout.readline().strip()
                        leader.start()
                    assert line == f"OK {name}", line or "the program ended"
                checks.run(name, action)
            program.stdin.close()
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
