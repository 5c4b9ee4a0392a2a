"""multi and multiRead."""

import wire
from probe import (Probes, add_watch, codes, create, created, delete, eq, err, events, exists,
                   get, multi, ok, set_data, stat_of, true)
from probes_create import disappears

PROBES = probe = Probes()


def op_create(path, **options):
    return wire.CREATE, wire.create(path, **options)


def op_create2(path, **options):
    return wire.CREATE2, wire.create(path, **options)


def op_delete(path, version=-1):
    return wire.DELETE, wire.path_version(path, version)


def op_set(path, data=b"", version=-1):
    return wire.SET_DATA, wire.set_data(path, data, version)


def op_check(path, version=-1):
    return wire.CHECK, wire.path_version(path, version)


@probe("a multi's results have the types 1, 15, 5, 13 and 2")
def _(env):
    c, root = env.session(), env.root
    results = multi(
        c, op_create(root + "/a"), op_create2(root + "/b"),
        (wire.CREATE_CONTAINER, wire.create(root + "/c", flags=4)),
        (wire.CREATE_TTL, wire.create_ttl(root + "/d", ttl=60_000)),
        op_set(root + "/a", b"x", 0), op_check(root + "/a", 1), op_delete(root + "/a", 1))
    eq([r[0] for r in results[:-1]], [1, 15, 15, 15, 5, 13, 2])
    eq([r[1] for r in results[:-1]], [0] * 7)
    eq([r[2] for r in results[:4]], [f"{root}/{n}" for n in "abcd"])
    eq(results[-1], ("end", -1, -1, b""))
    eq(results[4][2].version, 1)


@probe("a failed multi: err 0 in the header, one error result per op: 0, the code, -2, -2")
def _(env):
    c, root = env.session(), env.root
    results = multi(c, op_create(root + "/a"), op_check(root, 7), op_delete(root),
                    op_set(root))
    eq([r[0] for r in results[:-1]], [-1] * 4)
    eq(codes(results), [0, wire.BAD_VERSION, -2, -2])
    eq(codes(multi(c, op_delete(root + "/nope"), op_create(root + "/a"))), [wire.NO_NODE, -2])
    eq(codes(multi(c, op_create(root + "/a"), op_check(root, 7))), [0, wire.BAD_VERSION])
    err(exists(c, root + "/a"), wire.NO_NODE)


@probe("a failed multi leaves nothing, fires nothing and takes one zxid")
def _(env):
    c, root = env.session(), env.root
    ok(get(c, root, watch=True))
    ok(add_watch(c, root, 1))
    before = stat_of(c, root)
    zxid = ok(exists(c, "/")).zxid
    reply = ok(c.call(wire.MULTI, wire.multi(op_create(root + "/a"), op_set(root, b"x"),
                                             op_check(root + "/nope"))))
    eq(reply.zxid, zxid + 1)
    eq(c.events + c.drain(), [])
    eq(str(stat_of(c, root)), str(before))


@probe("ops of a multi see each other; all have one zxid and one time")
def _(env):
    c, root = env.session(), env.root
    reply = ok(c.call(wire.MULTI, wire.multi(
        op_create(root + "/a"), op_set(root + "/a", b"1", 0), op_create2(root + "/a/b"),
        op_delete(root + "/a/b"), op_create2(root + "/a/b", flags=1),
        op_check(root + "/a", 1))))
    results = wire.multi_results(reply.body)
    eq([r[1] for r in results[:-1]], [0] * 6)
    a, b = stat_of(c, root + "/a"), stat_of(c, root + "/a/b")
    eq((a.czxid, a.mzxid, a.pzxid, b.czxid), (reply.zxid,) * 4)
    eq((a.ctime, a.mtime, b.ctime), (a.ctime,) * 3)
    eq((a.version, a.cversion, b.ephemeral_owner), (1, 3, c.session))


@probe("a result's Stat is the one right after its op")
def _(env):
    c, root = env.session(), env.root
    results = multi(c, op_create2(root + "/a", data=b"xy"), op_set(root + "/a", b"123"),
                    op_set(root + "/a", b"4567"))
    eq([(r[-1].version, r[-1].data_length) for r in results[:3]], [(0, 2), (1, 3), (2, 4)])


@probe("a child of an ephemeral made in the same multi is -108")
def _(env):
    c, root = env.session(), env.root
    results = multi(c, op_create(root + "/e", flags=1), op_create(root + "/e/x"))
    eq(codes(results), [0, wire.NO_CHILDREN_FOR_EPHEMERALS])


