"""The create family: flags, paths, sequence numbers, order of checks."""

import wire
from probe import (Probes, authenticate, child_names, codes, create, created, delete, eq, err,
                   exists, get, multi, ok, set_data, stat_of, true)

PROBES = probe = Probes()


def ttl(connection, path, flags=5, ttl_ms=60_000, acl=wire.OPEN_ACL):
    return connection.call(wire.CREATE_TTL, wire.create_ttl(path, b"", acl, flags, ttl_ms))


def ephemerals(connection, prefix="/"):
    reader = ok(connection.call(wire.GET_EPHEMERALS, wire.buf(prefix))).reader()
    return sorted(reader.vec(reader.str))


def disappears(env, connection, path, within=6.0):
    """Whether a reaper takes the znode away."""
    import time
    end = time.monotonic() + within
    while time.monotonic() < end:
        if exists(connection, path).err == wire.NO_NODE:
            return True
        time.sleep(0.1)
    return False


@probe("create answers the path; create2 the path and the new znode's Stat")
def _(env):
    c, root = env.session(), env.root
    reply = ok(create(c, root + "/a", data=b"xy"))
    eq(reply.body, wire.buf(root + "/a"))
    reply = ok(create(c, root + "/b", data=b"xyz", op=wire.CREATE2))
    reader = reply.reader()
    eq(reader.str(), root + "/b")
    stat = reader.stat()
    eq(reader.left(), b"")
    eq((stat.czxid, stat.mzxid, stat.pzxid), (reply.zxid,) * 3, "zxids")
    eq((stat.version, stat.cversion, stat.aversion, stat.ephemeral_owner, stat.data_length,
        stat.num_children), (0, 0, 0, 0, 3, 0))
    eq(stat.ctime, stat.mtime)


@probe("flags 0 to 3 of create and create2 do what they are named for")
def _(env):
    c, root = env.session(), env.root
    for op in (wire.CREATE, wire.CREATE2):
        for flags in range(4):
            path = created(c, f"{root}/n-{op}-{flags}-", flags=flags, op=op)
            true(path.startswith(f"{root}/n-{op}-{flags}-"), path)
            eq(len(path) - len(f"{root}/n-{op}-{flags}-"), 10 if flags & 2 else 0, "suffix")
            eq(stat_of(c, path).ephemeral_owner, c.session if flags & 1 else 0)


@probe("create and create2 with flag 4 make a plain persistent znode")
def _(env):
    c, root = env.session(), env.root
    for op in (wire.CREATE, wire.CREATE2):
        path = created(c, f"{root}/c{op}", flags=4, op=op)
        eq(stat_of(c, path).ephemeral_owner, 0)
        created(c, path + "/x")
        ok(delete(c, path + "/x"))
    true(not disappears(env, c, path, within=2.5), "it is no container")


@probe("a create flag outside 0 to 6 is -8")
def _(env):
    c, root = env.session(), env.root
    for op in (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER):
        for flags in (-1, 7, 8, 1 << 30):
            err(create(c, f"{root}/f", flags=flags, op=op), wire.BAD_ARGUMENTS, f"{op} {flags}")


@probe("a TTL flag without a TTL is -8")
def _(env):
    c, root = env.session(), env.root
    for op in (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER):
        for flags in (5, 6):
            err(create(c, f"{root}/f", flags=flags, op=op), wire.BAD_ARGUMENTS, f"{op} {flags}")


@probe("createContainer makes a container with any flag from 0 to 4")
def _(env):
    c, root = env.session(), env.root
    for flags in range(5):
        reply = ok(create(c, f"{root}/c{flags}-", flags=flags, op=wire.CREATE_CONTAINER))
        path = reply.path()
        eq(len(path) - len(f"{root}/c{flags}-"), 10 if flags in (2, 3) else 0, "suffix")
        eq(reply.stat().ephemeral_owner, 0)
        eq(ephemerals(c, path), [])
        created(c, path + "/x")
        ok(delete(c, path + "/x"))
        true(disappears(env, c, path), f"flag {flags}: the reaper takes it")


@probe("a container is taken away after its last child left, and not before it had one")
def _(env):
    c, root = env.session(), env.root
    used = created(c, root + "/used", op=wire.CREATE_CONTAINER, flags=4)
    fresh = created(c, root + "/fresh", op=wire.CREATE_CONTAINER, flags=4)
    created(c, used + "/x")
    ok(exists(c, used, watch=True))
    true(not disappears(env, c, used, within=2.5), "it has a child")
    ok(delete(c, used + "/x"))
    true(disappears(env, c, used), "the reaper takes it")
    ok(exists(c, fresh))


