"""Headers, order, malformed requests, and every operation outside create, multi and watches."""

import wire
from probe import (Probes, authenticate, children, child_names, closed, create, created, delete,
                   eq, err, exists, get, ok, set_data, stat_of, true)

PROBES = probe = Probes()


@probe("any xid is echoed, also a special or repeated one")
def _(env):
    c = env.session()
    for xid in (0, -8, -100, 5, 5, 1 << 30, -(1 << 31)):
        c.send(wire.EXISTS, wire.path_watch("/"), xid=xid)
        eq(ok(c.next()).xid, xid)


@probe("a ping's reply has xid -2, whatever the ping had, and no body")
def _(env):
    c = env.session()
    for xid in (-2, 77):
        c.send(wire.PING, xid=xid)
        reply = ok(c.next())
        eq((reply.xid, reply.body), (-2, b""))


@probe("an auth packet's reply echoes its xid, with zxid 0")
def _(env):
    c = env.session()
    for xid in (-4, 12):
        reply = ok(c.call(wire.AUTH, wire.auth("digest", "u:p"), xid=xid))
        eq((reply.xid, reply.zxid, reply.body), (xid, 0, b""))


@probe("requests sent together are answered in their order, pings among them")
def _(env):
    c, root = env.session(), env.root
    frames, expected = [], []
    for number in range(5):
        path = f"{root}/{number}"
        frames += [wire.i32(3 * number + 1) + wire.i32(wire.CREATE) + wire.create(path),
                   wire.i32(3 * number + 2) + wire.i32(wire.EXISTS) + wire.path_watch(path),
                   wire.i32(-2) + wire.i32(wire.PING)]
        expected += [3 * number + 1, 3 * number + 2, -2]
    c.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
    replies = [ok(c.next()) for _ in expected]
    eq([reply.xid for reply in replies], expected)
    zxids = [reply.zxid for reply in replies]
    eq(zxids, sorted(zxids), "zxids never fall")


@probe("a read behind a write of the same connection sees it, one in front does not")
def _(env):
    c, root = env.session(), env.root
    path = root + "/x"
    frames = []
    for xid, (op, body) in enumerate([
            (wire.EXISTS, wire.path_watch(path)), (wire.CREATE, wire.create(path)),
            (wire.EXISTS, wire.path_watch(path)), (wire.DELETE, wire.path_version(path)),
            (wire.EXISTS, wire.path_watch(path))]):
        frames.append(wire.i32(xid + 1) + wire.i32(op) + body)
    c.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
    eq([c.next().err for _ in frames], [wire.NO_NODE, 0, 0, 0, wire.NO_NODE])


@probe("a write's reply carries its zxid, a read's the last applied one")
def _(env):
    c, root = env.session(), env.root
    before = ok(exists(c, "/")).zxid
    eq(ok(create(c, root + "/a")).zxid, before + 1)
    eq(ok(get(c, root + "/a")).zxid, before + 1)
    eq(ok(get(c, root + "/a")).stat().czxid, before + 1)


@probe("a write refused by a check takes a zxid too")
def _(env):
    c, root = env.session(), env.root
    zxid = ok(exists(c, "/")).zxid
    for reply, code in ((create(c, root), wire.NODE_EXISTS),
                        (create(c, root + "/a/b"), wire.NO_NODE),
                        (create(c, root + "/a", flags=9), wire.BAD_ARGUMENTS),
                        (create(c, root + "/a", acl=[]), wire.INVALID_ACL),
                        (create(c, "bad"), wire.BAD_ARGUMENTS),
                        (delete(c, root + "/a"), wire.NO_NODE),
                        (set_data(c, root, b"", 7), wire.BAD_VERSION)):
        zxid += 1
        eq(err(reply, code).zxid, zxid, f"zxid of {code}")


@probe("a single write with an unreadable body takes no zxid, a multi does")
def _(env):
    c = env.session()
    zxid = ok(exists(c, "/")).zxid
    for op in (wire.CREATE, wire.CREATE2, wire.DELETE, wire.SET_DATA, wire.SET_ACL,
               wire.CREATE_CONTAINER, wire.CREATE_TTL):
        eq(err(c.call(op, b"\0\0"), wire.MARSHALLING).zxid, zxid, f"op {op}")
    eq(err(c.call(wire.MULTI, b"\0\0"), wire.MARSHALLING).zxid, zxid + 1, "multi")


@probe("an unreadable write's reply has the zxid of its turn, not of its arrival")
def _(env):
    c, root = env.session(), env.root
    zxid = ok(exists(c, "/")).zxid
    frames = [wire.i32(1) + wire.i32(wire.CREATE) + wire.create(root + "/a"),
              wire.i32(2) + wire.i32(wire.CREATE) + b"\0",
              wire.i32(3) + wire.i32(wire.EXISTS) + b"\0"]
    c.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
    eq([(r.err, r.zxid - zxid) for r in (c.next(), c.next(), c.next())],
       [(0, 1), (wire.MARSHALLING, 1), (wire.MARSHALLING, 1)])