@probe("an empty multi succeeds and takes a zxid")
def _(env):
    c = env.session()
    zxid = ok(exists(c, "/")).zxid
    reply = ok(c.call(wire.MULTI, wire.multi()))
    eq((reply.body, reply.zxid), (wire.multi_header(-1, True), zxid + 1))
    reply = ok(c.call(wire.MULTI, wire.multi(op_check("/"))))
    eq(reply.zxid, zxid + 2)


@probe("type and err of headers in a request do not matter, only done ends the list")
def _(env):
    c, root = env.session(), env.root
    body = (wire.multi_header(wire.CREATE, False, 42) + wire.create(root + "/a") +
            wire.multi_header(77, True, 13))
    results = wire.multi_results(ok(c.call(wire.MULTI, body)).body)
    eq(results[0][:2], (1, 0))


@probe("an op that a multi may not hold, a bad flag, a cut body or no terminator: -5, nothing done")
def _(env):
    c, root = env.session(), env.root
    first = wire.multi_header(wire.CREATE) + wire.create(root + "/a")
    bad = [wire.multi(op_create(root + "/a"), (wire.SET_ACL, wire.set_acl(root))),
           wire.multi(op_create(root + "/a"), (wire.EXISTS, wire.path_watch(root))),
           wire.multi(op_create(root + "/a"), (wire.GET_DATA, wire.path_watch(root))),
           wire.multi(op_create(root + "/a"), (wire.GET_CHILDREN2, wire.path_watch(root))),
           wire.multi(op_create(root + "/a"), (wire.DELETE_CONTAINER, wire.buf(root))),
           wire.multi(op_create(root + "/a"), (99, b"")),
           wire.multi(op_create(root + "/a"), op_create(root + "/b", flags=9)),
           wire.multi(op_create(root + "/a"), op_create(root + "/b", flags=5)),
           wire.multi(op_create(root + "/a"), op_create2(root + "/b", flags=6)),
           wire.multi(op_create(root + "/a"),
                      (wire.CREATE_CONTAINER, wire.create(root + "/b", flags=5))),
           wire.multi(op_create(root + "/a"), op_delete(None)),
           wire.multi(op_create(root + "/a"), op_set(None)),
           wire.multi(op_create(root + "/a"), op_create(None)),
           wire.multi(op_create(root + "/a"),
                      op_create(root + "/b", acl=[(31, "world", None)])),
           wire.multi(op_create(root + "/a"),
                      op_create(root + "/b", acl=[(31, "digest", None)])),
           wire.multi(op_create(root + "/a"), op_create(root + "/b", acl=[(31, "ip", None)])),
           wire.multi(op_check(root + "/nope"), op_create(root + "/b", flags=5)),
           wire.multi(op_check(root + "/nope"), op_delete(None)),
           first, first + wire.multi_header(wire.DELETE) + wire.buf(root)]
    for number, body in enumerate(bad):
        zxid = ok(exists(c, "/")).zxid
        reply = err(c.call(wire.MULTI, body), wire.MARSHALLING, f"body {number}")
        eq(reply.zxid, zxid + 1, f"body {number}: zxid")
    err(exists(c, root + "/a"), wire.NO_NODE)


@probe("a null id in an ACL makes a multi -5 only when its turn comes")
def _(env):
    c, root = env.session(), env.root
    for scheme in ("world", "digest", "ip"):
        results = multi(c, op_check(root + "/nope"),
                        op_create(root + "/a", acl=[(31, scheme, None)]))
        eq(codes(results), [wire.NO_NODE, -2], scheme)


@probe("a null path makes a multiRead -5 and leaves the connection open")
def _(env):
    # A real server sends the results so far behind the error; clients read no body there.
    c, root = env.session(), env.root
    reply = c.call(wire.MULTI_READ, wire.multi((wire.GET_DATA, wire.path_watch(root)),
                                               (wire.GET_DATA, wire.path_watch(None))))
    eq(reply.err, wire.MARSHALLING)
    ok(exists(c, root))


@probe("a create with a null ACL list makes a multi -5, and then it takes no zxid")
def _(env):
    c, root = env.session(), env.root
    for op in (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER):
        zxid = ok(exists(c, "/")).zxid
        body = wire.multi(op_check("/"), (op, wire.create(root + "/a", acl=None)))
        eq(err(c.call(wire.MULTI, body), wire.MARSHALLING).zxid, zxid)
        eq(ok(exists(c, "/")).zxid, zxid)
    results = multi(c, op_check("/"), (wire.CREATE_TTL, wire.create_ttl(root + "/a", acl=None)))
    eq(codes(results), [0, wire.INVALID_ACL])


