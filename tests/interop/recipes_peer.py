#!/usr/bin/env python3
"""The kazoo side of recipes_matrix.py: rust/src/main.rs says what is asked and answered.

    recipes_peer.py HOSTS SESSION_MS [FAULT]

In Curator's layouts stock kazoo excludes nobody: there it takes part with the subclasses below,
which differ from kazoo's own recipes in the names of their znodes and in nothing else. FAULT is one
that recipes_matrix.py plants.
"""

import datetime
import logging
import sys
import threading

from kazoo.client import KazooClient
from kazoo.recipe.barrier import Barrier, DoubleBarrier
from kazoo.recipe.counter import Counter
from kazoo.recipe.election import Election
from kazoo.recipe.lease import MultiNonBlockingLease, NonBlockingLease
from kazoo.recipe.lock import Lock, ReadLock, Semaphore, WriteLock
from kazoo.recipe.partitioner import SetPartitioner
from kazoo.recipe.party import Party, ShallowParty
from kazoo.recipe.queue import LockingQueue, Queue
from kazoo.retry import KazooRetry

FAULT = sys.argv[3] if len(sys.argv) > 3 else None


class CuratorLock(Lock):
    """Meets Curator's InterProcessMutex and LeaderSelector."""

    _NODE_NAME = "-lock-"
    _EXCLUDE_NAMES = ["-lock-"]


class CuratorLatch(Lock):
    """Meets Curator's LeaderLatch."""

    _NODE_NAME = "-latch-"
    _EXCLUDE_NAMES = ["-latch-"]


class CuratorWriteLock(Lock):
    """Meets Curator's InterProcessReadWriteLock."""

    _NODE_NAME = "-__WRIT__"
    _EXCLUDE_NAMES = ["__WRIT__", "__READ__"]


class CuratorReadLock(Lock):
    _NODE_NAME = "-__READ__"
    _EXCLUDE_NAMES = ["__WRIT__"]


class GateOf:
    """kazoo's client, whose locks are Curator's: the semaphore asks it for its gate."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        return getattr(self._client, name)

    def Lock(self, path, identifier):  # noqa: N802 - kazoo's name
        return CuratorLock(self._client, path, identifier)


class CuratorSemaphore(Semaphore):
    """Meets Curator's InterProcessSemaphoreV2."""

    def __init__(self, client, path, identifier, max_leases):
        super().__init__(GateOf(client), path + "/leases", identifier, max_leases)
        self.lock_path = path + "/locks"

    def _ensure_path(self):
        # The maximum is not agreed on in a znode there.
        self.client.ensure_path(self.path)
        self.assured_path = True


if FAULT == "prefix":  # stock kazoo's name where Curator's is agreed on
    CuratorLock._NODE_NAME = "__lock__"
    CuratorLock._EXCLUDE_NAMES = ["__lock__"]
elif FAULT == "impatient":  # holds without waiting for whoever is in front
    CuratorLock._get_predecessor = lambda self, node: None
    CuratorReadLock._get_predecessor = lambda self, node: None
    CuratorSemaphore._get_lease = lambda self, data=None: bool(
        self.client.create(self.create_path, self.data, ephemeral=True))
elif FAULT == "nameless":  # its znode does not say whose it is
    _acquire = CuratorLatch.acquire
    CuratorLatch.acquire = lambda self: setattr(self, "data", b"") or _acquire(self)


