"""Watches: which change tells whom, in what order, and catching up after a reconnect."""

import wire
from probe import (Probes, add_watch, authenticate, children, created, delete, eq, err, events,
                   exists, get, ok, set_data, stat_of, true)

PROBES = probe = Probes()
PERSISTENT, RECURSIVE = 0, 1
CHILDREN, DATA, ANY, PERSISTENT_TYPE, RECURSIVE_TYPE = 1, 2, 3, 4, 5


def remove(connection, path, kind):
    return connection.call(wire.REMOVE_WATCHES, wire.path_int(path, kind))


def check(connection, path, kind):
    return connection.call(wire.CHECK_WATCHES, wire.path_int(path, kind))


def seen_by(connection):
    return events(connection.drain())


@probe("addWatch's reply has a body of four zero bytes")
def _(env):
    c, root = env.session(), env.root
    for mode in (PERSISTENT, RECURSIVE):
        eq(ok(add_watch(c, root, mode)).body, b"\0\0\0\0")


@probe("addWatch takes any path and refuses any other mode with -5")
def _(env):
    c, root = env.session(), env.root
    for path in (root + "/nope", "", "bad path"):
        ok(add_watch(c, path, PERSISTENT))
    for mode in (-1, 2, 3, 100):
        err(add_watch(c, root, mode), wire.MARSHALLING, f"mode {mode}")


@probe("an event comes before the reply of the write that made it, with the same zxid")
def _(env):
    c, root = env.session(), env.root
    ok(get(c, root, watch=True))
    reply = ok(set_data(c, root))
    eq(events(c.events), [(wire.DATA_CHANGED, root)])
    eq(c.events[0].zxid, reply.zxid)
    eq(c.events[0].payload[:4], wire.i32(-1))


def cell(env, arm, act):
    """What one connection hears of another's changes."""
    watcher, actor, root = env.session(), env.session(), env.root
    arm(watcher, root)
    act(actor, root)
    return [(kind, path[len(root):]) for kind, path in seen_by(watcher)]


@probe("exists on a missing znode hears of its creation, once")
def _(env):
    eq(cell(env, lambda w, r: err(exists(w, r + "/x", True), wire.NO_NODE),
            lambda a, r: (created(a, r + "/x"), set_data(a, r + "/x"))),
       [(wire.CREATED, "/x")])


@probe("getData on a missing znode arms nothing; nor do getChildren and a refused read")
def _(env):
    def arm(w, r):
        err(get(w, r + "/x", True), wire.NO_NODE)
        err(children(w, r + "/x", True), wire.NO_NODE)
    eq(cell(env, arm, lambda a, r: (created(a, r + "/x"), created(a, r + "/x/y"))), [])


@probe("a data watch hears of data and deletion, not of children")
def _(env):
    for arm in (lambda w, r: ok(get(w, r + "/x", True)),
                lambda w, r: ok(exists(w, r + "/x", True))):
        root = env.root
        created(env.session(), root + "/x")
        eq(cell(env, arm, lambda a, r: (created(a, r + "/x/c"), delete(a, r + "/x/c"),
                                        set_data(a, r + "/x"), set_data(a, r + "/x"))),
           [(wire.DATA_CHANGED, "/x")])
        eq(cell(env, arm, lambda a, r: delete(a, r + "/x")), [(wire.DELETED, "/x")])


@probe("a child watch hears of children made and gone and of deletion, not of data")
def _(env):
    created(env.session(), env.root + "/x")
    arm = lambda w, r: ok(children(w, r + "/x", True))
    eq(cell(env, arm, lambda a, r: (set_data(a, r + "/x"), created(a, r + "/x/c"),
                                    delete(a, r + "/x/c"))), [(wire.CHILDREN_CHANGED, "/x")])
    created(env.session(), env.root + "/x/c")
    eq(cell(env, arm, lambda a, r: (set_data(a, r + "/x/c"), created(a, r + "/x/c/d"),
                                    delete(a, r + "/x/c/d"), delete(a, r + "/x/c"))),
       [(wire.CHILDREN_CHANGED, "/x")])
    eq(cell(env, arm, lambda a, r: delete(a, r + "/x")), [(wire.DELETED, "/x")])