@probe("the order of errors within a multi is op by op")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/ro", acl=[(wire.READ, "world", "anyone")])
    for op, code in ((op_create("bad"), wire.BAD_ARGUMENTS),
                     (op_create(root + "/x", acl=[]), wire.INVALID_ACL),
                     (op_create(root + "/nope/x"), wire.NO_NODE),
                     (op_create(root), wire.NODE_EXISTS),
                     (op_set(root + "/ro"), wire.NO_AUTH),
                     (op_delete(root), wire.NOT_EMPTY),
                     ((wire.CREATE_TTL, wire.create_ttl(root + "/t", ttl=0)),
                      wire.BAD_ARGUMENTS)):
        eq(codes(multi(c, op_check("/"), op, op_check("/nope"))), [0, code, -2], str(op[0]))


@probe("a check in a multi needs READ")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/x", acl=[(wire.WRITE, "world", "anyone")])
    eq(codes(multi(c, op_check(root + "/x"))), [wire.NO_AUTH])
    eq(codes(multi(c, op_check(root + "/nope"))), [wire.NO_NODE])
    eq(codes(multi(c, op_check(root, 3))), [wire.BAD_VERSION])


@probe("a broker's registration: ephemeral with null data, then setData at version 0")
def _(env):
    c, root = env.session(), env.root
    reply = ok(c.call(wire.MULTI, wire.multi(op_create(root + "/b", data=None, flags=1),
                                             op_set(root + "/b", b"info", 0))))
    stat = wire.multi_results(reply.body)[1][2]
    eq((stat.czxid, stat.ephemeral_owner, stat.version), (reply.zxid, c.session, 1))


@probe("each change of a multi fires as it is applied, all with its zxid")
def _(env):
    c, root = env.session(), env.root
    ok(add_watch(c, root, 1))
    ok(c.call(wire.GET_CHILDREN, wire.path_watch(root, True)))
    reply = ok(c.call(wire.MULTI, wire.multi(
        op_create(root + "/1"), op_set(root + "/1", b"x"), op_create(root + "/2"),
        op_delete(root + "/1"), op_set(root + "/2"), op_set(root + "/2"))))
    eq(events(c.events), [
        (wire.CREATED, root + "/1"), (wire.CHILDREN_CHANGED, root),
        (wire.DATA_CHANGED, root + "/1"), (wire.CREATED, root + "/2"),
        (wire.DELETED, root + "/1"), (wire.DATA_CHANGED, root + "/2"),
        (wire.DATA_CHANGED, root + "/2")])
    eq({event.zxid for event in c.events}, {reply.zxid})


@probe("multiRead answers data, children and errors side by side, with the last zxid")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/a", data=b"xyz")
    created(c, root + "/secret", acl=[(wire.WRITE, "world", "anyone")])
    zxid = ok(exists(c, "/")).zxid
    reply = ok(c.call(wire.MULTI_READ, wire.multi(
        (wire.GET_DATA, wire.path_watch(root + "/a")),
        (wire.GET_CHILDREN, wire.path_watch(root)),
        (wire.GET_DATA, wire.path_watch(root + "/nope")),
        (wire.GET_DATA, wire.path_watch(root + "/secret")),
        (wire.GET_CHILDREN, wire.path_watch(root + "/secret")))))
    eq(reply.zxid, zxid)
    results = wire.multi_results(reply.body)
    eq([r[:2] for r in results[:-1]], [(4, 0), (8, 0), (-1, wire.NO_NODE), (-1, wire.NO_AUTH),
                                       (-1, wire.NO_AUTH)])
    eq(results[0][2], b"xyz")
    eq(sorted(results[1][2]), ["a", "secret"])


@probe("multiRead arms no watch")
def _(env):
    c, root = env.session(), env.root
    ok(c.call(wire.MULTI_READ, wire.multi((wire.GET_DATA, wire.path_watch(root, True)),
                                          (wire.GET_CHILDREN, wire.path_watch(root, True)))))
    ok(set_data(c, root))
    created(c, root + "/x")
    eq(c.drain(), [])