class Member:
    """One process: what it holds, by the name that its znodes say."""

    def __init__(self, client):
        self.client = client
        self.held = {}

    def carry_out(self, words):
        if words[0] == "take":
            identifier, kind, layout, path, *rest = words[1:]
            take = getattr(self, "take_" + kind.replace("-", "_"))
            self.held[identifier] = take(identifier, layout, path, *rest)
            return ""
        if words[0] == "give":
            self.held.pop(words[1]).give()
            return ""
        if words[0] == "items":
            return ",".join(self.held[words[1]].items)
        _, kind, layout, path, *rest = words
        return getattr(self, "ask_" + kind.replace("-", "_"))(layout, path, *rest)

    # -- what is held --

    def acquired(self, lock):
        if lock.acquire() is not True:
            raise RuntimeError("acquire does not say that it is held")
        return Held(lock.release)

    def lock_class(self, kind, layout):
        stock = {"mutex": Lock, "read": ReadLock, "write": WriteLock}
        curator = {"mutex": CuratorLock, "read": CuratorReadLock, "write": CuratorWriteLock}
        return (curator if layout == "curator" else stock)[kind]

    def take_mutex(self, identifier, layout, path):
        return self.acquired(self.lock_class("mutex", layout)(self.client, path, identifier))

    def take_read(self, identifier, layout, path):
        return self.acquired(self.lock_class("read", layout)(self.client, path, identifier))

    def take_write(self, identifier, layout, path):
        return self.acquired(self.lock_class("write", layout)(self.client, path, identifier))

    def take_semaphore(self, identifier, layout, path, count):
        kind = CuratorSemaphore if layout == "curator" else Semaphore
        return self.acquired(kind(self.client, path, identifier, int(count)))

    def take_semaphore_mutex(self, identifier, layout, path):
        return self.take_semaphore(identifier, layout, path, 1)

    def take_multi(self, identifier, layout, *paths):
        """kazoo has no such recipe: an application takes one after the other, in order."""
        held = [self.take_mutex(identifier, layout, path) for path in sorted(paths)]

        def give():
            for one in reversed(held):
                one.give()
        return Held(give)

    def elected(self, identifier, layout, path, curator):
        election = Election(self.client, path, identifier)
        if layout == "curator":
            election.lock = curator(self.client, path, identifier)
        leads, ends = threading.Event(), threading.Event()

        def lead():
            leads.set()
            ends.wait()
        thread = threading.Thread(target=election.run, args=(lead,), daemon=True)
        thread.start()
        leads.wait()

        def give():
            ends.set()
            thread.join()
        return Held(give)

    def take_latch(self, identifier, layout, path):
        return self.elected(identifier, layout, path, CuratorLatch)

    def take_selector(self, identifier, layout, path):
        return self.elected(identifier, layout, path, CuratorLock)

    def take_gate(self, _identifier, _layout, path):
        if not Barrier(self.client, path).wait(60):
            raise RuntimeError("the gate stays closed")
        return Held(lambda: None)

    def take_double(self, identifier, _layout, path, count):
        barrier = DoubleBarrier(self.client, path, int(count), identifier)
        barrier.enter()
        if not barrier.participating:
            raise RuntimeError("it did not enter")
        return Held(barrier.leave)

    def take_member(self, identifier, layout, path):
        kind = {"party": Party, "shallow": ShallowParty}[layout]
        party = kind(self.client, path, identifier)
        party.join()
        return Held(party.leave)

    def take_partitioner(self, identifier, _layout, path, *items):
        return Partition(self.client, path, identifier, items)

    def take_consume(self, _identifier, layout, path, _order="fifo"):
        return Consumer(self.client, path, layout)

    def take_follow_value(self, _identifier, _layout, path):
        held = Held(lambda: None)
        self.client.ensure_path(path)
        self.client.DataWatch(
            path, lambda data, stat: held.items.append((data or b"").decode()))
        return held

    # -- what is asked --

    def ask_gate(self, _layout, path, what):
        gate = Barrier(self.client, path)
        (gate.create if what == "close" else gate.remove)()
        return ""

    def ask_members(self, layout, path):
        kind = {"party": Party, "shallow": ShallowParty}[layout]
        return ",".join(sorted(kind(self.client, path)))

    def ask_counter(self, layout, path, what, delta="0"):
        counter = Counter(self.client, path,
                          support_curator=layout == "int" and FAULT != "digits")
        if what == "add":
            # The retry of the client gives up after a few tries, which is not what is tested.
            counter.client = Retrying(self.client)
            counter += int(delta)
        return str(counter.value)

    def ask_count(self, _layout, path, what, number="0"):
        if what == "set":
            value = int(number).to_bytes(4, "big", signed=True)
            self.client.ensure_path(path)
            self.client.set(path, value)
            return ""
        return self.ask_counter("int", path, what, number)

    def ask_value(self, _layout, path, what, value=""):
        if what == "set":
            self.client.ensure_path(path)
            self.client.set(path, value.encode())
            return value
        return self.client.get(path)[0].decode()

    def ask_lease(self, _layout, path, holder, seconds):
        time_kept = datetime.timedelta(seconds=int(seconds))
        return str(bool(NonBlockingLease(self.client, path, time_kept, holder))).lower()

    def ask_multi_lease(self, _layout, path, holder, seconds):
        time_kept = datetime.timedelta(seconds=int(seconds))
        return str(bool(MultiNonBlockingLease(self.client, 2, path, time_kept, holder))).lower()

    def ask_put(self, layout, path, _order, body, wish="100"):
        kind = {"kazoo": Queue, "locking": LockingQueue}[layout]
        kind(self.client, path).put(body.encode(), int(wish))
        return ""

    def ask_leader(self, layout, path, kind):
        curator = CuratorLock if kind == "selector" else CuratorLatch
        lock = (curator if layout == "curator" else Lock)(self.client, path)
        return (lock.contenders() or [""])[0]


