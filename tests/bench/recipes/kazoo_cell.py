"""The kazoo side of run.py: src/main.rs says what a cell is.

    kazoo_cell.py CELL COUNT SERVER
"""

import itertools
import json
import logging
import os
import sys
import threading
import time

from kazoo.client import KazooClient
from kazoo.recipe.lock import Lock
from kazoo.recipe.queue import LockingQueue, Queue

CONTENDERS, PRODUCERS, CONSUMERS, OUTSTANDING = 8, 2, 4, 32
ITEM = b"x" * 100


def client(server):
    zk = KazooClient(hosts=server, timeout=30)
    zk.start(timeout=20)
    return zk


def now():
    return time.monotonic(), time.process_time()


def report(began, ended, count):
    print(json.dumps({"per_s": count / (ended[0] - began[0]),
                      "cpu_us": (ended[1] - began[1]) * 1e6 / count}))


def path(name):
    return f"/bench-{os.getpid()}-{name}"


def cycle(server, count):
    lock = Lock(client(server), path("cycle"))
    began = now()
    for number in range(count + count // 4):
        if number == count // 4:
            began = now()
        lock.acquire()
        lock.release()
    report(began, now(), count)


def handoff(server, count):
    held = itertools.count()
    first, last = count // 4, count // 4 + count
    moments = {}

    def contend(zk):
        lock = Lock(zk, path("handoff"))
        while True:
            lock.acquire()
            number = next(held)
            if number in (first, last):
                moments[number] = now()
            lock.release()
            if number >= last:
                return
    run_all([lambda zk=client(server): contend(zk) for _ in range(CONTENDERS)])
    report(moments[first], moments[last], count)


def queue(server, count, kind):
    clients = [client(server) for _ in range(PRODUCERS + CONSUMERS)]
    for name, items in (("warm-up", count // 8 * 2), ("queue", count)):
        left = [items]
        done = threading.Lock()

        def produce(zk):
            kind(zk, path(name))._ensure_paths()
            prefix = "/entries/entry-100-" if kind is LockingQueue else "/entry-100-"
            # put waits for each answer: what it sends is sent here with several on their way.
            open_puts = []
            for _ in range(items // PRODUCERS):
                open_puts.append(zk.create_async(path(name) + prefix, ITEM, sequence=True))
                if len(open_puts) >= OUTSTANDING:
                    open_puts.pop(0).get()
            for put in open_puts:
                put.get()

        def consume(zk):
            taking = kind(zk, path(name))
            while left[0] > 0:
                if kind is LockingQueue:
                    if taking.get(0.05) is None or not taking.consume():
                        continue
                elif taking.get() is None:
                    time.sleep(0.001)
                    continue
                with done:
                    left[0] -= 1
        began = now()
        run_all([lambda zk=zk: produce(zk) for zk in clients[:PRODUCERS]]
                + [lambda zk=zk: consume(zk) for zk in clients[PRODUCERS:]])
        ended = now()
    report(began, ended, count)


def run_all(actions):
    threads = [threading.Thread(target=action) for action in actions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def main():
    logging.disable(logging.CRITICAL)
    cell, count, server = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    {"cycle": cycle, "handoff": handoff,
     "queue": lambda *a: queue(*a, LockingQueue),
     "queue-once": lambda *a: queue(*a, Queue)}[cell](server, count)
    sys.stdout.flush()
    os._exit(0)


if __name__ == "__main__":
    main()