@probe("createTTL takes flags 5 and 6 with a TTL up to 2^40-1 ms")
def _(env):
    c, root = env.session(), env.root
    for flags in (5, 6):
        for value in (1_000_000, (1 << 40) - 1):
            reply = ok(ttl(c, f"{root}/t{flags}-{value}-", flags, value))
            eq(reply.stat().ephemeral_owner, 0)
            eq(len(reply.path()) - len(f"{root}/t{flags}-{value}-"), 10 if flags == 6 else 0)
    for value in (0, -1, 1 << 40, -(1 << 63)):
        err(ttl(c, root + "/t", 5, value), wire.BAD_ARGUMENTS, f"ttl {value}")


@probe("createTTL with a flag that is no TTL mode and a TTL of 0 or more is -8")
def _(env):
    c, root = env.session(), env.root
    for flags in (0, 1, 2, 3, 4):
        for value in (0, 1000):
            err(ttl(c, root + "/t", flags, value), wire.BAD_ARGUMENTS, f"{flags} {value}")


@probe("createTTL with a flag that is no TTL mode and a negative TTL is refused, not copied")
def _(env):
    # This one kills a real server, which cannot start again then.
    if not env.quorate:
        return
    c, root = env.session(), env.root
    for flags in (0, 1, 2, 3, 4):
        for value in (-1, -2, -(1 << 63)):
            err(ttl(c, root + "/t", flags, value), wire.BAD_ARGUMENTS, f"{flags} {value}")


@probe("a TTL znode goes when it has no children and its data were left alone for the TTL")
def _(env):
    c, root = env.session(), env.root
    path = ok(ttl(c, root + "/t", 5, 500)).path()
    kept = ok(ttl(c, root + "/kept", 5, 500)).path()
    created(c, kept + "/x")
    true(disappears(env, c, path), "it goes")
    true(not disappears(env, c, kept, within=2.5), "a child holds it")
    ok(delete(c, kept + "/x"))
    true(disappears(env, c, kept), "it goes after its child")


@probe("createTTL is -6 while TTL znodes are switched off, and the connection stays open",
       server="plain")
def _(env):
    c, root = env.session(), env.root
    reply = err(ttl(c, root + "/t", 5, 1000), wire.UNIMPLEMENTED)
    true(reply.zxid > 0, "an ordinary error")
    ok(exists(c, "/"))


@probe("create with a flag outside 0 to 6 is -8 before TTL modes are found to be switched off",
       server="plain")
def _(env):
    c, root = env.session(), env.root
    err(create(c, root + "/t", flags=7), wire.BAD_ARGUMENTS)
    err(create(c, root + "/t", flags=5), wire.UNIMPLEMENTED)
    err(ttl(c, root + "/t", 5, -1), wire.UNIMPLEMENTED)


@probe("a missing parent is found before a bad path, and a bad ACL before a missing parent")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/a")
    err(create(c, root + "/b/"), wire.NO_NODE)
    err(create(c, root + "/b//c"), wire.NO_NODE)
    err(create(c, root + "/nope/b/"), wire.NO_NODE)
    err(create(c, root + "/nope/b", acl=[]), wire.INVALID_ACL)
    err(create(c, root + "/a/"), wire.BAD_ARGUMENTS, "trailing slash below a znode that exists")
    err(create(c, root + "/a//"), wire.NO_NODE)
    err(create(c, "//"), wire.BAD_ARGUMENTS)
    err(create(c, ""), wire.BAD_ARGUMENTS)
    err(create(c, "foo"), wire.BAD_ARGUMENTS)
    err(create(c, "/"), wire.NODE_EXISTS)
    err(create(c, "/zookeeper"), wire.NODE_EXISTS)
    err(create(c, None), wire.MARSHALLING)


@probe("without CREATE on the parent it is -102, even if the znode exists")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/p", acl=[(wire.READ | wire.ADMIN, "world", "anyone")])
    err(create(c, root + "/p/x"), wire.NO_AUTH)
    # With permission taken away later, the znode below exists already.
    created(c, root + "/q")
    created(c, root + "/q/x")
    ok(c.call(wire.SET_ACL, wire.set_acl(root + "/q", [(wire.READ, "world", "anyone")])))
    err(create(c, root + "/q/x"), wire.NO_AUTH)


@probe("an ephemeral cannot have children: -108; a name that exists comes first")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/e", flags=1)
    err(create(c, root + "/e/x"), wire.NO_CHILDREN_FOR_EPHEMERALS)