UNKNOWN = (10, 13, 23, 24, 99, 108, 1000, -1, -2, -12, 0, (1 << 31) - 1)


@probe("an unknown opcode is answered -6 with zxid -1 and the connection closed")
def _(env):
    for op in UNKNOWN:
        c = env.session()
        c.send(op, wire.path_version("/"))
        reply = err(c.next(), wire.UNIMPLEMENTED, f"op {op}")
        eq(reply.zxid, -1, f"op {op}: zxid")
        closed(c.next(), f"op {op}")


@probe("with requests behind an unknown opcode, its answer still comes and the end too")
def _(env):
    # How many of the others a real server answers before it closes is a race.
    c = env.session()
    frames = [wire.i32(1) + wire.i32(99),
              wire.i32(2) + wire.i32(wire.EXISTS) + wire.path_watch("/")]
    c.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
    eq(err(c.next(), wire.UNIMPLEMENTED).xid, 1)
    last = c.next()
    while isinstance(last, wire.Reply):
        last = c.next()
    closed(last)


@probe("createSession from a client is -5 and the connection stays open")
def _(env):
    c = env.session()
    err(c.call(wire.CREATE_SESSION), wire.MARSHALLING)
    # With four bytes more a real server answers with a ConnectResponse in the middle of the
    # stream, which no client can read.
    if env.quorate:
        err(c.call(wire.CREATE_SESSION, wire.i32(5000)), wire.MARSHALLING)
    ok(exists(c, "/"))


TRUNCATED = [wire.CREATE, wire.DELETE, wire.EXISTS, wire.GET_DATA, wire.SET_DATA, wire.GET_ACL,
             wire.SET_ACL, wire.GET_CHILDREN, wire.GET_CHILDREN2, wire.SYNC, wire.CREATE2,
             wire.CHECK_WATCHES, wire.REMOVE_WATCHES, wire.CREATE_CONTAINER, wire.CREATE_TTL,
             wire.GET_EPHEMERALS, wire.GET_ALL_CHILDREN_NUMBER, wire.ADD_WATCH,
             wire.SET_WATCHES, wire.SET_WATCHES2]


@probe("a body that ends too early is -5 and the connection stays open")
def _(env):
    c = env.session()
    for op in TRUNCATED:
        for body in (b"", b"\0\0", wire.i32(100) + b"/a", wire.i32(-7)):
            err(c.call(op, body), wire.MARSHALLING, f"op {op} {body!r}")
    for op in (wire.EXISTS, wire.GET_DATA, wire.GET_CHILDREN, wire.DELETE):
        err(c.call(op, wire.buf("/")), wire.MARSHALLING, f"op {op} without its last field")
    ok(exists(c, "/"))


@probe("a null path is -5 where a path is needed; writes with one take a zxid")
def _(env):
    c = env.session()
    for op, body in ((wire.EXISTS, wire.path_watch(None)), (wire.GET_DATA, wire.path_watch(None)),
                     (wire.GET_ACL, wire.buf(None)), (wire.GET_CHILDREN, wire.path_watch(None)),
                     (wire.GET_CHILDREN2, wire.path_watch(None)),
                     (wire.GET_ALL_CHILDREN_NUMBER, wire.buf(None)),
                     (wire.SET_WATCHES, wire.set_watches(0, [None]))):
        err(c.call(op, body), wire.MARSHALLING, f"op {op}")
    zxid = ok(exists(c, "/")).zxid
    for op, body in ((wire.CREATE, wire.create(None)), (wire.CREATE2, wire.create(None)),
                     (wire.CREATE_CONTAINER, wire.create(None)),
                     (wire.CREATE_TTL, wire.create_ttl(None)),
                     (wire.DELETE, wire.path_version(None))):
        zxid += 1
        eq(err(c.call(op, body), wire.MARSHALLING, f"op {op}").zxid, zxid, f"op {op}: zxid")


@probe("setData and setACL with a null path are -8; null names no watch, and may be watched")
def _(env):
    c = env.session()
    err(c.call(wire.SET_DATA, wire.set_data(None)), wire.BAD_ARGUMENTS)
    err(c.call(wire.SET_ACL, wire.set_acl(None)), wire.BAD_ARGUMENTS)
    err(c.call(wire.CHECK_WATCHES, wire.path_int(None, 3)), wire.NO_WATCHER)
    err(c.call(wire.REMOVE_WATCHES, wire.path_int(None, 3)), wire.NO_WATCHER)
    ok(c.call(wire.ADD_WATCH, wire.path_int(None, 0)))


