#!/usr/bin/env python3
"""Moves a tree between a real ZooKeeper and Quorate by their data directories, and compares.

    datadir.py move --kind quorate:target/release/quorate
        A real server makes a tree of every kind of znode and is killed. Quorate starts on its
        directory, unchanged; the tree, the ACLs, the Stats and a live session must be there. It
        is stopped and exports; a real server starts on the export and must show the same tree.
    datadir.py boots EXPORTED --like DIRECTORY
        Real servers are started on copies of an exported directory and of the one that it was
        made from, and must show the same tree.

Run it with the Python of the cache that setup.sh fills.
"""

import argparse
import hashlib
import shutil
import subprocess
import sys
from pathlib import Path

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError
from kazoo.security import make_acl, make_digest_acl

import harness
import wire

PATIENCE = 20
EVERY_BYTE = bytes(range(256))
SESSION_TIMEOUT_MS = 40000


def check(condition, what):
    if not condition:
        raise AssertionError(what)


def same(found, expected, what):
    """Says which of many entries differ."""
    if isinstance(found, dict) and isinstance(expected, dict):
        for key in sorted(set(found) | set(expected)):
            check(found.get(key) == expected.get(key),
                  f"{what}: {key}: {found.get(key)!r} where {expected.get(key)!r} was expected")
    check(found == expected, f"{what}: {found!r} where {expected!r} was expected")


def client(server, **options):
    zk = KazooClient(hosts=server.hosts, timeout=20, **options)
    zk.start(timeout=PATIENCE)
    return zk


def dump(server):
    """All that a client can see: path → data, Stat, ACL."""
    zk = client(server, auth_data=[("digest", "super:test")])
    try:
        nodes, waiting = {}, ["/"]
        while waiting:
            path = waiting.pop()
            try:
                data, stat = zk.get(path)
                acl, _ = zk.get_acls(path)
                children = sorted(zk.get_children(path))
            except NoNodeError:
                continue
            acls = [(entry.perms, entry.id.scheme, entry.id.id) for entry in acl]
            nodes[path] = (data, tuple(stat), acls, children)
            waiting += [path.rstrip("/") + "/" + name for name in children]
        return nodes
    finally:
        zk.stop()
        zk.close()


def without(nodes, *paths):
    return {path: node for path, node in nodes.items() if path not in paths}


def fill(server):
    """Every kind of znode. Returns id and password of a session that stays alive."""
    zk = client(server, auth_data=[("digest", "alice:secret")])
    for n in range(40):
        zk.create(f"/tree/a/b{n}", f"data {n}".encode(), makepath=True)
    zk.create("/empty", b"")
    zk.create("/every-byte", EVERY_BYTE)
    zk.create("/ünïcode-日本", "日本".encode())
    zk.create("/large", b"x" * 900_000)
    for n in range(3):
        zk.create("/tree/seq-", b"", sequence=True)
    zk.delete("/tree/seq-0000000002")
    zk.create("/tree/seq-", b"after a delete", sequence=True)
    for n in range(3):
        zk.set("/tree/a", f"version {n}".encode())
    zk.create("/acl-digest", b"", acl=[make_digest_acl("alice", "secret", all=True)])
    zk.create("/acl-mixed", b"", acl=[make_acl("world", "anyone", read=True),
                                      make_acl("ip", "127.0.0.1/8", write=True),
                                      make_digest_acl("bob", "pw", all=True)])
    zk.create("/acl-changed", b"")
    zk.set_acls("/acl-changed", [make_digest_acl("alice", "secret", read=True, admin=True)])
    together = zk.transaction()
    together.create("/multi", b"")
    together.create("/multi/a", b"")
    together.set_data("/multi", b"changed")
    together.delete("/multi/a")
    together.commit()
    refused = zk.transaction()
    refused.create("/never", b"")
    refused.check("/multi", 99)
    refused.commit()
    zk.create("/zookeeper/quota/tree/zookeeper_limits", b"count=1000,bytes=-1", makepath=True)
    zk.create("/zookeeper/quota/tree/zookeeper_stats", b"count=0,bytes=0")
    zk.create("/ends-with-its-session", b"", ephemeral=True)
    zk.stop()
    zk.close()

    session = wire.open_session(server.address, timeout=SESSION_TIMEOUT_MS)
    for op, body in [
        (wire.CREATE_CONTAINER, wire.create("/container", b"c", flags=4)),
        (wire.CREATE2, wire.create("/container/child", b"")),
        (wire.CREATE_TTL, wire.create_ttl("/ttl", b"t", flags=5, ttl=86_400_000)),
        (wire.CREATE_TTL, wire.create_ttl("/ttl-seq-", b"t", flags=6, ttl=86_400_000)),
        (wire.CREATE2, wire.create("/null", None)),
        (wire.CREATE2, wire.create("/ephemeral", b"mine", flags=1)),
        (wire.CREATE2, wire.create("/tree/eph-seq-", b"", flags=3)),
    ]:
        reply = session.call(op, body)
        check(reply.err == 0, f"{op}: {reply!r}")
    session.drop()
    return session.session, session.password


