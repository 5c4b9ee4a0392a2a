#!/usr/bin/env python3
"""Clients side by side: quorate-client, zookeeper-client (Rust) and Curator's async API (Java).

    tests/bench/client/run.py --quorate target/release/quorate [--rounds 3] [--json FILE]

All of them work on one `quorate server` whose data lies in memory, so that what is compared is
the client. A round runs every cell once with every client, in a new order; the table has the
medians. `--clients` may name `raw`, too: the protocol's bytes without a client, as the ceiling; and
`quorate:current`, a program on one thread.
CPU time is the client process's own, per operation; trust it more than the rate where
the machine is shared.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

import servers  # noqa: E402

CLIENTS = ["quorate", "zookeeper-client", "curator"]
OPERATIONS = {  # how many, with 1 outstanding and with 256
    ("get", 1): 10_000, ("get", 256): 200_000,
    ("set", 1): 8_000, ("set", 256): 100_000,
    ("create", 1): 5_000, ("create", 256): 40_000,
}


def built(target):
    environment = dict(os.environ, CARGO_TARGET_DIR=str(target))
    subprocess.run(["cargo", "build", "--release", "--quiet"], cwd=HERE, check=True,
                   env=environment)
    return target / "release" / "quorate-bench-client"


def java(cache):
    """The class path of the Java program, fetched and compiled once."""
    jars, classes = cache / "curator-async", cache / "curator-async-classes"
    source = HERE / "java" / "src" / "CuratorCell.java"
    if not jars.exists():
        subprocess.run(["mvn", "-q", "-B", "-f", HERE / "java" / "pom.xml",
                        "dependency:copy-dependencies", f"-DoutputDirectory={jars}"], check=True)
    built = classes / "CuratorCell.class"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["javac", "-cp", f"{jars}/*", "-d", classes, source], check=True)
    return f"{classes}:{jars}/*"


def command(client, cell, server, binary, classpath):
    operation, outstanding = cell
    work = [operation, str(outstanding), str(OPERATIONS[cell]), server]
    if client == "curator":
        return ["java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
                classpath, "CuratorCell", *work]
    client, _, runtime = client.partition(":")
    return [binary, client, *work, *([runtime] if runtime else [])]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quorate", required=True, help="the server's binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clients", default=",".join(CLIENTS))
    parser.add_argument("--target", default=HERE / "target", type=Path)
    parser.add_argument("--cache", default=HERE / "target", type=Path)
    parser.add_argument("--json", type=Path)
    servers.awake_option(parser)
    arguments = parser.parse_args()
    with arguments.awake():
        measure(arguments)


def measure(arguments):
    clients = arguments.clients.split(",")
    binary = built(arguments.target)
    classpath = java(arguments.cache) if "curator" in clients else ""
    data = Path("/dev/shm") / f"quorate-bench-client-{os.getpid()}"
    server = servers.Quorate("quorate", data, Path(arguments.quorate).resolve())
    results = {}
    try:
        server.start()
        for round_number in range(arguments.rounds):
            for cell in OPERATIONS:
                for client in random.sample(clients, len(clients)):
                    line = subprocess.run(
                        command(client, cell, server.address, binary, classpath), check=True,
                        stdout=subprocess.PIPE, text=True).stdout
                    results.setdefault(cell, {}).setdefault(client, []).append(json.loads(line))
                    print(round_number, *cell, client, line.strip(), file=sys.stderr, flush=True)
    finally:
        server.discard()
        if all(set(by) == set(clients) for by in results.values()):
            table(results, clients)
    if arguments.json:
        plain = {f"{operation} {n}": by for (operation, n), by in results.items()}
        arguments.json.write_text(json.dumps(plain, indent=1))


def table(results, clients):
    print("| operation | outstanding | " + " | ".join(f"{c}: op/s, µs CPU/op" for c in clients)
          + " |")
    print("| --- | ---: |" + " ---: |" * len(clients))
    for (operation, outstanding), by in results.items():
        row = []
        for client in clients:
            rate = statistics.median(one["ops_per_s"] for one in by[client])
            cpu = statistics.median(one["cpu_us_per_op"] for one in by[client])
            row.append(f"{rate:,.0f}, {cpu:.1f}")
        print(f"| {operation} | {outstanding} | " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