def life(actor, root):
    created(actor, root + "/n")
    ok(set_data(actor, root + "/n"))
    created(actor, root + "/n/c")
    ok(set_data(actor, root + "/n/c"))
    created(actor, root + "/n/c/g")
    ok(delete(actor, root + "/n/c/g"))
    ok(delete(actor, root + "/n/c"))
    ok(delete(actor, root + "/n"))
    created(actor, root + "/n")


@probe("a persistent watch hears of its znode and its children's coming and going, for good")
def _(env):
    eq(cell(env, lambda w, r: ok(add_watch(w, r + "/n", PERSISTENT)), life), [
        (wire.CREATED, "/n"), (wire.DATA_CHANGED, "/n"), (wire.CHILDREN_CHANGED, "/n"),
        (wire.CHILDREN_CHANGED, "/n"), (wire.DELETED, "/n"), (wire.CREATED, "/n")])


RECURSIVE_LIFE = [
    (wire.CREATED, "/n"), (wire.DATA_CHANGED, "/n"), (wire.CREATED, "/n/c"),
    (wire.DATA_CHANGED, "/n/c"), (wire.CREATED, "/n/c/g"), (wire.DELETED, "/n/c/g"),
    (wire.DELETED, "/n/c"), (wire.DELETED, "/n"), (wire.CREATED, "/n")]


@probe("a recursive watch hears of the whole subtree, and never of changed children")
def _(env):
    eq(cell(env, lambda w, r: ok(add_watch(w, r + "/n", RECURSIVE)), life), RECURSIVE_LIFE)


@probe("a recursive watch on an ancestor, even the root, hears the same")
def _(env):
    eq(cell(env, lambda w, r: ok(add_watch(w, r, RECURSIVE)), life), RECURSIVE_LIFE)
    watcher, actor, root = env.session(), env.session(), env.root
    ok(add_watch(watcher, "/", RECURSIVE))
    created(actor, root + "/deep")
    true((wire.CREATED, root + "/deep") in seen_by(watcher), "the root's watcher hears it")


@probe("several kinds on one path: one event per change and table")
def _(env):
    def arm(w, r):
        err(exists(w, r + "/n", True), wire.NO_NODE)
        ok(add_watch(w, r + "/n", PERSISTENT))
        ok(add_watch(w, r + "/n", RECURSIVE))
    eq(cell(env, arm, life), [
        (wire.CREATED, "/n"), (wire.DATA_CHANGED, "/n"), (wire.CREATED, "/n/c"),
        (wire.CHILDREN_CHANGED, "/n"), (wire.DATA_CHANGED, "/n/c"), (wire.CREATED, "/n/c/g"),
        (wire.DELETED, "/n/c/g"), (wire.DELETED, "/n/c"), (wire.CHILDREN_CHANGED, "/n"),
        (wire.DELETED, "/n"), (wire.CREATED, "/n")])


@probe("data, child and exist watches on one znode: its deletion is told once")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    created(a, root + "/n")
    ok(get(w, root + "/n", True))
    ok(children(w, root + "/n", True))
    ok(exists(w, root + "/n", True))
    ok(children(w, root, True))
    ok(delete(a, root + "/n"))
    eq(seen_by(w), [(wire.DELETED, root + "/n"), (wire.CHILDREN_CHANGED, root)])


@probe("data and child watches of different connections: each is told of the deletion")
def _(env):
    v, w, a, root = env.session(), env.session(), env.session(), env.root
    created(a, root + "/n")
    ok(get(v, root + "/n", True))
    ok(children(w, root + "/n", True))
    ok(delete(a, root + "/n"))
    eq([seen_by(v), seen_by(w)], [[(wire.DELETED, root + "/n")]] * 2)


