"""Frames and the handshake."""

import struct

import wire
from probe import Probes, closed, create, created, eq, err, exists, get, ok, set_data, stat_of, true

PROBES = probe = Probes()
LIMIT = 0xFFFFF


def answer(payload):
    reader = wire.Reader(payload)
    fields = reader.i32(), reader.i32(), reader.i64(), reader.buf()
    return fields + ((reader.left(),) if reader.left() else ())


@probe("a negative frame length closes the connection, before and after the handshake")
def _(env):
    for connection in (env.socket(), env.session()):
        connection.send_bytes(wire.i32(-1))
        closed(connection.receive())


@probe("a frame length above jute.maxbuffer closes the connection")
def _(env):
    connection = env.session()
    connection.send_bytes(wire.i32(LIMIT + 1))
    closed(connection.receive())


@probe("a frame of exactly jute.maxbuffer bytes is served, and its larger reply is sent")
def _(env):
    connection = env.session()
    path = env.root + "/" + "x" * 3
    overhead = 8 + len(wire.create(path))
    reply = ok(create(connection, path, data=b"d" * (LIMIT - overhead)))
    eq(reply.path(), path)
    reply = ok(get(connection, path))
    eq(len(reply.payload), 16 + 4 + (LIMIT - overhead) + 68, "reply's length")


@probe("an empty frame closes the connection, before and after the handshake")
def _(env):
    for connection in (env.socket(), env.session()):
        connection.send_frame(b"")
        closed(connection.receive())


@probe("a frame too short for a request header closes the connection")
def _(env):
    for size in (1, 4, 7):
        connection = env.session()
        connection.send_frame(b"\0" * size)
        closed(connection.receive(), f"{size} bytes")


@probe("a four-letter word after the handshake is a bad length")
def _(env):
    connection = env.session()
    connection.send_bytes(b"ruok")
    closed(connection.receive())


@probe("a handshake and its requests may come byte by byte")
def _(env):
    connection = env.socket()
    frame = wire.connect_request(timeout=5000)
    for byte in wire.i32(len(frame)) + frame:
        connection.send_bytes(bytes([byte]))
    eq(answer(connection.receive())[1], 5000)
    request = wire.i32(1) + wire.i32(wire.EXISTS) + wire.path_watch("/")
    for byte in wire.i32(len(request)) + request:
        connection.send_bytes(bytes([byte]))
    ok(connection.next())


@probe("requests sent together with the handshake are answered after it, in order")
def _(env):
    connection = env.socket()
    frames = [wire.connect_request(timeout=5000)]
    frames += [wire.i32(xid) + wire.i32(wire.EXISTS) + wire.path_watch("/") for xid in (1, 2, 3)]
    connection.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
    eq(answer(connection.receive())[1], 5000)
    eq([connection.next().xid for _ in range(3)], [1, 2, 3])


@probe("the answer has the readOnly byte exactly when the request had it")
def _(env):
    for read_only, size in ((False, 37), (True, 37), (None, 36)):
        eq(len(env.socket().handshake(read_only=read_only)), size, f"readOnly={read_only}")


@probe("the answer's readOnly byte is 0 on a server that takes writes")
def _(env):
    eq(env.socket().handshake(read_only=True)[-1:], b"\0")


@probe("any protocol version is accepted and answered with 0")
def _(env):
    connection = env.socket()
    connection.send_frame(wire.connect_request(version=7))
    eq(answer(connection.receive())[0], 0)


@probe("bytes behind a connect request are ignored")
def _(env):
    connection = env.socket()
    connection.send_frame(wire.connect_request(timeout=5000) + b"more than that")
    eq(answer(connection.receive())[1], 5000)


@probe("a connect request that ends too early is closed without an answer")
def _(env):
    connection = env.socket()
    connection.send_frame(wire.connect_request(read_only=None)[:20])
    closed(connection.receive())


@probe("the session's timeout is clamped between 2 and 20 ticks")
def _(env):
    for wanted, given in ((-5, 1000), (0, 1000), (1, 1000), (5000, 5000), (1_000_000, 10_000)):
        eq(answer(env.socket().handshake(timeout=wanted))[1], given, f"wanted {wanted}")


@probe("a new session takes a null, empty or short password and gets 16 bytes")
def _(env):
    for password in (None, b"", b"abc"):
        connection = env.socket()
        connection.send_frame(wire.connect_request(password=password))
        fields = answer(connection.receive())
        true(fields[2] != 0, "a session id")
        eq(len(fields[3]), 16, "password's length")
        true(fields[3] != b"\0" * 16, "a password that is not the placeholder")


@probe("opening a session takes a zxid, and closing it another")
def _(env):
    watcher = env.session()
    before = ok(exists(watcher, "/")).zxid
    other = env.session()
    eq(ok(exists(watcher, "/")).zxid, before + 1, "after the open")
    ok(other.close_session())
    eq(ok(exists(watcher, "/")).zxid, before + 2, "after the close")


