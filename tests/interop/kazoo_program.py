#!/usr/bin/env python3
"""A program of kazoo's: what an application does with a coordination service, start to end.

Run it with the Python of the cache that setup.sh fills.

    kazoo_program.py --kind zookeeper
    kazoo_program.py --kind quorate:target/release/quorate
    kazoo_program.py --server 127.0.0.1:2181
"""

import argparse
import logging
import sys
import threading
import time

from kazoo.client import KazooClient, KazooState
from kazoo.exceptions import (BadVersionError, NoAuthError, NodeExistsError, NoNodeError,
                              NotEmptyError, RolledBackError, RuntimeInconsistency)
from kazoo.protocol.states import EventType
from kazoo.security import CREATOR_ALL_ACL, make_digest_acl

import harness

PATIENCE = 15


def same(actual, expected):
    assert actual == expected, f"expected {expected!r}, got {actual!r}"


def raises(kind, action, *arguments, **options):
    try:
        result = action(*arguments, **options)
    except kind:
        return
    raise AssertionError(f"expected {kind.__name__}, got {result!r}")


class Program:
    def __init__(self, server):
        self.server = server
        self.clients = []
        self.root = f"/kazoo-{time.time_ns():x}"

    def client(self, **options):
        zk = KazooClient(hosts=self.server.hosts, timeout=options.pop("timeout", 10), **options)
        zk.start(timeout=PATIENCE)
        self.clients.append(zk)
        return zk

    def path(self, name):
        return f"{self.root}/{name}"

    def close(self):
        for zk in self.clients:
            zk.stop()
            zk.close()

    # -- the program --

    def create_get_set_delete(self):
        zk, path = self.client(), self.path("basic")
        same(zk.create(path, b"one", makepath=True), path)
        data, stat = zk.get(path)
        same((data, stat.version, stat.dataLength), (b"one", 0, 3))
        same(zk.set(path, b"two").version, 1)
        raises(BadVersionError, zk.set, path, b"three", version=0)
        raises(NodeExistsError, zk.create, path)
        zk.create(path + "/child")
        raises(NotEmptyError, zk.delete, path)
        same(zk.get_children(path), ["child"])
        children, stat = zk.get_children(path, include_data=True)
        same((children, stat.numChildren, stat.cversion), (["child"], 1, 1))
        zk.delete(path, recursive=True)
        same(zk.exists(path), None)
        raises(NoNodeError, zk.get, path)
        created, stat = zk.create(path, b"x", include_data=True)
        same((created, stat.version), (path, 0))
        same(zk.sync(path), path)

    def chroot_is_the_clients_business(self):
        zk, path = self.client(), self.path("chroot")
        zk.ensure_path(path)
        inner = KazooClient(hosts=self.server.hosts + path)
        inner.start(timeout=PATIENCE)
        self.clients.append(inner)
        same(inner.create("/a/b", b"x", makepath=True), "/a/b")
        same(zk.get(path + "/a/b")[0], b"x")

    def watches_fire_once(self):
        zk, other, path = self.client(), self.client(), self.path("watch")
        seen, done = [], threading.Event()

        def watcher(event):
            seen.append((event.type, event.path))
            if len(seen) == 3:
                done.set()

        same(zk.exists(path, watch=watcher), None)
        other.create(path, b"1", makepath=True)
        self.until(lambda: len(seen) == 1)
        zk.get(path, watch=watcher)
        other.set(path, b"2")
        other.set(path, b"3")
        self.until(lambda: len(seen) == 2)
        zk.get_children(path, watch=watcher)
        other.create(path + "/x")
        assert done.wait(PATIENCE), f"only {seen}"
        same(seen, [(EventType.CREATED, path), (EventType.CHANGED, path),
                    (EventType.CHILD, path)])

    def data_watch_and_children_watch_follow(self):
        zk, other, path = self.client(), self.client(), self.path("follow")
        zk.ensure_path(path)
        values, lists = [], []
        zk.DataWatch(path, lambda data, stat: values.append(data))
        zk.ChildrenWatch(path, lambda names: lists.append(sorted(names)))
        for number in range(3):
            other.set(path, b"%d" % number)
            self.until(lambda: values[-1] == b"%d" % number)
        for name in "ab":
            other.create(f"{path}/{name}")
            self.until(lambda: name in lists[-1])
        other.delete(path + "/a")
        self.until(lambda: lists[-1] == ["b"])

    def a_transaction_is_all_or_nothing(self):
        zk, path = self.client(), self.path("multi")
        zk.ensure_path(path)
        transaction = zk.transaction()
        transaction.create(path + "/a", b"1")
        transaction.check(path, 0)
        transaction.set_data(path + "/a", b"2")
        transaction.create(path + "/b", ephemeral=True, sequence=True)
        transaction.delete(path + "/a", 1)
        results = transaction.commit()
        same((results[0], results[1], results[4]), (path + "/a", True, True))
        same((results[2].version, results[3]), (1, path + "/b0000000001"))
        transaction = zk.transaction()
        transaction.create(path + "/c")
        transaction.check(path, 7)
        transaction.delete(path)
        results = transaction.commit()
        same([type(r) for r in results], [RolledBackError, BadVersionError, RuntimeInconsistency])
        same(zk.exists(path + "/c"), None)

    def ephemerals_go_with_their_session(self):
        zk, other, path = self.client(), self.client(), self.path("ephemeral")
        zk.ensure_path(path)
        zk.create(path + "/e", b"x", ephemeral=True)
        same(other.exists(path + "/e").ephemeralOwner, zk.client_id[0])
        zk.stop()
        same(other.exists(path + "/e"), None)

    def sequential_names_count_up(self):
        zk, path = self.client(), self.path("sequential")
        zk.ensure_path(path)
        names = [zk.create(path + "/n-", sequence=True) for _ in range(3)]
        zk.delete(names[0])
        names.append(zk.create(path + "/n-", sequence=True))
        same(names, [f"{path}/n-{n:010}" for n in range(4)])

    def digest_auth_guards_a_znode(self):
        zk, stranger, path = self.client(), self.client(), self.path("auth")
        zk.add_auth("digest", "alice:secret")
        zk.create(path, b"private", acl=CREATOR_ALL_ACL, makepath=True)
        raises(NoAuthError, stranger.get, path)
        same(zk.get(path)[0], b"private")
        same(zk.get_acls(path)[0], [make_digest_acl("alice", "secret", all=True)])
        stranger.add_auth("digest", "alice:secret")
        same(stranger.get(path)[0], b"private")
        zk.set_acls(path, [make_digest_acl("bob", "other", read=True),
                           make_digest_acl("alice", "secret", admin=True)])
        raises(NoAuthError, zk.get, path)

    def auth_data_are_sent_at_connect_too(self):
        zk = self.client(auth_data=[("digest", "alice:secret")])
        path = self.path("auth2")
        zk.create(path, b"private", acl=CREATOR_ALL_ACL, makepath=True)
        raises(NoAuthError, self.client().get, path)

    def a_lock_has_one_holder(self):
        path, held, counts = self.path("lock"), [], []

        def contend(name):
            lock = self.client().Lock(path, name)
            for _ in range(5):
                with lock:
                    held.append(name)
                    counts.append(len(held))
                    time.sleep(0.005)
                    held.remove(name)

        threads = [threading.Thread(target=contend, args=(f"c{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        same((len(counts), max(counts)), (20, 1))

    def a_lock_of_a_dead_session_is_taken_over(self):
        path = self.path("takeover")
        first, second = self.client(timeout=4), self.client()
        first.Lock(path).acquire(timeout=PATIENCE)
        lock = second.Lock(path)
        same(lock.acquire(blocking=False), False)
        first.stop()
        same(lock.acquire(timeout=PATIENCE), True)

    def other_recipes_work(self):
        zk = self.client()
        counter = zk.Counter(self.path("counter"))
        for _ in range(5):
            counter += 1
        same(counter.value, 5)
        queue = zk.LockingQueue(self.path("queue"))
        queue.put_all([b"a", b"b"])
        same(queue.get(timeout=PATIENCE), b"a")
        same(queue.consume(), True)
        semaphore = zk.Semaphore(self.path("semaphore"), max_leases=1)
        with semaphore:
            same(zk.Semaphore(self.path("semaphore"), max_leases=1).acquire(blocking=False), False)
        led = []
        election = zk.Election(self.path("election"), "me")
        election.run(lambda: led.append(True))
        same(led, [True])
        party = zk.Party(self.path("party"), "me")
        party.join()
        same(list(party), ["me"])
        barrier = zk.DoubleBarrier(self.path("barrier"), 2)
        other = self.client().DoubleBarrier(self.path("barrier"), 2)
        threads = [threading.Thread(target=one.enter) for one in (barrier, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        same((barrier.participating, other.participating), (True, True))

    def a_lost_connection_keeps_the_session(self):
        zk, path = self.client(), self.path("reconnect")
        zk.ensure_path(path)
        zk.create(path + "/e", ephemeral=True)
        session, states = zk.client_id, []
        zk.add_listener(states.append)
        zk._connection._socket.shutdown(2)
        self.until(lambda: KazooState.CONNECTED in states)
        same(states[0], KazooState.SUSPENDED)
        same(zk.client_id, session)
        assert zk.exists(path + "/e"), "the ephemeral is there"

    def an_expired_session_is_reported(self):
        zk, other, path = self.client(timeout=4), self.client(), self.path("expiry")
        other.ensure_path(path)
        zk.create(path + "/e", ephemeral=True)
        states = []
        zk.add_listener(states.append)
        # Somebody else takes the session and closes it, as an expiry does.
        thief = KazooClient(hosts=self.server.hosts, client_id=zk.client_id)
        thief.start(timeout=PATIENCE)
        thief.stop()
        self.until(lambda: KazooState.LOST in states)
        same(other.exists(path + "/e"), None)
        self.until(lambda: states[-1] == KazooState.CONNECTED)
        zk.create(path + "/e", ephemeral=True)

    def the_server_says_its_version(self):
        version = self.client().server_version()
        assert version >= (3, 9), version

    def admin_words_answer(self):
        zk = self.client()
        same(zk.command(b"ruok"), "imok")
        assert "Mode: standalone" in zk.command(b"srvr")

    def reconfig_is_refused(self):
        zk = self.client()
        raises(Exception, zk.reconfig, "", "1", "")
        same(zk.get("/zookeeper/config")[0], b"")

    def a_megabyte_less_a_bit_fits(self):
        zk, path = self.client(), self.path("large")
        data = b"x" * (1024 * 1024 - 300)
        zk.create(path, data, makepath=True)
        same(zk.get(path)[0], data)

    def many_requests_in_flight_keep_their_order(self):
        zk, path = self.client(), self.path("pipeline")
        zk.ensure_path(path)
        pending = [zk.create_async(f"{path}/n-", sequence=True) for _ in range(500)]
        same([p.get(timeout=PATIENCE) for p in pending], [f"{path}/n-{n:010}" for n in range(500)])
        same(len(zk.get_children(path)), 500)

    def until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition():
            assert time.monotonic() < end, "it does not come"
            time.sleep(0.01)


STEPS = [Program.create_get_set_delete, Program.chroot_is_the_clients_business,
         Program.watches_fire_once, Program.data_watch_and_children_watch_follow,
         Program.a_transaction_is_all_or_nothing, Program.ephemerals_go_with_their_session,
         Program.sequential_names_count_up, Program.digest_auth_guards_a_znode,
         Program.auth_data_are_sent_at_connect_too, Program.a_lock_has_one_holder,
         Program.a_lock_of_a_dead_session_is_taken_over, Program.other_recipes_work,
         Program.a_lost_connection_keeps_the_session, Program.an_expired_session_is_reported,
         Program.the_server_says_its_version, Program.admin_words_answer,
         Program.reconfig_is_refused, Program.a_megabyte_less_a_bit_fits,
         Program.many_requests_in_flight_keep_their_order]


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_server_options(parser)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.CRITICAL)
    checks = harness.Checks("kazoo")
    with harness.server_from(arguments) as server:
        for step in STEPS:
            program = Program(server)
            checks.run(step.__name__.replace("_", " "), lambda: step(program))
            program.close()
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