@probe("recursive and one-shot child watch on one znode: the child's event, then the parent's")
def _(env):
    def arm(w, r):
        ok(add_watch(w, r, RECURSIVE))
        ok(children(w, r, True))
    eq(cell(env, arm, lambda a, r: created(a, r + "/n")),
       [(wire.CREATED, "/n"), (wire.CHILDREN_CHANGED, "")])


@probe("arming the same watch twice gives one event, and it is gone then")
def _(env):
    def arm(w, r):
        for _ in range(2):
            ok(get(w, r, True))
            ok(exists(w, r, True))
            ok(children(w, r, True))
    eq(cell(env, arm, lambda a, r: (set_data(a, r), set_data(a, r), created(a, r + "/x"),
                                    created(a, r + "/y"))),
       [(wire.DATA_CHANGED, ""), (wire.CHILDREN_CHANGED, "")])


@probe("a persistent and a one-shot watch: one event, and the persistent one stays")
def _(env):
    def arm(w, r):
        ok(add_watch(w, r, PERSISTENT))
        ok(get(w, r, True))
    eq(cell(env, arm, lambda a, r: (set_data(a, r), set_data(a, r))),
       [(wire.DATA_CHANGED, "")] * 2)


@probe("setACL and refused writes tell nobody")
def _(env):
    def arm(w, r):
        ok(add_watch(w, r, PERSISTENT))
        ok(add_watch(w, r, RECURSIVE))
        ok(get(w, r, True))
        ok(children(w, r, True))
    def act(a, r):
        ok(a.call(wire.SET_ACL, wire.set_acl(r)))
        err(set_data(a, r, b"", 9), wire.BAD_VERSION)
        err(delete(a, r + "/nope"), wire.NO_NODE)
    eq(cell(env, arm, act), [])


@probe("a top-level znode's parent is /")
def _(env):
    w, a = env.session(), env.session()
    ok(children(w, "/", True))
    path = f"/top-{env.number}"
    created(a, path)
    eq(seen_by(w), [(wire.CHILDREN_CHANGED, "/")])
    ok(delete(a, path))


@probe("setWatches: missing znodes, newer ones and equal ones, in the order of the lists")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    for name in ("old", "data", "child", "both"):
        created(a, f"{root}/{name}")
    seen = ok(exists(a, "/")).zxid
    ok(set_data(a, root + "/data"))
    created(a, root + "/child/x")
    reply = ok(w.call(wire.SET_WATCHES, wire.set_watches(
        seen,
        [root + "/gone", root + "/data", root + "/old", root + "/child"],
        [root + "/nope", root + "/old"],
        [root + "/gone", root + "/child", root + "/old", root + "/data"]), xid=-8))
    eq((reply.xid, reply.body), (-8, b""))
    eq(events(w.events), [
        (wire.DELETED, root + "/gone"), (wire.DATA_CHANGED, root + "/data"),
        (wire.CREATED, root + "/old"),
        (wire.DELETED, root + "/gone"), (wire.CHILDREN_CHANGED, root + "/child")])
    eq({event.zxid for event in w.events}, {-1}, "zxid of what was caught up")
    # What was not told now is armed.
    for path in ("/old", "/child", "/data"):
        ok(set_data(a, root + path))
    created(a, root + "/nope")
    created(a, root + "/old/x")
    created(a, root + "/data/x")
    eq(seen_by(w), [(wire.DATA_CHANGED, root + "/old"), (wire.DATA_CHANGED, root + "/child"),
                    (wire.CREATED, root + "/nope"), (wire.CHILDREN_CHANGED, root + "/old"),
                    (wire.CHILDREN_CHANGED, root + "/data")])


@probe("setWatches at exactly the change's zxid arms the watch")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    seen = ok(set_data(a, root)).zxid
    ok(w.call(wire.SET_WATCHES, wire.set_watches(seen, [root]), xid=-8))
    eq(w.events, [])
    ok(w.call(wire.SET_WATCHES, wire.set_watches(seen - 1, [root]), xid=-8))
    eq(events(w.events), [(wire.DATA_CHANGED, root)])


