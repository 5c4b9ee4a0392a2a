#!/usr/bin/env python3
"""Measures a Quorate ensemble of three beside a real ZooKeeper 3.9.5 ensemble, in one run.

    tests/bench/ensemble.py [--quick] [--only REGEX] [--failovers N] [--out DIR]

Six processes on one machine, each with its own data directory on one file system, fsync on.
Every cell is run on both ensembles in turn, round after round; only one is under load at a time.
CPU time is that of all three servers together. A failover is `kill -9` (or `kill -STOP`) of the
leader while three clients, each knowing all servers, write one after the other; what counts is the
time until the worst of them has its first acknowledged write.

Needs what tests/bench/run.py needs.
"""

import argparse
import json
import os
import random
import re
import signal
import socket
import statistics
import struct
import sys
import threading
import time
from pathlib import Path

import run as single
from cells import cpu, p99, rate, Cell
from servers import ROOT, LaunchFailed, Quorate, ZooKeeper, awake_option, free_port, jars, settle
import tables

SERVERS = 3
CELLS = [
    Cell("set 1x1", "set -c 1 -d 1", [rate(1.8)]),
    Cell("set 64x1", "set -c 64 -d 1", [rate(2.5)]),
    Cell("set 64x16", "set -c 64 -d 16", [rate(4), cpu(0.2), p99(0.4)]),
    Cell("get 64x16", "get -c 64 -d 16", [rate(4)]),
    Cell("mixed 90/10 64x16", "mixed -c 64 -d 16 --read 90", [rate(5)]),
    Cell("ephemeral create+delete 64x16", "ephemeral -c 64 -d 16", [rate(4)]),
    Cell("multi of 10 sets 16x4", "multi -c 16 -d 4 --ops 10", [rate(4)]),
    Cell("lock, 16 on 1", "lock -c 16 --paths 1", [rate(2)]),
]
WARMUP = ["set -c 64 -d 16", "get -c 64 -d 16", "ephemeral -c 16 -d 16", "multi -c 16 -d 4",
          "set -c 1 -d 1", "lock -c 16"]


class Ensemble:
    """Three servers that are benched as one."""

    def __init__(self, kind, chosen, binary):
        def make(number):
            name = f"{kind}-{number}"
            if kind == "zookeeper":
                return ZooKeeper(name, chosen.data, jars(), heap="600m")
            return Quorate(name, chosen.data, binary)

        self.kind = kind
        self.servers = [make(number) for number in range(1, SERVERS + 1)]
        lines = {f"server.{number}": f"127.0.0.1:{free_port()}:{free_port()}"
                 for number in range(1, SERVERS + 1)}
        for number, server in enumerate(self.servers, 1):
            (server.home / "data" / "myid").write_text(f"{number}\n")
            server.settings = {"initLimit": 10, "syncLimit": 5, **lines}

    @property
    def address(self):
        return ",".join(server.address for server in self.servers)

    @property
    def pid(self):
        return ",".join(str(server.pid) for server in self.servers)

    def cpu_seconds(self):
        return sum(server.cpu_seconds() for server in self.servers)

    def start(self):
        failed = []

        def start(server):
            try:
                server.start()
            except LaunchFailed as error:
                failed.append(error)

        threads = [threading.Thread(target=start, args=(server,)) for server in self.servers]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]

    def discard(self):
        for server in self.servers:
            server.discard()

    def leader(self):
        for server in self.servers:
            if server.process and "Mode: leader" in srvr(server.port):
                return server
        return None


