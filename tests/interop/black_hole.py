#!/usr/bin/env python3
"""What other clients know when their connection is swallowed: kazoo and Curator.

    black_hole.py --kind zookeeper --runs 20

Each client holds an ephemeral znode through a proxy. At a random moment the proxy swallows all
bytes, in both directions, of standing connections and of new ones. The server ends the session
and frees the znode, as a lock would be freed. The margin is that moment minus the one when the
client said that its session is lost: positive if the client knew first, `never` if it said
nothing in three session timeouts. client/tests/black_hole.rs measures our client in the same way.
"""

import argparse
import logging
import random
import socket
import statistics
import subprocess
import sys
import threading
import time

import curator
import harness

TIMEOUT_MS = 1500


class Proxy:
    """Carries bytes until it swallows them."""

    def __init__(self, target):
        self.target, self.swallows = target, False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.hosts = f"127.0.0.1:{self.listener.getsockname()[1]}"
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            near, _ = self.listener.accept()
            far = socket.create_connection(self.target)
            for pair in ((near, far), (far, near)):
                for sock in pair:
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                threading.Thread(target=self.carry, args=pair, daemon=True).start()

    def carry(self, source, sink):
        try:
            while data := source.recv(65536):
                if not self.swallows:
                    sink.sendall(data)
        except OSError:
            pass
        # An end is swallowed like everything else.
        if not self.swallows:
            for sock in (source, sink):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass


def kazoo_client(hosts, timeout_ms=TIMEOUT_MS):
    from kazoo.client import KazooClient
    return KazooClient(hosts=hosts, timeout=timeout_ms / 1000)


class Run:
    """One client's: when it was suspended and lost, when the server freed its znode."""

    def __init__(self, path):
        self.path, self.suspended, self.lost, self.freed = path, None, None, None

    def says(self, state, now):
        if state == "SUSPENDED" and self.suspended is None:
            self.suspended = now
        if state == "LOST" and self.lost is None:
            self.lost = now


def swallow(proxies, runs, witness):
    """Swallows at random moments, and waits until all is over."""
    for run in runs:
        def gone(_, run=run):
            run.freed = time.time()
        assert witness.exists(run.path, watch=gone), run.path
    began = time.time()
    moments = sorted(((random.random() * TIMEOUT_MS / 1000, n) for n in range(len(proxies))))
    for moment, number in moments:
        time.sleep(max(0.0, began + moment - time.time()))
        proxies[number].swallows = True
    deadline = time.time() + 10
    while any(run.freed is None for run in runs) and time.time() < deadline:
        time.sleep(0.02)
    time.sleep(3 * TIMEOUT_MS / 1000)


def kazoo_runs(server, count, witness):
    proxies = [Proxy(server.address) for _ in range(count)]
    runs = [Run(f"/hole-kazoo-{n}") for n in range(count)]
    for proxy, run in zip(proxies, runs):
        client = kazoo_client(proxy.hosts)
        client.add_listener(lambda state, run=run: run.says(str(state), time.time()) and None)
        client.start()
        client.create(run.path, ephemeral=True)
    swallow(proxies, runs, witness)
    return runs


def curator_runs(server, count, witness):
    classes = curator.compiled()
    proxies = [Proxy(server.address) for _ in range(count)]
    runs = [Run(f"/hole-curator-{n}") for n in range(count)]
    program = subprocess.Popen(
        ["java", *harness.JAVA_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
         f"{classes}:{harness.classpath('curator')}", "BlackHoleProgram", str(TIMEOUT_MS),
         *(proxy.hosts for proxy in proxies)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    ready = threading.Semaphore(0)

    def listen():
        for line in program.stdout:
            state, number, milliseconds = line.split()
            if state == "READY":
                ready.release()
            else:
                runs[int(number)].says(state, int(milliseconds) / 1000)
    threading.Thread(target=listen, daemon=True).start()
    for _ in runs:
        assert ready.acquire(timeout=60), "Curator does not get ready"
    swallow(proxies, runs, witness)
    program.kill()
    program.wait()
    return runs


def summary(name, runs):
    def margins(of):
        return [round((run.freed - of(run)) * 1000) for run in runs if of(run) is not None]

    lost, suspended = margins(lambda run: run.lost), margins(lambda run: run.suspended)
    never = len(runs) - len(lost)
    late = sum(margin < 0 for margin in lost)

    def span(values):
        if not values:
            return "–"
        return f"{min(values)} … {statistics.median(values):.0f} … {max(values)}"
    print(f"| {name} | {len(runs)} | {never} | {late} | {span(lost)} | {span(suspended)} |",
          flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_server_options(parser)
    parser.add_argument("--runs", type=int, default=20)
    arguments = parser.parse_args()
    logging.disable(logging.CRITICAL)
    with harness.server_from(arguments, tick_time=100, min_session_timeout=200) as server:
        witness = kazoo_client(server.hosts, 20_000)
        witness.start()
        print("| client | runs | never said lost | said it too late | margin of lost, ms: least … "
              "median … most | margin of suspended |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for name, measure in (("kazoo", kazoo_runs), ("Curator", curator_runs)):
            summary(name, measure(server, arguments.runs, witness))


if __name__ == "__main__":
    sys.exit(main())