@probe("setWatches: a znode deleted and made again has changed")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    created(a, root + "/n")
    seen = ok(exists(a, "/")).zxid
    ok(delete(a, root + "/n"))
    created(a, root + "/n")
    ok(w.call(wire.SET_WATCHES, wire.set_watches(seen, [root + "/n"], [], [root + "/n"])))
    eq(events(w.events), [(wire.DATA_CHANGED, root + "/n"), (wire.CHILDREN_CHANGED, root + "/n")])


@probe("setWatches judges a deletion among children by pzxid")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    created(a, root + "/n")
    seen = ok(exists(a, "/")).zxid
    ok(delete(a, root + "/n"))
    ok(w.call(wire.SET_WATCHES, wire.set_watches(seen, [root], [], [root])))
    eq(events(w.events), [(wire.CHILDREN_CHANGED, root)])


@probe("setWatches checks neither paths nor ACLs, and its events are not filtered")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    created(a, root + "/secret", acl=[(wire.WRITE | wire.ADMIN, "world", "anyone")])
    ok(w.call(wire.SET_WATCHES, wire.set_watches(0, ["bad", root + "/secret"])))
    eq(events(w.events), [(wire.DELETED, "bad"), (wire.DATA_CHANGED, root + "/secret")])


@probe("a null list in setWatches is -5, empty ones are fine")
def _(env):
    c = env.session()
    for body in (wire.i64(0) + wire.vec(None) + wire.vec([]) + wire.vec([]),
                 wire.i64(0) + wire.vec([]) + wire.vec([]) + wire.vec(None)):
        err(c.call(wire.SET_WATCHES, body), wire.MARSHALLING)
    ok(c.call(wire.SET_WATCHES, wire.set_watches(0)))
    ok(c.call(wire.SET_WATCHES2, wire.set_watches2(0)))
    ok(c.call(wire.SET_WATCHES2, wire.set_watches2(0)))


@probe("setWatches2 resumes persistent and recursive watches and replays nothing")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    created(a, root + "/p")
    created(a, root + "/r")
    ok(w.call(wire.SET_WATCHES2, wire.set_watches2(
        0, persistent=[root + "/p", root + "/nope"], recursive=[root + "/r"])))
    eq(w.events, [])
    for path in ("/p/x", "/r/x", "/nope"):
        created(a, root + path)
    ok(set_data(a, root + "/p/x"))
    ok(set_data(a, root + "/r/x"))
    eq(seen_by(w), [(wire.CHILDREN_CHANGED, root + "/p"), (wire.CREATED, root + "/r/x"),
                    (wire.CREATED, root + "/nope"), (wire.DATA_CHANGED, root + "/r/x")])


@probe("check and removeWatches know five types; others are -5; replies have no body")
def _(env):
    c, root = env.session(), env.root
    for kind in (0, 6, -1):
        err(check(c, root, kind), wire.MARSHALLING)
        err(remove(c, root, kind), wire.MARSHALLING)
    for kind in (CHILDREN, DATA, ANY, PERSISTENT_TYPE, RECURSIVE_TYPE):
        err(check(c, root, kind), wire.NO_WATCHER)
        err(remove(c, root, kind), wire.NO_WATCHER)
    ok(get(c, root, True))
    eq(ok(check(c, root, DATA)).body, b"")
    eq(ok(remove(c, root, DATA)).body, b"")
    err(remove(c, root, DATA), wire.NO_WATCHER)