@probe("a sequence number counts creations: not deletes, not refused creates")
def _(env):
    c, root = env.session(), env.root
    eq(created(c, root + "/n-", flags=2), root + "/n-0000000000")
    eq(created(c, root + "/n-", flags=2), root + "/n-0000000001")
    eq(stat_of(c, root).cversion, 2)
    ok(delete(c, root + "/n-0000000000"))
    eq(stat_of(c, root).cversion, 3)
    eq(created(c, root + "/n-", flags=2), root + "/n-0000000002")
    created(c, root + "/plain")
    eq(created(c, root + "/n-", flags=2), root + "/n-0000000004")
    err(create(c, root + "/plain"), wire.NODE_EXISTS)
    eq(created(c, root + "/n-", flags=2), root + "/n-0000000005")


@probe("a sequential name that is taken is -110, again at each retry")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/n-0000000001")
    for _ in range(3):
        err(create(c, root + "/n-", flags=2), wire.NODE_EXISTS)
    created(c, root + "/other")
    eq(created(c, root + "/n-", flags=2), root + "/n-0000000002")


@probe("a multi advances the number with each create, and a failed one gives it back")
def _(env):
    c, root = env.session(), env.root
    sequential = (wire.CREATE, wire.create(root + "/n-", flags=2))
    results = multi(c, sequential, sequential, sequential)
    eq([r[2] for r in results[:3]], [f"{root}/n-{n:010}" for n in range(3)])
    results = multi(c, sequential, (wire.CHECK, wire.path_version(root + "/nope")))
    eq(codes(results), [0, wire.NO_NODE])
    eq(created(c, root + "/n-", flags=2), root + "/n-0000000003")


@probe("a sequential create may end in a slash: the number is the whole name")
def _(env):
    c, root = env.session(), env.root
    eq(created(c, root + "/", flags=2), root + "/0000000000")
    path = created(c, "/", flags=3)
    true(len(path) == 11 and path[1:].isdigit(), path)


@probe("the number starts again with a new parent")
def _(env):
    c, root = env.session(), env.root
    for _ in range(2):
        created(c, root + "/p")
        eq(created(c, root + "/p/", flags=2), root + "/p/0000000000")
        ok(delete(c, root + "/p/0000000000"))
        ok(delete(c, root + "/p"))


GOOD_NAMES = ["...", "a..b", ".a", "a.", "a b", "\u00a0", "\u2028", "é", "日本", "\uffef",
              "\uf900", "x" * 5001]
BAD_NAMES = [".", "..", "a/./b", "\t", "\x01", "\x1f", "\x7f", "\u0080", "\u009f", "\ue000",
             "\uf8ff", "\ufff0", "\uffff", "😀"]


@probe("names with dots, spaces, accents and any length are taken")
def _(env):
    c, root = env.session(), env.root
    for name in GOOD_NAMES:
        eq(created(c, f"{root}/{name}"), f"{root}/{name}")
    eq(child_names(c, root), sorted(GOOD_NAMES))


@probe("relative names, control characters, private use and supplementary ones are -8")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/a")
    for name in BAD_NAMES:
        expected = wire.NO_NODE if name == "a/./b" else wire.BAD_ARGUMENTS
        err(create(c, f"{root}/{name}"), expected, repr(name))
    err(create(c, f"{root}/\0"), wire.BAD_ARGUMENTS, "NUL")
    err(create(c, b"/" + root.encode()[1:] + b"/\xff\xfe"), wire.BAD_ARGUMENTS, "no UTF-8")


@probe("setData, setACL and check refuse a bad path with -8; delete and reads do not find it")
def _(env):
    c, root = env.session(), env.root
    for path in (root + "/", root + "//x", root + "/.", root + "/\t", "foo", ""):
        err(set_data(c, path), wire.BAD_ARGUMENTS, f"setData {path!r}")
        err(c.call(wire.SET_ACL, wire.set_acl(path)), wire.BAD_ARGUMENTS, f"setACL {path!r}")
        eq(codes(multi(c, (wire.CHECK, wire.path_version(path)))), [wire.BAD_ARGUMENTS])
    for path in (root + "/", root + "//x", root + "/.", root + "/\t"):
        err(delete(c, path), wire.NO_NODE, f"delete {path!r}")
        err(exists(c, path), wire.NO_NODE, f"exists {path!r}")
        err(get(c, path), wire.NO_NODE, f"getData {path!r}")
    for path in ("foo",):
        err(exists(c, path), wire.NO_NODE)
        err(get(c, path), wire.NO_NODE)
    err(exists(c, root + "/\0"), wire.BAD_ARGUMENTS, "NUL in exists")


@probe("null data stay null and empty data stay empty")
def _(env):
    c, root = env.session(), env.root
    for name, data in (("null", None), ("empty", b"")):
        created(c, f"{root}/{name}", data=data)
        reply = ok(get(c, f"{root}/{name}"))
        eq(reply.reader().buf(), data)
        eq(reply.stat().data_length, 0)
        ok(set_data(c, f"{root}/{name}", b"x"))
        ok(set_data(c, f"{root}/{name}", data))
        eq(ok(get(c, f"{root}/{name}")).reader().buf(), data)