def owned_by(nodes, session):
    return sorted(path for path, node in nodes.items() if node[1][7] == session)


def comes_back(server, session, password):
    """The session can be attached again with the password that ZooKeeper gave it."""
    connection = wire.Connection(server.address)
    answer = connection.handshake(session=session, password=password, timeout=SESSION_TIMEOUT_MS)
    check(connection.session == session, f"the session is gone: {answer!r}")
    reply = connection.call(wire.SET_DATA, wire.set_data("/ephemeral", b"still mine"))
    check(reply.err == 0, f"{reply!r}")
    connection.drop()


def prints_of(directory):
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*")) if path.is_file()
    }


def server_on(kind, directory=None, **settings):
    server = harness.Server(kind, **settings)
    if directory is not None:
        shutil.copytree(directory, server.data_dir, dirs_exist_ok=True)
    return server


def digest_mismatches(server):
    """What a real server counted when it loaded."""
    for line in wire.four_letter_word(server.address, "mntr").decode().splitlines():
        if line.startswith("zk_digest_mismatches_count"):
            return int(line.split()[-1])
    return None


def move(kind, export_command):
    original = harness.Server("zookeeper").start()
    session, password = fill(original)
    before = dump(original)
    mine = owned_by(before, session)
    same(len(mine), 2, "ephemerals of the session")
    original.kill()

    quorate = server_on(kind, original.data_dir)
    given = prints_of(quorate.data_dir)
    quorate.start()
    # The configuration znode is the server's own affair.
    config = "/zookeeper/config"
    same(without(dump(quorate), config), without(before, config), "started on its directory")
    comes_back(quorate, session, password)
    quorate.restart()
    after = dump(quorate)
    same(owned_by(after, session), mine, "ephemerals of the session, after a restart")
    same(after["/ephemeral"][0], b"still mine", "data of the session's znode")
    kept = prints_of(quorate.data_dir)
    same({name: kept.get(name) for name in given}, given, "the original files")
    last = dump(quorate)
    quorate.stop()

    target = quorate.home / "exported"
    command = export_command.format(binary=kind.split(":", 1)[1], config=quorate.config_path,
                                    data=quorate.data_dir, target=target)
    subprocess.run(command.split(), check=True)
    boots(target, expected=last)

    # Two histories: the operator has to say which one counts.
    again = server_on("zookeeper", original.data_dir).start()
    zk = client(again)
    zk.create("/written-since", b"")
    zk.stop()
    zk.close()
    again.stop()
    shutil.copytree(again.data_dir, quorate.data_dir, dirs_exist_ok=True)
    try:
        quorate.start(wait=10)
    except harness.LaunchFailed as failed:
        check("ended with" in str(failed), f"it neither served nor ended: {failed}")
    else:
        raise AssertionError("started although ZooKeeper wrote to the directory again")


def boots(exported, like=None, expected=None):
    if expected is None:
        reference = server_on("zookeeper", like, reaper_ms=3_600_000).start()
        expected = dump(reference)
        reference.kill()
    server = server_on("zookeeper", exported, reaper_ms=3_600_000).start()
    config = "/zookeeper/config"
    same(without(dump(server), config), without(expected, config), "started on the export")
    same(digest_mismatches(server), 0, "digest mismatches")
    # It goes on from there, and survives its own restart.
    zk = client(server)
    zk.create("/goes-on", b"")
    created = zk.exists("/goes-on").czxid
    zk.stop()
    zk.close()
    check(created > max(node[1][1] for node in expected.values()), "the zxid went back")
    server.restart()
    check("/goes-on" in dump(server), "lost by a restart")
    same(digest_mismatches(server), 0, "digest mismatches after a restart")
    print(f"{len(expected)} znodes, equal")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    moving = commands.add_parser("move")
    moving.add_argument("--kind", required=True)
    moving.add_argument(
        "--export", default="{binary} export-datadir --config {config} --to {target}",
        help="how to export; {binary}, {config}, {data} and {target} are filled in")
    booting = commands.add_parser("boots")
    booting.add_argument("exported", type=Path)
    booting.add_argument("--like", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command == "move":
        move(arguments.kind, arguments.export)
    else:
        boots(arguments.exported, like=arguments.like)
    print("datadir: passed")


if __name__ == "__main__":
    sys.exit(main())