@probe("each type removes its own kind only")
def _(env):
    root = env.root
    arms = {CHILDREN: lambda c: ok(children(c, root, True)),
            DATA: lambda c: ok(get(c, root, True)),
            PERSISTENT_TYPE: lambda c: ok(add_watch(c, root, PERSISTENT)),
            RECURSIVE_TYPE: lambda c: ok(add_watch(c, root, RECURSIVE))}
    for removed in arms:
        c = env.session()
        for arm in arms.values():
            arm(c)
        ok(remove(c, root, removed))
        eq([kind for kind in arms if check(c, root, kind).err != 0], [removed])
        ok(check(c, root, ANY))
    c = env.session()
    for arm in arms.values():
        arm(c)
    ok(remove(c, root, ANY))
    eq([kind for kind in (*arms, ANY) if check(c, root, kind).err == 0], [])
    ok(set_data(c, root))
    eq(c.events, [])


@probe("a one-shot watch that fired can no longer be removed")
def _(env):
    c, root = env.session(), env.root
    ok(get(c, root, True))
    ok(set_data(c, root))
    err(remove(c, root, DATA), wire.NO_WATCHER)


@probe("removal is by exact path and by connection")
def _(env):
    c, other, root = env.session(), env.session(), env.root
    ok(get(c, root, True))
    err(remove(c, root + "/x", ANY), wire.NO_WATCHER)
    err(remove(other, root, ANY), wire.NO_WATCHER)
    ok(remove(c, root, ANY))


@probe("who may not read a znode hears nothing of it, and the one-shot watch is spent")
def _(env):
    w, root = env.session(), env.root
    a = env.session()
    ok(authenticate(a, "digest", "u:p"))
    created(a, root + "/n")
    ok(get(w, root + "/n", True))
    ok(add_watch(w, root + "/n", PERSISTENT))
    ok(a.call(wire.SET_ACL, wire.set_acl(root + "/n", [(wire.ALL, "auth", "")])))
    ok(set_data(a, root + "/n"))
    eq(seen_by(w), [])
    err(check(w, root + "/n", DATA), wire.NO_WATCHER)
    ok(check(w, root + "/n", PERSISTENT_TYPE))
    # What counts is who the receiver is when it is told.
    ok(authenticate(w, "digest", "u:p"))
    ok(set_data(a, root + "/n"))
    eq(seen_by(w), [(wire.DATA_CHANGED, root + "/n")])


@probe("an event of changed children is judged by the parent's ACL, a deletion by the znode's")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    ok(authenticate(a, "digest", "u:p"))
    created(a, root + "/p")
    ok(children(w, root + "/p", True))
    ok(add_watch(w, root, RECURSIVE))
    ok(a.call(wire.SET_ACL, wire.set_acl(root + "/p", [(wire.ALL, "auth", "")])))
    created(a, root + "/p/open")
    created(a, root + "/p/closed", acl=[(wire.ALL, "auth", "")])
    ok(delete(a, root + "/p/closed"))
    ok(delete(a, root + "/p/open"))
    eq(seen_by(w), [(wire.CREATED, root + "/p/open"), (wire.DELETED, root + "/p/open")])


@probe("addWatch is never refused for ACLs")
def _(env):
    w, a, root = env.session(), env.session(), env.root
    created(a, root + "/n", acl=[(wire.WRITE | wire.ADMIN, "world", "anyone")])
    ok(add_watch(w, root + "/n", PERSISTENT))
    ok(set_data(a, root + "/n"))
    eq(seen_by(w), [])


@probe("closeSession tells of each ephemeral and its parent, before its own reply")
def _(env):
    c, w, root = env.session(), env.session(), env.root
    created(c, root + "/e1", flags=1)
    created(c, root + "/e2", flags=1)
    for one in (c, w):
        ok(get(one, root + "/e1", True))
        ok(children(one, root, True))
    reply = ok(c.close_session())
    heard = events(c.events)
    eq(sorted(heard), sorted([(wire.DELETED, root + "/e1"), (wire.CHILDREN_CHANGED, root)]))
    eq({e.zxid for e in c.events}, {reply.zxid})
    eq(sorted(seen_by(w)), sorted(heard))
    parent = stat_of(w, root)
    eq((parent.pzxid, parent.num_children, parent.cversion), (reply.zxid, 0, 4))
