"""Sessions: expiry, ephemerals, restarts."""

import time

import wire
from probe import (Probes, children, closed, created, eq, err, events, exists, get, ok, set_data,
                   stat_of, true)

PROBES = probe = Probes()
TICK = 0.5
# A session never ends early; how late depends on ticks, and on how busy this machine is.
LATE = 3 * TICK + 1


@probe("a silent session ends not before its timeout and about a tick after it; its socket too")
def _(env):
    c, w, root = env.session(timeout=2000), env.session(), env.root
    created(c, root + "/e", flags=1)
    ok(get(w, root + "/e", True))
    ok(children(w, root, True))
    last = time.monotonic()
    c.send(wire.PING, xid=-2)
    ok(c.next())
    eq(c.receive(timeout=1.95), wire.SILENT, "within its timeout")
    closed(c.receive(timeout=2 + LATE))
    lived = time.monotonic() - last
    true(2.0 <= lived <= 2 + LATE, f"lived {lived:.2f} s")
    heard = events(w.drain())
    eq(heard, [(wire.DELETED, root + "/e"), (wire.CHILDREN_CHANGED, root)])
    answer = env.socket().handshake(session=c.session, password=c.password)
    eq(answer[4:16], b"\0" * 12)


@probe("any request keeps a session alive, also reads alone")
def _(env):
    c, r = env.session(timeout=1000), env.session(timeout=1000)
    for _ in range(6):
        time.sleep(0.5)
        c.send(wire.PING, xid=-2)
        ok(c.next())
        ok(exists(r, "/"))


@probe("a session whose socket is gone lives on for its timeout, and its ephemerals with it")
def _(env):
    c, w, root = env.session(timeout=2000), env.session(), env.root
    created(c, root + "/e", flags=1)
    c.drop()
    gone = time.monotonic()
    while exists(w, root + "/e").err == 0:
        time.sleep(0.05)
    lived = time.monotonic() - gone
    true(1.9 <= lived <= 2 + LATE, f"lived {lived:.2f} s")


@probe("a re-attach gives a full timeout")
def _(env):
    c, w, root = env.session(timeout=2000), env.session(), env.root
    created(c, root + "/e", flags=1)
    time.sleep(1.5)
    again = env.reattach(c, timeout=2000)
    attached = time.monotonic()
    again.drop()
    while exists(w, root + "/e").err == 0:
        time.sleep(0.05)
    lived = time.monotonic() - attached
    true(1.9 <= lived <= 2 + LATE, f"lived {lived:.2f} s")


@probe("ephemerals may be changed and deleted by others")
def _(env):
    c, other, root = env.session(), env.session(), env.root
    created(c, root + "/e", flags=1)
    ok(set_data(other, root + "/e", b"x"))
    ok(other.call(wire.DELETE, wire.path_version(root + "/e")))


@probe("closeSession deletes creates that were sent right before it")
def _(env):
    c, root = env.session(), env.root
    frames = [wire.i32(n) + wire.i32(wire.CREATE) + wire.create(f"{root}/e{n}", flags=1)
              for n in range(1, 20)]
    frames.append(wire.i32(20) + wire.i32(wire.CLOSE_SESSION))
    c.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
    eq([c.next().err for _ in frames], [0] * 20)
    closed(c.next())
    stat = stat_of(env.session(), root)
    eq((stat.num_children, stat.cversion), (0, 38))


@probe("session ids grow by one and carry the server's number on top")
def _(env):
    first, second = env.session(), env.session()
    eq((first.session >> 56) & 0xFF, (second.session >> 56) & 0xFF)
    true(second.session > first.session, "they grow")


@probe("a socket without a handshake is closed after a while")
def _(env):
    start = time.monotonic()
    closed(env.socket().receive(timeout=25))
    true(time.monotonic() - start > 9, "not before 10 s")


@probe("a killed server keeps what it acknowledged, its sessions and their ephemerals",
       server="restart")
def _(env):
    root = env.root
    c = env.session()
    created(c, root + "/e", data=b"1", flags=1)
    created(c, root + "/p", data=b"2")
    created(c, root + "/s-", flags=2)
    ok(set_data(c, root + "/p", b"3"))
    before = [str(stat_of(c, root + name)) for name in ("", "/e", "/p")]
    seen = ok(exists(c, "/")).zxid
    env.server.restart()
    again = env.reattach(c, zxid=seen)
    eq([str(stat_of(again, root + name)) for name in ("", "/e", "/p")], before)
    eq(ok(get(again, root + "/p")).reader().buf(), b"3")
    eq(created(again, root + "/s-", flags=2), root + "/s-0000000003")
    true(ok(exists(again, "/")).zxid > seen, "zxids go on")
    true(env.session().session > c.session, "session ids too")


@probe("after a restart a session has its full timeout again", server="restart")
def _(env):
    c, root = env.session(timeout=3000), env.root
    created(c, root + "/e", flags=1)
    time.sleep(1.5)
    c.drop()
    killed = time.monotonic()
    env.server.restart()
    started = time.monotonic()
    w = env.session()
    while exists(w, root + "/e").err == 0:
        time.sleep(0.05)
    gone = time.monotonic()
    true(gone - killed >= 3, f"only {gone - killed:.2f} s after the kill")
    true(gone - started <= 3 + LATE, f"still {gone - started:.2f} s after the restart")


@probe("a session that was closed stays closed over a restart", server="restart")
def _(env):
    c, root = env.session(), env.root
    created(c, root + "/e", flags=1)
    ok(c.close_session())
    env.server.restart()
    err(exists(env.session(), root + "/e"), wire.NO_NODE)
    eq(env.socket().handshake(session=c.session, password=c.password)[4:8], b"\0" * 4)