@probe("an empty multiRead succeeds; a write or an unknown op in one is -5")
def _(env):
    c, root = env.session(), env.root
    eq(ok(c.call(wire.MULTI_READ, wire.multi())).body, wire.multi_header(-1, True))
    for op in (op_create(root + "/a"), op_check(root), (wire.EXISTS, wire.path_watch(root)),
               (99, b"")):
        zxid = ok(exists(c, "/")).zxid
        reply = c.call(wire.MULTI_READ, wire.multi((wire.GET_DATA, wire.path_watch(root)), op))
        eq((reply.err, reply.zxid), (wire.MARSHALLING, zxid), str(op[0]))
    err(exists(c, root + "/a"), wire.NO_NODE)


@probe("reads and writes do not mix in a multi")
def _(env):
    c, root = env.session(), env.root
    err(c.call(wire.MULTI, wire.multi((wire.GET_DATA, wire.path_watch(root)))), wire.MARSHALLING)
    err(c.call(wire.MULTI, wire.multi(op_create(root + "/a"),
                                      (wire.GET_CHILDREN, wire.path_watch(root)))),
        wire.MARSHALLING)
    err(exists(c, root + "/a"), wire.NO_NODE)


@probe("a multi deletes and makes a znode again")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/a", data=b"old")
    ok(set_data(c, root + "/a", b"older"))
    results = multi(c, op_delete(root + "/a", 1), op_create2(root + "/a", data=b"new"))
    eq(results[1][-1].version, 0)
    eq(ok(get(c, root + "/a")).reader().buf(), b"new")
    true(ok(delete(c, root + "/a", 0)), "version starts again")
    err(create(c, root + "/a/b"), wire.NO_NODE)


def kind_of(connection, path):
    """What a znode is: a used container goes, a TTL znode too, an ephemeral shows its owner."""
    owner = stat_of(connection, path).ephemeral_owner
    if owner == 0:
        created(connection, path + "/x")
        ok(delete(connection, path + "/x"))
    return "ephemeral" if owner else None


@probe("in a multi, flag 4 of create and create2 makes a container, and the result is type 15")
def _(env):
    c, root = env.session(), env.root
    paths = []
    for op in (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER):
        results = multi(c, (op, wire.create(f"{root}/{op}", flags=4)))
        eq(results[0][:3], (15, 0, f"{root}/{op}"))
        paths.append(f"{root}/{op}")
    for path in paths:
        kind_of(c, path)
    for path in paths:
        true(disappears(env, c, path), f"the reaper takes {path}")


@probe("in a multi, createContainer makes a container with any flag from 0 to 4")
def _(env):
    c, root = env.session(), env.root
    paths = []
    for flags in range(5):
        results = multi(c, (wire.CREATE_CONTAINER, wire.create(f"{root}/{flags}-", flags=flags)))
        eq(results[0][:2], (15, 0))
        eq(len(results[0][2]) - len(f"{root}/{flags}-"), 10 if flags in (2, 3) else 0)
        eq(kind_of(c, results[0][2]), None)
        paths.append(results[0][2])
    for path in paths:
        true(disappears(env, c, path), f"the reaper takes {path}")


@probe("in a multi, createTTL with flags 0 to 4 is a create with that flag, whatever the TTL")
def _(env):
    c, root = env.session(), env.root
    for flags in range(5):
        for ttl in (0, 1000, 1 << 40, -1):
            name = f"{root}/{flags}-{ttl}-"
            results = multi(c, (wire.CREATE_TTL, wire.create_ttl(name, flags=flags, ttl=ttl)))
            eq(results[0][:2], (15 if flags == 4 else 1, 0), f"flag {flags}, ttl {ttl}")
            path = results[0][2]
            eq(len(path) - len(name), 10 if flags in (2, 3) else 0)
            eq(stat_of(c, path).ephemeral_owner, c.session if flags in (1, 3) else 0)


@probe("in a multi, a TTL out of range, or a bad flag of createTTL, is that op's -8")
def _(env):
    c, root = env.session(), env.root
    for flags in (5, 6, 9):
        for ttl in (0, -1, 1 << 40):
            results = multi(c, op_check("/"),
                            (wire.CREATE_TTL, wire.create_ttl(root + "/t", flags=flags, ttl=ttl)))
            eq(codes(results), [0, wire.BAD_ARGUMENTS], f"flag {flags}, ttl {ttl}")


@probe("in a multi, createTTL is that op's -6 while TTL znodes are switched off", server="plain")
def _(env):
    c, root = env.session(), env.root
    results = multi(c, op_check("/"), (wire.CREATE_TTL, wire.create_ttl(root + "/t", ttl=1000)))
    eq(codes(results), [0, wire.UNIMPLEMENTED])