def srvr(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
            sock.sendall(b"srvr")
            text = b""
            while more := sock.recv(4096):
                text += more
            return text.decode(errors="replace")
    except OSError:
        return ""


class Writer(threading.Thread):
    """Writes one after the other in one session; goes to the next server when one fails."""

    def __init__(self, ports, path, pause):
        super().__init__(daemon=True)
        self.ports, self.path, self.pause = ports, path, pause
        self.over = False
        self.session, self.password = 0, bytes(16)
        self.acknowledged = []  # when each write was, by the monotonic clock

    def frame(self, sock):
        need, data = 4, b""
        while len(data) < need:
            more = sock.recv(need - len(data))
            if not more:
                raise OSError("closed")
            data += more
            if need == 4 and len(data) == 4:
                need += struct.unpack(">i", data)[0]
        return data[4:]

    def connect(self, port):
        sock = socket.create_connection(("127.0.0.1", port), timeout=0.5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        hello = struct.pack(">iqiqi", 0, 0, 10_000, self.session, 16) + self.password + b"\0"
        sock.sendall(struct.pack(">i", len(hello)) + hello)
        answer = self.frame(sock)
        if struct.unpack(">i", answer[4:8])[0] <= 0:
            self.session, self.password = 0, bytes(16)
            raise OSError("the session is over")
        self.session = struct.unpack(">q", answer[8:16])[0]
        self.password = answer[20:36]
        # The answer to one request may take a whole election.
        sock.settimeout(5)
        return sock

    def run(self):
        turn, name = random.randrange(len(self.ports)), self.path.encode()
        while not self.over:
            turn += 1
            try:
                with self.connect(self.ports[turn % len(self.ports)]) as sock:
                    xid = 0
                    while not self.over:
                        xid += 1
                        body = struct.pack(">iii", xid, 5, len(name)) + name
                        body += struct.pack(">i", 1) + b"x" + struct.pack(">i", -1)
                        sock.sendall(struct.pack(">i", len(body)) + body)
                        error = struct.unpack(">i", self.frame(sock)[12:16])[0]
                        if error == 0:
                            self.acknowledged.append(time.monotonic())
                        time.sleep(0.002)
            except OSError:
                time.sleep(self.pause)


def make_node(port, path):
    writer = Writer([port], path, 0.01)
    with writer.connect(port) as sock:
        name = path.encode()
        body = struct.pack(">iii", 1, 1, len(name)) + name + struct.pack(">i", 0)
        body += struct.pack(">iii", 1, 31, 5) + b"world" + struct.pack(">i", 6) + b"anyone"
        body += struct.pack(">i", 0)
        sock.sendall(struct.pack(">i", len(body)) + body)
        writer.frame(sock)


def failover(ensemble, how):
    """Seconds from the signal to the first acknowledged write of the slowest client."""
    leader = ensemble.leader()
    if leader is None:
        raise LaunchFailed(f"{ensemble.kind} has no leader:\n" + ensemble.servers[0].log_tail())
    ports = [server.port for server in ensemble.servers]
    path = f"/failover-{time.time_ns():x}"
    make_node(leader.port, path)
    writers = [Writer(ports, path, 0.01) for _ in range(3)]
    for writer in writers:
        writer.start()
    time.sleep(1)
    leader.process.send_signal(how)
    began = time.monotonic()
    waits = []
    for writer in writers:
        while not any(at > began + 0.01 for at in writer.acknowledged[-5:]):
            if time.monotonic() > began + 60:
                raise LaunchFailed(f"{ensemble.kind}: a client found no server in 60 s")
            time.sleep(0.002)
        waits.append(next(at for at in writer.acknowledged if at > began + 0.01) - began)
    for writer in writers:
        writer.over = True
    if how == signal.SIGSTOP:
        leader.process.send_signal(signal.SIGCONT)
    else:
        leader.process.wait()
        leader.start()
    deadline = time.monotonic() + 60
    while ensemble.leader() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    return max(waits)


def run_cells(chosen, bench, ensembles):
    cells = [cell for cell in CELLS if re.search(chosen.only, cell.name)]
    results = {cell.name: {kind: [] for kind in ensembles} for cell in cells}
    times = ["--duration", f"{chosen.seconds}s", "--warmup", f"{chosen.warmup}s"]
    for kind, ensemble in ensembles.items():
        single.say(f"warming up {kind}")
        for args in WARMUP:
            bench(ensemble, args, "--duration", f"{chosen.seconds}s", "--warmup", "0s")
    for turn in range(chosen.rounds):
        for number, cell in enumerate(cells):
            kinds = list(ensembles)
            if (turn + number) % 2:
                kinds.reverse()
            for kind in kinds:
                settle(ensembles.values())
                results[cell.name][kind].append(bench(ensembles[kind], cell.args, *times))
            single.say(f"round {turn + 1} of {chosen.rounds}: {cell.name}: "
                       + tables.in_short(results[cell.name]))
    return results


def options():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--binary", type=Path, help="quorate to measure [default: build it]")
    parser.add_argument("--rounds", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--quick", action="store_true", help="a look, not a measurement")
    parser.add_argument("--only", default="", help="cells whose name matches this expression")
    parser.add_argument("--failovers", type=int, default=10)
    parser.add_argument("--stops", type=int, default=3)
    parser.add_argument("--data", type=Path, default=ROOT / "target" / "bench")
    parser.add_argument("--out", type=Path, default=ROOT / "target" / "bench-results")
    awake_option(parser)
    chosen = parser.parse_args()
    chosen.rounds = chosen.rounds or (2 if chosen.quick else 5)
    chosen.seconds = chosen.seconds or (1.0 if chosen.quick else 3.0)
    chosen.warmup = 0.5
    return chosen


def row(cell, results):
    columns = [cell.name]
    for kind in ("zookeeper", "subject"):
        rates = tables.median(tables.values(results[kind], "rate"))
        columns.append(f"{tables.number(rates)}/s")
    for figure in ("rate", "p99", "cpu"):
        columns.append(tables.number(tables.ratio(results, figure)))
    columns.append(", ".join(str(target) for target in cell.targets))
    return "| " + " | ".join(columns) + " |"


def main():
    chosen = options()
    with chosen.awake():
        compare(chosen)


def compare(chosen):
    bench = single.Bench(single.binary(chosen))
    ensembles = {"zookeeper": Ensemble("zookeeper", chosen, bench.binary),
                 "subject": Ensemble("quorate", chosen, bench.binary)}
    results = {"rounds": chosen.rounds, "seconds": chosen.seconds, "load": os.getloadavg()}
    try:
        for ensemble in ensembles.values():
            ensemble.start()
        results["cells"] = run_cells(chosen, bench, ensembles)
        for name, how, times in (("kill -9", signal.SIGKILL, chosen.failovers),
                                 ("kill -STOP", signal.SIGSTOP, chosen.stops)):
            results[name] = {kind: [] for kind in ensembles}
            for turn in range(times):
                for kind, ensemble in ensembles.items():
                    results[name][kind].append(failover(ensemble, how))
                single.say(f"{name} {turn + 1}: " + ", ".join(
                    f"{kind} {waits[-1]:.3f} s" for kind, waits in results[name].items()))
    finally:
        for ensemble in ensembles.values():
            ensemble.discard()
    lines = ["| cell | ZooKeeper | Quorate | ratio | p99 ratio | CPU ratio | asked for |",
             "| --- | ---: | ---: | ---: | ---: | ---: | --- |"]
    lines += [row(cell, results["cells"][cell.name])
              for cell in CELLS if cell.name in results["cells"]]
    lines += ["", "| leader | ZooKeeper, median s | Quorate, median s | most |",
              "| --- | ---: | ---: | ---: |"]
    for name in ("kill -9", "kill -STOP"):
        if results[name]["subject"]:
            theirs, ours = results[name]["zookeeper"], results[name]["subject"]
            lines.append(f"| {name} | {statistics.median(theirs):.3f} | "
                         f"{statistics.median(ours):.3f} | {max(ours):.3f} |")
    chosen.out.mkdir(parents=True, exist_ok=True)
    (chosen.out / "ensemble.json").write_text(json.dumps(results, indent=1))
    (chosen.out / "ensemble.md").write_text("\n".join(lines) + "\n")
    print("\n".join(lines))


if __name__ == "__main__":
    try:
        main()
    except LaunchFailed as error:
        sys.exit(f"error: {error}")