@probe("bytes behind a request are ignored")
def _(env):
    c, root = env.session(), env.root
    ok(c.call(wire.CREATE, wire.create(root + "/a") + b"more"))
    ok(c.call(wire.EXISTS, wire.path_watch(root + "/a") + b"more"))


@probe("any non-zero byte is true")
def _(env):
    c, root = env.session(), env.root
    ok(c.call(wire.GET_DATA, wire.buf(root) + b"\x07"))
    c.call(wire.SET_DATA, wire.set_data(root))
    eq([e.event()[::2] for e in c.events], [(wire.DATA_CHANGED, root)])


@probe("an ACL vector of -1 or -2 elements is -114, one that is too long is -5")
def _(env):
    c, root = env.session(), env.root
    head = wire.buf(root + "/a") + wire.buf(b"")
    err(c.call(wire.CREATE, head + wire.i32(-1) + wire.i32(0)), wire.INVALID_ACL)
    err(c.call(wire.CREATE, head + wire.i32(-2) + wire.i32(0)), wire.INVALID_ACL)
    err(c.call(wire.CREATE, head + wire.i32(1000) + wire.i32(0)), wire.MARSHALLING)


@probe("a fresh tree's own znodes have ZooKeeper's Stats", server="plain")
def _(env):
    c = env.session()
    for path, fields in (("/zookeeper", (0, -2, 0, 0, 0, 2)),
                         ("/zookeeper/quota", (0, 0, 0, 0, 0, 0)),
                         ("/zookeeper/config", (0, 0, -1, 0, 0, 0))):
        stat = stat_of(c, path)
        eq((stat.version, stat.cversion, stat.aversion, stat.ephemeral_owner, stat.data_length,
            stat.num_children), fields, path)
        eq((stat.czxid, stat.mzxid, stat.pzxid, stat.ctime, stat.mtime), (0,) * 5, path)
    stat = stat_of(c, "/")
    eq((stat.czxid, stat.mzxid, stat.ctime, stat.mtime), (0,) * 4)
    eq(stat.cversion, stat.num_children - 2, "the root's first child was never counted")


@probe("/zookeeper is open, /zookeeper/config is read-only, / and /zookeeper take data")
def _(env):
    c = env.session()
    path = f"/zookeeper/foo-{env.number}"
    created(c, path)
    ok(delete(c, path))
    err(set_data(c, "/zookeeper/config", b"x"), wire.NO_AUTH)
    err(create(c, "/zookeeper/config/x"), wire.NO_AUTH)
    ok(set_data(c, "/", b""))
    ok(set_data(c, "/zookeeper", b""))
    reply = ok(get(c, "/zookeeper/config"))
    eq(reply.reader().buf(), b"")


@probe("the config znode's ACL is world:anyone READ, and super may write it")
def _(env):
    s = env.super()
    reader = ok(s.call(wire.GET_ACL, wire.buf("/zookeeper/config"))).reader()
    eq(reader.vec(reader.acl), [(wire.READ, "world", "anyone")])
    version = stat_of(s, "/zookeeper/config").version
    ok(set_data(s, "/zookeeper/config", b"", version))


@probe("the parent's Stat: creations and deletes count, its own data and time do not move")
def _(env):
    c, root = env.session(), env.root
    before = stat_of(c, root)
    reply = ok(create(c, root + "/a", op=wire.CREATE2))
    after = stat_of(c, root)
    eq((after.cversion, after.num_children, after.pzxid), (1, 1, reply.zxid), "after create")
    eq((after.mzxid, after.mtime, after.version), (before.mzxid, before.mtime, before.version))
    ok(set_data(c, root + "/a", b"x"))
    ok(c.call(wire.SET_ACL, wire.set_acl(root + "/a")))
    created(c, root + "/a/b")
    eq(str(stat_of(c, root)), str(after), "after changes of the child and a grandchild")
    ok(delete(c, root + "/a/b"))
    reply = ok(delete(c, root + "/a"))
    last = stat_of(c, root)
    eq((last.cversion, last.num_children, last.pzxid), (2, 0, reply.zxid), "after delete")
    eq((last.mzxid, last.version, last.czxid), (before.mzxid, 0, before.czxid))


@probe("a digest identity that arrives between two creates counts for the second only")
def _(env):
    c, root = env.session(), env.root
    err(create(c, root + "/a", acl=[(wire.ALL, "auth", "")]), wire.INVALID_ACL)
    ok(authenticate(c, "digest", "u:p"))
    created(c, root + "/a", acl=[(wire.ALL, "auth", "")])
