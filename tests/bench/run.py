#!/usr/bin/env python3
"""Measures Quorate beside a real ZooKeeper 3.9.5, on this machine, in one run.

    tests/bench/run.py [--quick] [--only REGEX] [--out DIR]

The servers live side by side; every cell is run on each of them in turn, round after round, so
that what disturbs the machine disturbs all of them. Only one is under load at a time. Printed
are the medians, and of the ratios the median over the rounds, beside what is asked for.

Needs Python 3.10 or newer, a JDK, and ZooKeeper's jars from tests/interop/setup.sh.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import memory
import tables
from cells import CELLS
from servers import ROOT, LaunchFailed, Null, Quorate, ZooKeeper, jars, settle

# What a JVM has to have seen before its figures are worth anything.
WARMUP = ["set -c 64 -d 16", "get -c 64 -d 16", "create -c 16 -d 16", "ephemeral -c 16 -d 16",
          "multi -c 16 -d 4", "children -c 16 -d 16", "set -c 1 -d 1", "get -c 1 -d 1",
          "lock -c 16"]


class Bench:
    """Calls `quorate bench`."""

    def __init__(self, binary):
        self.binary = binary

    def __call__(self, server, args, *more):
        """The figures of one run as a dict; `error` is in it if the run failed."""
        with tempfile.NamedTemporaryFile(suffix=".json") as out:
            command = [str(self.binary), "bench", *args.split(), *more, "--server",
                       server.address, "--server-pid", str(server.pid), "--json", out.name]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            text = Path(out.name).read_text()
        figures = json.loads(text) if text else {}
        if done.returncode:
            figures["error"] = done.stderr.strip().splitlines()[-1:] or ["no message"]
        return figures


def options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="quorate to measure [default: build it]")
    parser.add_argument("--subject", choices=["quorate", "zookeeper", "null"], default="quorate",
                        help="what to measure beside ZooKeeper; another ZooKeeper has to come "
                             "out at 1, which says what the noise is")
    parser.add_argument("--rounds", type=int, help="[default: 5; quick: 2]")
    parser.add_argument("--seconds", type=float,
                        help="of each cell in each round [default: 3; quick: 1]")
    parser.add_argument("--warmup", type=float, help="[default: 1; quick: 0.5]")
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--only", default="", help="cells whose name matches this expression")
    parser.add_argument("--cells", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--znodes", type=int, default=1_000_000)
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--data", type=Path, default=ROOT / "target" / "bench",
                        help="where all servers keep their data")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "bench-results")
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (1.0 if chosen.quick else 3.0)
    chosen.warmup = chosen.warmup or (0.5 if chosen.quick else 1.0)
    if chosen.quick:
        chosen.znodes, chosen.sessions = min(chosen.znodes, 100_000), min(chosen.sessions, 2_000)
    return chosen


def binary(chosen):
    if chosen.binary:
        return chosen.binary.resolve()
    subprocess.run(["cargo", "build", "--release", "--bin", "quorate"], cwd=ROOT, check=True)
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return (target / "release" / "quorate").resolve()


def subject(chosen, quorate, name="subject", **settings):
    """The server under test."""
    if chosen.subject == "zookeeper":
        return ZooKeeper(name, chosen.data, jars(), **settings)
    if chosen.subject == "null":
        return Null(name, chosen.data, quorate, fsync=True)
    return Quorate(name, chosen.data, quorate)


def run_cells(chosen, bench):
    """Round after round: cell -> server -> list of figures."""
    cells = [cell for cell in CELLS if re.search(chosen.only, cell.name)]
    servers = {
        "zookeeper": ZooKeeper("zookeeper", chosen.data, jars()),
        "subject": subject(chosen, bench.binary),
        "disk": Null("null-disk", chosen.data, bench.binary, fsync=True),
        "memory": Null("null-memory", chosen.data, bench.binary, fsync=False),
    }
    results = {cell.name: {kind: [] for kind in servers} for cell in cells}
    times = ["--duration", f"{chosen.seconds}s", "--warmup", f"{chosen.warmup}s"]
    try:
        for server in servers.values():
            server.start()
        for kind in ("zookeeper", "subject"):
            say(f"warming up {kind}")
            for args in WARMUP:
                bench(servers[kind], args, "--duration", f"{chosen.seconds}s", "--warmup", "0s")
        for turn in range(chosen.rounds):
            for number, cell in enumerate(cells):
                kinds = ["zookeeper", "subject"] + ([cell.null] if cell.null else [])
                # Whoever is always first, or always last, is always in the same luck.
                if (turn + number) % 2:
                    kinds.reverse()
                for kind in kinds:
                    settle(servers.values())
                    figures = bench(servers[kind], cell.args, *times)
                    results[cell.name][kind].append(figures)
                say(f"round {turn + 1} of {chosen.rounds}: {cell.name}: "
                    + tables.in_short(results[cell.name]))
    finally:
        for server in servers.values():
            server.discard()
    return results


def run_memory(chosen, bench):
    sides = {
        "zookeeper": lambda: ZooKeeper("zookeeper-big", chosen.data, jars(), heap="4g"),
        "subject": lambda: subject(chosen, bench.binary, "subject-big",
                                   **({"heap": "4g"} if chosen.subject == "zookeeper" else {})),
    }
    results = {}
    for kind, make in sides.items():
        results[kind] = memory.measure(make(), bench, chosen, lambda text: say(f"{kind}: {text}"))
    floor = Null("null-disk", chosen.data, bench.binary, fsync=True)
    results["disk"] = {"stall_ms": memory.stall(floor, bench, chosen)}
    return results


def say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def main():
    chosen = options()
    bench = Bench(binary(chosen))
    results = {"subject": chosen.subject, "rounds": chosen.rounds, "seconds": chosen.seconds,
               "load_before": os.getloadavg(), "at": time.strftime("%Y-%m-%d %H:%M")}
    if chosen.cells:
        results["cells"] = run_cells(chosen, bench)
    if chosen.memory and chosen.subject != "null":
        results["memory"] = run_memory(chosen, bench)
    results["load_after"] = os.getloadavg()
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "results.json").write_text(json.dumps(results, indent=1))
    text = tables.markdown(results)
    (chosen.out / "results.md").write_text(text)
    print(text)
    say(f"written to {chosen.out}")


if __name__ == "__main__":
    try:
        main()
    except LaunchFailed as error:
        sys.exit(f"error: {error}")