class Retrying:
    """A client that retries as often as it takes."""

    def __init__(self, client):
        self._client = client
        self.retry = KazooRetry(max_tries=-1, delay=0.001, max_delay=0.02)

    def __getattr__(self, name):
        return getattr(self._client, name)


class Held:
    def __init__(self, give):
        self.give = give
        self.items = []


class Consumer(Held):
    """Takes items until it is told to stop."""

    def __init__(self, client, path, layout):
        super().__init__(self.stop)
        self.queue = {"kazoo": Queue, "locking": LockingQueue}[layout](client, path)
        self.stopped = threading.Event()
        self.failed = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped.is_set():
            try:
                if isinstance(self.queue, LockingQueue):
                    body = self.queue.get(0.1)
                    if body is not None:
                        self.items.append(body.decode())
                        if FAULT == "twice":
                            self.queue.release()
                        elif not self.queue.consume():
                            raise RuntimeError("it was another's")
                else:
                    body = self.queue.get()
                    if body is not None:
                        self.items.append(body.decode())
                    else:
                        self.stopped.wait(0.01)
            except Exception as error:  # noqa: BLE001 - told when it is given back
                self.failed = error
                return

    def stop(self):
        self.stopped.set()
        self.thread.join()
        if self.failed:
            raise self.failed


class Partition(Held):
    """A member of a SetPartitioner, driven as kazoo's documentation says."""

    def __init__(self, client, path, identifier, items):
        super().__init__(self.stop)
        self.stopped = threading.Event()
        self.partitioner = SetPartitioner(client, path, items, identifier=identifier,
                                          time_boundary=0.3)
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        while not self.stopped.is_set():
            if self.partitioner.failed:
                self.items = []
                return
            if self.partitioner.release:
                self.items = []
                self.partitioner.release_set()
            elif self.partitioner.acquired:
                self.items = [str(item) for item in self.partitioner]
                self.stopped.wait(0.02)
            else:
                self.partitioner.wait_for_acquire(0.1)

    def stop(self):
        self.stopped.set()
        self.thread.join()
        self.items = []
        self.partitioner.finish()


def main():
    logging.disable(logging.CRITICAL)
    client = KazooClient(hosts=sys.argv[1], timeout=int(sys.argv[2]) / 1000)
    client.start(timeout=15)
    member = Member(client)
    writing = threading.Lock()

    def say(line):
        with writing:
            sys.stdout.write(line.rstrip() + "\n")
            sys.stdout.flush()

    def carry_out(number, words):
        try:
            say(f"{number} ok {member.carry_out(words)}")
        except Exception as error:  # noqa: BLE001 - the matrix judges
            text = " ".join(f"{type(error).__name__} {error}".split())
            say(f"{number} error {text}")

    say("0 ok")
    for line in sys.stdin:
        number, *words = line.split()
        threading.Thread(target=carry_out, args=(number, words), daemon=True).start()


if __name__ == "__main__":
    main()
