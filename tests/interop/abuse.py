#!/usr/bin/env python3
"""Clients that misbehave: the server stays up and bounded, and others keep being served.

    abuse.py --kind quorate:target/release/quorate
    abuse.py --kind zookeeper
"""

import argparse
import os
import socket
import sys
import threading
import time

import harness
import wire
from probe import eq, ok, true

# What a misbehaving client may cost, over what the server had before.
GROWTH_MAX = 200 << 20
LATENCY_MAX_S = 1.0


def resident(server):
    """Bytes of memory that the server holds."""
    pages = int(open(f"/proc/{server.process.pid}/statm", encoding="ascii").read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


class Bystander:
    """An ordinary client that reads and writes all the while; keeps its worst latency."""

    def __init__(self, server):
        self.connection = wire.open_session(server.address, timeout=30_000)
        self.path = f"/bystander-{time.time_ns():x}"
        ok(self.connection.call(wire.CREATE, wire.create(self.path)))
        self.worst, self.rounds, self.failure = 0.0, 0, None
        self.stopping = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            while not self.stopping.is_set():
                begun = time.monotonic()
                ok(self.connection.call(wire.SET_DATA, wire.set_data(self.path, b"x")))
                ok(self.connection.call(wire.GET_DATA, wire.path_watch(self.path)))
                self.worst = max(self.worst, time.monotonic() - begun)
                self.rounds += 1
                time.sleep(0.01)
        except Exception as error:  # noqa: BLE001 - reported by the check
            self.failure = error

    def finish(self):
        self.stopping.set()
        self.thread.join(30)
        if self.failure:
            raise self.failure
        true(self.rounds > 0, "the bystander was served")
        true(self.worst <= LATENCY_MAX_S, f"the bystander waited {self.worst:.2f} s")
        self.connection.close_session()


def huge_length(server):
    """A frame of 2 GB is announced, and some of it sent."""
    for before in (True, False):
        for length in ((1 << 31) - 1, 1 << 30, -(1 << 31)):
            connection = wire.Connection(server.address) if before else \
                wire.open_session(server.address)
            connection.send_bytes(wire.i32(length) + b"x" * 65536)
            eq(connection.receive(), wire.CLOSED, f"length {length}")
            connection.drop()


def never_reads(server, count=4):
    """Clients that ask for a lot and read nothing."""
    seeder = wire.open_session(server.address)
    path = f"/large-{time.time_ns():x}"
    ok(seeder.call(wire.CREATE, wire.create(path, b"d" * 500_000)))
    request = wire.i32(1) + wire.i32(wire.GET_DATA) + wire.path_watch(path)
    frame = wire.i32(len(request)) + request
    deaf = []
    for _ in range(count):
        connection = wire.open_session(server.address, timeout=30_000)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sock.settimeout(0.2)
        try:
            for _ in range(400):
                connection.sock.sendall(frame * 5)
        except OSError:
            pass
        deaf.append(connection)
    time.sleep(2)
    for connection in deaf:
        connection.drop()
    seeder.close_session()


def deaf_watchers(server, count=20):
    """Clients that watch a busy znode and never read their events."""
    writer = wire.open_session(server.address)
    path = f"/busy-{time.time_ns():x}"
    ok(writer.call(wire.CREATE, wire.create(path)))
    deaf = []
    for _ in range(count):
        connection = wire.open_session(server.address, timeout=30_000)
        connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        ok(connection.call(wire.ADD_WATCH, wire.path_int(path, 1)))
        deaf.append(connection)
    for _ in range(3000):
        ok(writer.call(wire.SET_DATA, wire.set_data(path)))
    for connection in deaf:
        connection.drop()
    writer.close_session()


def byte_by_byte(server, count=100):
    """Many clients that take their time over the handshake."""
    frame = wire.connect_request()
    frame = wire.i32(len(frame)) + frame
    slow = [wire.Connection(server.address) for _ in range(count)]
    for byte in frame[:20]:
        for connection in slow:
            connection.send_bytes(bytes([byte]))
        time.sleep(0.1)
    for connection in slow:
        connection.drop()


def opened_and_dropped(server, count=10_000):
    """Sockets that are opened and closed again, some in the middle of a handshake."""
    for number in range(count):
        sock = socket.create_connection(server.address, 5)
        if number % 3 == 1:
            sock.sendall(b"\0\0")
        elif number % 3 == 2:
            sock.sendall(wire.i32(45) + wire.connect_request()[:30])
        if number % 2:
            # Reset rather than closed.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        sock.close()


def noise(server, count=500):
    """Random bytes, as a handshake and as requests."""
    for number in range(count):
        junk = os.urandom(200)
        connection = wire.Connection(server.address) if number % 2 else \
            wire.open_session(server.address, timeout=4000)
        connection.send_frame(junk)
        connection.drop()


def endless_pipeline(server):
    """One connection sends writes without waiting, and is answered all of them in order."""
    connection = wire.open_session(server.address, timeout=30_000)
    path = f"/pipe-{time.time_ns():x}"
    ok(connection.call(wire.CREATE, wire.create(path)))
    count, first = 50_000, connection.next_xid + 1
    body = wire.set_data(path, b"x" * 100)
    sender = threading.Thread(target=lambda: [
        connection.send_bytes(b"".join(
            wire.i32(8 + len(body)) + wire.i32(xid) + wire.i32(wire.SET_DATA) + body
            for xid in range(first + start, first + start + 1000)))
        for start in range(0, count, 1000)])
    connection.sock.settimeout(60)
    sender.start()
    for number in range(count):
        reply = ok(connection.next())
        eq(reply.xid, first + number, "order of replies")
    sender.join()
    connection.close_session()


def sessions_left_behind(server, count=2000):
    """Sessions that are opened and never closed."""
    for _ in range(count):
        wire.open_session(server.address, timeout=4000).drop()


ABUSES = [huge_length, never_reads, deaf_watchers, byte_by_byte, opened_and_dropped, noise,
          endless_pipeline, sessions_left_behind]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True,
                        help="`zookeeper` or `quorate:<path of the binary>`")
    parser.add_argument("--only", help="abuses whose name contains this")
    arguments = parser.parse_args()
    checks = harness.Checks("abuse")
    for abuse in ABUSES:
        if arguments.only and arguments.only not in abuse.__name__:
            continue

        def action(abuse=abuse):
            with harness.launch(arguments.kind) as server:
                before = resident(server)
                bystander = Bystander(server)
                abuse(server)
                bystander.finish()
                true(server.process.poll() is None, "the server is up")
                growth = resident(server) - before
                # A JVM's heap grows as it likes.
                if arguments.kind != "zookeeper":
                    true(growth <= GROWTH_MAX, f"memory grew by {growth >> 20} MiB")

        checks.run(abuse.__name__.replace("_", " "), action)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
