#!/usr/bin/env python3
"""Recipes side by side: quorate-recipes, Apache Curator and kazoo.

    tests/bench/recipes/run.py --quorate target/release/quorate [--rounds 3] [--disk DIR] [--json FILE]
    tests/bench/recipes/run.py --quorate target/release/quorate --requests

All work on one `quorate server`: first with its data in memory, so that what is compared is the
client's side, then with its data in DIR, where every write waits for the disk. A round runs every
cell once with each library, in a new order; the table has the medians. src/main.rs says what the
cells are. `--requests` counts what each sends for one uncontended lock.

Needs what tests/interop/setup.sh installs.
"""

import argparse
import collections
import json
import os
import random
import socket
import statistics
import struct
import subprocess
import sys
import threading
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent.parent
sys.path.insert(0, str(HERE.parent))

import servers  # noqa: E402

LIBRARIES = ["quorate", "curator", "kazoo"]
# How many are counted, by library: kazoo would take too long for as many.
COUNTS = {
    "cycle": {"quorate": 8_000, "curator": 4_000, "kazoo": 1_500},
    "handoff": {"quorate": 8_000, "curator": 4_000, "kazoo": 1_000},
    "queue": {"quorate": 8_000, "curator": 2_000, "kazoo": 600},
    "queue-once": {"quorate": 8_000, "curator": 2_000, "kazoo": 1_000},
}
# On a disk each write takes longer than a library does.
DISK_COUNTS = {"quorate": 1_200, "curator": 800, "kazoo": 300}
OPCODES = {1: "create", 2: "delete", 3: "exists", 4: "getData", 5: "setData", 8: "getChildren",
           12: "getChildren", 14: "multi", 15: "create", 18: "removeWatches", 19: "create",
           103: "removeWatches"}


def cache():
    return Path(os.environ.get("QUORATE_INTEROP_CACHE") or ROOT / "target" / "interop").resolve()


def built():
    result = subprocess.run(
        ["cargo", "build", "--release", "--quiet", "-p", "quorate-bench-recipes",
         "--message-format=json"], cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    for line in result.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "quorate-bench-recipes":
            return message["executable"]
    raise SystemExit("cargo names no program")


def java():
    """The class path of the Java program, compiled once."""
    jars, classes = cache() / "curator", cache() / "recipe-cell-classes"
    source = HERE / "java" / "RecipeCell.java"
    built = classes / "RecipeCell.class"
    if not built.exists() or built.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["javac", "-nowarn", "-cp", f"{jars}/*", "-d", classes, source], check=True)
    return f"{classes}:{jars}/*"


def commands(libraries):
    by_library = {
        "quorate": lambda: [built()],
        "curator": lambda: ["java", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=off",
                            "-cp", java(), "RecipeCell"],
        "kazoo": lambda: [cache() / "venv" / "bin" / "python", HERE / "kazoo_cell.py"],
    }
    return {library: by_library[library]() for library in libraries}


def run(command, cell, count, address):
    line = subprocess.run([*command, cell, str(count), address], check=True, timeout=600,
                          stdout=subprocess.PIPE, text=True).stdout
    return json.loads(line)


def measure(server, how, rounds, counts, cells):
    results = {}
    for number in range(rounds):
        for cell in cells:
            for library in random.sample(list(how), len(how)):
                one = run(how[library], cell, counts(cell, library), server.address)
                results.setdefault(cell, {}).setdefault(library, []).append(one)
                print(number, server.name, cell, library, one, file=sys.stderr, flush=True)
    return results


def table(results, libraries):
    print("| | " + " | ".join(f"{one}: per s, µs CPU each" for one in libraries)
          + " | of Curator | of kazoo |")
    print("| --- |" + " ---: |" * (len(libraries) + 2))
    for cell, by in results.items():
        median = {library: (statistics.median(one["per_s"] for one in by[library]),
                            statistics.median(one["cpu_us"] for one in by[library]))
                  for library in libraries}
        row = [f"{rate:,.0f}, {cpu:,.0f}" for rate, cpu in median.values()]
        ours = median.get("quorate", (0, 0))[0]
        for other in ("curator", "kazoo"):
            row.append(f"{ours / median[other][0]:.1f}" if other in median else "–")
        print(f"| {cell} | " + " | ".join(row) + " |")
    print()


class Counter:
    """A relay that counts the requests which pass it."""

    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.upstream = (host, int(port))
        self.counts = collections.Counter()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            server = socket.create_connection(self.upstream)
            for one in (client, server):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._count, args=(client, server), daemon=True).start()
            threading.Thread(target=self._copy, args=(server, client), daemon=True).start()

    def _count(self, client, server):
        data, is_first = b"", True
        while more := client.recv(65_536):
            server.sendall(more)
            data += more
            while len(data) >= 4 and len(data) >= 4 + struct.unpack(">i", data[:4])[0]:
                length = struct.unpack(">i", data[:4])[0]
                if not is_first:
                    self.counts[struct.unpack(">i", data[8:12])[0]] += 1
                data, is_first = data[4 + length:], False
        server.close()

    def _copy(self, server, client):
        while more := server.recv(65_536):
            client.sendall(more)


def requests(server, how):
    """What is sent for each of many uncontended cycles; the once-only part is below 0.01."""
    print("| requests for one cycle | " + " | ".join(how) + " |")
    print("| --- |" + " --- |" * len(how))
    row = []
    for library, command in how.items():
        relay = Counter(server.address)
        cycles = {"quorate": 800, "curator": 1_000, "kazoo": 800}[library]
        run(command, "cycle", cycles, relay.address)
        warm_up = 3_000 if library == "curator" else cycles // 4
        by_name = collections.Counter()
        for code, count in relay.counts.items():
            if code not in (11, -11):
                by_name[OPCODES.get(code, str(code))] += count / (cycles + warm_up)
        row.append(", ".join(f"{count:.2f} {name}" for name, count in sorted(by_name.items())
                             if count >= 0.01))
    print("| uncontended | " + " | ".join(row) + " |")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quorate", required=True, help="the server's binary")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--cells", default=",".join(COUNTS))
    parser.add_argument("--disk", type=Path, help="a directory for the run with fsync")
    parser.add_argument("--share", type=float, default=1.0, help="of the usual counts")
    parser.add_argument("--requests", action="store_true", help="count requests instead")
    parser.add_argument("--json", type=Path)
    servers.awake_option(parser)
    arguments = parser.parse_args()
    with arguments.awake():
        compare(arguments)


def compare(arguments):
    libraries, cells = arguments.libraries.split(","), arguments.cells.split(",")
    how = commands(libraries)
    binary = Path(arguments.quorate).resolve()
    name = f"quorate-bench-recipes-{os.getpid()}"
    places = {"memory": (Path("/dev/shm") / name, lambda cell, one: COUNTS[cell][one])}
    if arguments.disk:
        places["disk"] = (arguments.disk / name, lambda cell, one: DISK_COUNTS[one])
    every = {}
    for place, (data, counts) in places.items():
        server = servers.Quorate(place, data, binary)
        try:
            server.start()
            if arguments.requests:
                requests(server, how)
                return
            def scaled(cell, one):
                return max(100, int(counts(cell, one) * arguments.share) // 100 * 100)
            every[place] = measure(server, how, arguments.rounds, scaled, cells)
        finally:
            server.discard()
            data.exists() and data.rmdir()
        print(f"The server's data in {place}:\n")
        table(every[place], libraries)
    if arguments.json:
        arguments.json.write_text(json.dumps(every, indent=1))


if __name__ == "__main__":
    main()