def refused(payload):
    eq(payload, wire.i32(0) + wire.i32(0) + wire.i64(0) + wire.buf(b"\0" * 16) + b"\0")


@probe("an unknown session is answered with timeout 0, id 0 and a zero password, then closed")
def _(env):
    for session in (0x1234, -1, -(1 << 63), (1 << 63) - 1):
        connection = env.socket()
        refused(connection.handshake(session=session, password=b"\1" * 16))
        closed(connection.receive())


@probe("a wrong password is answered exactly as an unknown session")
def _(env):
    session = env.session()
    for password in (b"\1" * 16, b"\0" * 16, b"", None, session.password[:15]):
        connection = env.socket()
        connection.send_frame(wire.connect_request(session.session, password))
        refused(connection.receive())
        closed(connection.receive())


@probe("a re-attach with a wrong password still cuts the healthy connection on the same server")
def _(env):
    session = env.session()
    refused(env.socket().handshake(session=session.session, password=b"\1" * 16))
    closed(session.receive())
    env.reattach(session)


@probe("a re-attach keeps id and password and negotiates the timeout anew")
def _(env):
    first = env.session(timeout=5000)
    second = env.reattach(first, timeout=7000)
    eq((second.session, second.password, second.negotiated),
       (first.session, first.password, 7000))


@probe("a re-attach takes no zxid")
def _(env):
    watcher = env.session()
    first = env.session()
    before = ok(exists(watcher, "/")).zxid
    env.reattach(first)
    eq(ok(exists(watcher, "/")).zxid, before)


@probe("of several connections with one session the newest wins and the older is closed")
def _(env):
    first = env.session()
    second = env.reattach(first)
    closed(first.receive())
    third = env.reattach(first)
    closed(second.receive())
    ok(exists(third, "/"))


@probe("a write on a connection whose session moved on is closed without a reply")
def _(env):
    first = env.session()
    root = env.root
    env.reattach(first)
    first.send(wire.CREATE, wire.create(root + "/late"))
    closed(first.next())
    err(exists(env.session(), root + "/late"), wire.NO_NODE)


@probe("a lastZxidSeen ahead of the server is closed without an answer, new session or old")
def _(env):
    session = env.session()
    ahead = ok(exists(session, "/")).zxid + 1_000_000
    closed(env.socket().handshake(zxid=ahead))
    closed(env.socket().handshake(session=session.session, password=session.password, zxid=ahead))
    # The check comes before the takeover: the healthy connection is not disturbed.
    ok(exists(session, "/"))


@probe("a lastZxidSeen equal to the server's is accepted")
def _(env):
    session = env.session()
    seen = ok(exists(session, "/")).zxid
    env.reattach(session, zxid=seen)


@probe("a watch does not outlive its connection")
def _(env):
    first, root = env.session(), env.root
    ok(get(first, root, watch=True))
    second = env.reattach(first)
    ok(set_data(second, root))
    eq(second.drain(), [])


@probe("an identity does not outlive its connection")
def _(env):
    first, root = env.session(), env.root
    ok(first.call(wire.AUTH, wire.auth("digest", "u:p"), xid=wire.XID_AUTH))
    created(first, root + "/mine", acl=[(wire.ALL, "auth", "")])
    ok(get(first, root + "/mine"))
    err(get(env.reattach(first), root + "/mine"), wire.NO_AUTH)


@probe("a closed socket does not close the session")
def _(env):
    first, root = env.session(), env.root
    created(first, root + "/e", flags=1)
    first.drop()
    watcher = env.session()
    eq(stat_of(watcher, root + "/e").ephemeral_owner, first.session)
    env.reattach(first)


@probe("closeSession is answered, then closed; what follows it is not answered")
def _(env):
    connection = env.session()
    body = b"".join(wire.i32(len(f)) + f for f in (
        wire.i32(1) + wire.i32(wire.CLOSE_SESSION),
        wire.i32(2) + wire.i32(wire.EXISTS) + wire.path_watch("/"),
        wire.i32(-2) + wire.i32(wire.PING)))
    connection.send_bytes(body)
    reply = connection.next()
    eq((reply.xid, reply.err, reply.body), (1, 0, b""))
    closed(connection.next())


@probe("a closed session is gone: a re-attach is refused")
def _(env):
    connection = env.session()
    ok(connection.close_session())
    refused(env.socket().handshake(session=connection.session, password=connection.password))


@probe("the server's four bytes of a length come first: one frame per reply")
def _(env):
    connection = env.session()
    connection.send(wire.PING, xid=-2)
    eq(connection.receive(), struct.pack(">iqi", -2, ok(exists(connection, "/")).zxid, 0))