@probe("delete: missing parent, then missing znode, then version, then children")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/a")
    created(c, root + "/a/b")
    err(delete(c, root + "/x/y"), wire.NO_NODE)
    err(delete(c, root + "/x"), wire.NO_NODE)
    err(delete(c, root + "/a", 7), wire.BAD_VERSION)
    err(delete(c, root + "/a", -2), wire.BAD_VERSION)
    err(delete(c, root + "/a", 0), wire.NOT_EMPTY)
    err(delete(c, root + "/a"), wire.NOT_EMPTY)
    eq(ok(delete(c, root + "/a/b", 0)).body, b"")


@probe("delete needs DELETE on the parent and nothing on the znode")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/p", acl=[(wire.ALL & ~wire.DELETE_PERM, "world", "anyone")])
    created(c, root + "/p/x")
    err(delete(c, root + "/p/x"), wire.NO_AUTH)
    err(delete(c, root + "/p/nope"), wire.NO_AUTH, "before the znode is looked up")
    created(c, root + "/closed", acl=[(wire.READ, "digest", "u:x")])
    ok(delete(c, root + "/closed"))


@probe("delete refuses the reserved paths, a path without a slash and NUL with -8")
def _(env):
    c, root = env.session(), env.root
    for path in ("/", "/zookeeper", "/zookeeper/quota", "/zookeeper/config", "foo", "",
                 root + "/\0"):
        err(delete(c, path), wire.BAD_ARGUMENTS, repr(path))


@probe("setData answers the new Stat, also to one who may not read, and counts equal data too")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/w", data=b"x", acl=[(wire.WRITE, "world", "anyone")])
    reply = ok(set_data(c, root + "/w", b"x"))
    stat = reply.stat()
    eq((stat.version, stat.mzxid, stat.data_length), (1, reply.zxid, 1))
    eq(ok(set_data(c, root + "/w", b"x", 1)).stat().version, 2)
    err(set_data(c, root + "/w", b"x", 1), wire.BAD_VERSION)
    err(set_data(c, root + "/w", b"x", -2), wire.BAD_VERSION)
    err(get(c, root + "/w"), wire.NO_AUTH)
    err(set_data(c, root + "/nope", b"x", 3), wire.NO_NODE)


@probe("setACL: the ACL before the znode, ADMIN before the version, which is aversion")
def _(env):
    c, root = env.session(), env.root
    def set_acl(path, acl=wire.OPEN_ACL, version=-1):
        return c.call(wire.SET_ACL, wire.set_acl(path, acl, version))
    err(set_acl(root + "/nope", []), wire.INVALID_ACL)
    err(set_acl(root + "/nope"), wire.NO_NODE)
    before = stat_of(c, root)
    reply = ok(set_acl(root, version=0))
    stat = reply.stat()
    eq((stat.aversion, stat.version, stat.mzxid, stat.mtime, stat.pzxid),
       (1, before.version, before.mzxid, before.mtime, before.pzxid))
    err(set_acl(root, version=0), wire.BAD_VERSION)
    created(c, root + "/x", acl=[(wire.ALL & ~wire.ADMIN, "world", "anyone")])
    err(set_acl(root + "/x", version=9), wire.NO_AUTH)


@probe("exists and getData of a znode without READ: -102, of a missing one -101")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/x", acl=[(wire.WRITE, "world", "anyone")])
    err(exists(c, root + "/x"), wire.NO_AUTH)
    err(get(c, root + "/x"), wire.NO_AUTH)
    err(children(c, root + "/x"), wire.NO_AUTH)
    err(c.call(wire.GET_CHILDREN2, wire.path_watch(root + "/x")), wire.NO_AUTH)
    err(c.call(wire.GET_ALL_CHILDREN_NUMBER, wire.buf(root + "/x")), wire.NO_AUTH)
    for reply in (exists(c, root + "/n"), get(c, root + "/n"), children(c, root + "/n"),
                  c.call(wire.GET_CHILDREN2, wire.path_watch(root + "/n")),
                  c.call(wire.GET_ALL_CHILDREN_NUMBER, wire.buf(root + "/n")),
                  c.call(wire.GET_ACL, wire.buf(root + "/n"))):
        err(reply, wire.NO_NODE)


@probe("the empty string is the root for reads")
def _(env):
    c = env.session()
    eq(str(ok(exists(c, "")).stat()), str(stat_of(c, "/")))
    eq(ok(get(c, "")).body, ok(get(c, "/")).body)
    eq(child_names(c, ""), child_names(c, "/"))
    eq(ok(c.call(wire.GET_ACL, wire.buf(""))).body, ok(c.call(wire.GET_ACL, wire.buf("/"))).body)


@probe("getChildren2 is getChildren and the Stat; the order of names does not change by itself")
def _(env):
    c, root = env.session(), env.root
    for name in "dacb":
        created(c, f"{root}/{name}")
    reply = ok(c.call(wire.GET_CHILDREN2, wire.path_watch(root)))
    reader = reply.reader()
    names = reader.vec(reader.str)
    eq(str(reader.stat()), str(stat_of(c, root)))
    eq(reader.left(), b"")
    eq(sorted(names), list("abcd"))
    for _ in range(3):
        reader = ok(children(c, root)).reader()
        eq(reader.vec(reader.str), names)


@probe("sync echoes any path: missing, malformed, empty or null")
def _(env):
    c, root = env.session(), env.root
    for path in (root, root + "/nope", "bad path", "", None):
        reply = ok(c.call(wire.SYNC, wire.buf(path)))
        eq(reply.body, wire.buf(path))
        eq(reply.zxid, ok(exists(c, "/")).zxid)


@probe("getEphemerals lists this session's by string prefix; null, empty and blank mean all")
def _(env):
    c, root = env.session(), env.root
    for name in ("ge", "ge2", "x"):
        created(c, f"{root}/{name}", flags=1)
    created(env.session(), root + "/other", flags=1)
    def listed(prefix):
        reader = ok(c.call(wire.GET_EPHEMERALS, wire.buf(prefix))).reader()
        return sorted(reader.vec(reader.str))
    everything = [f"{root}/{name}" for name in ("ge", "ge2", "x")]
    eq(listed(root + "/ge"), everything[:2])
    for prefix in (None, "", "  ", "/", root):
        eq(listed(prefix), everything, repr(prefix))
    eq(listed("/elsewhere"), [])


@probe("getAllChildrenNumber counts all descendants, not the znode itself")
def _(env):
    c, root = env.session(), env.root
    for name in ("/a", "/a/b", "/a/b/c", "/d"):
        created(c, root + name)
    eq(ok(c.call(wire.GET_ALL_CHILDREN_NUMBER, wire.buf(root))).body, wire.i32(4))
    eq(ok(c.call(wire.GET_ALL_CHILDREN_NUMBER, wire.buf(root + "/a/b/c"))).body, wire.i32(0))


def identities(connection):
    reader = ok(connection.call(wire.WHO_AM_I)).reader()
    return sorted(reader.vec(lambda: (reader.str(), reader.str())))


@probe("getAllChildrenNumber of / counts /zookeeper and below", server="plain")
def _(env):
    c = env.session()
    count = ok(c.call(wire.GET_ALL_CHILDREN_NUMBER, wire.buf("/"))).reader().i32()
    total = int([line for line in wire.four_letter_word(env.address, "srvr").decode().split("\n")
                 if line.startswith("Node count")][0].split()[-1])
    eq(count, total - 2, "all but the root and its alias")


@probe("whoAmI names the address and each identity; super shows an empty user")
def _(env):
    c = env.session()
    eq(identities(c), [("ip", "127.0.0.1")])
    ok(authenticate(c, "digest", "alice:secret"))
    ok(authenticate(c, "digest", "bob:secret"))
    ok(authenticate(c, "digest", "alice:secret"))
    eq(identities(c), [("digest", "alice"), ("digest", "bob"), ("ip", "127.0.0.1")])
    eq(identities(env.super()), [("digest", "super"), ("ip", "127.0.0.1"), ("super", "")])


@probe("deleteContainer from a client does not get past the ACLs")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/p", acl=[(wire.ALL & ~wire.DELETE_PERM, "world", "anyone")])
    created(c, root + "/p/x")
    reply = c.call(wire.DELETE_CONTAINER, wire.buf(root + "/p/x"))
    if env.quorate:
        # A real server deletes it: refused here, as an opcode that is not for clients.
        true(reply.err != 0, "refused")
        ok(exists(env.session(), root + "/p/x"))
    else:
        ok(reply)


@probe("reconfig is -123 while it is disabled")
def _(env):
    c = env.session()
    body = wire.buf(None) + wire.buf("1") + wire.buf(None) + wire.i64(-1)
    err(c.call(wire.RECONFIG, body), wire.RECONFIG_DISABLED)
    ok(exists(c, "/"))


@probe("identities may be used from the request behind the auth packet on")
def _(env):
    c, root = env.session(), env.root
    frames = [wire.i32(-4) + wire.i32(wire.AUTH) + wire.auth("digest", "u:p"),
              wire.i32(1) + wire.i32(wire.CREATE) +
              wire.create(root + "/a", acl=[(wire.ALL, "auth", None)])]
    c.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
    eq([c.next().err, c.next().err], [0, 0])
