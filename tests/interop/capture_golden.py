#!/usr/bin/env python3
"""Records what a ZooKeeper server answers, byte for byte.

    capture_golden.py HOST:PORT OUT_DIR [--note TEXT]

Sends hand-made frames and writes one text file per group of exchanges into OUT_DIR. The tests of
`quorate-proto` read them from client/proto/tests/golden. Nothing but Python is needed.

Works below /golden, which it deletes first. The server should be a scratch one, standalone, with
`extendedTypesEnabled` (TTL znodes), default `reconfigEnabled` and no SASL.

Lines of an exchange, in the order in which it happened on its connection:

    [name]      starts an exchange, on a connection of its own unless said otherwise
    > hex       frame sent: prefix, header, body
    ! hex       the same, malformed: a decoder has to refuse the body
    ~ hex       the same, legal, but not how anybody would write it: it decodes, and encodes otherwise
    ? hex       the same, with an opcode that does not exist
    < hex       frame received
    x           the server closed the connection
"""

import argparse
import os
import socket
import struct

# --- primitives -----------------------------------------------------------------------------


def i32(n):
    return struct.pack(">i", n)


def i64(n):
    return struct.pack(">q", n)


def boolean(b):
    return bytes([int(b)])


def buf(b):
    return i32(-1) if b is None else i32(len(b)) + b


def text(s):
    return buf(None if s is None else s.encode())


def vec(items):
    return i32(-1) if items is None else i32(len(items)) + b"".join(items)


def acl(perms, scheme, ident):
    return i32(perms) + text(scheme) + text(ident)


def texts(*items):
    return vec([text(item) for item in items])


OPEN = vec([acl(31, "world", "anyone")])

CLOSE, CREATE_SESSION = -11, -10
CREATE, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC = 1, 2, 3, 4, 5, 6, 7, 8, 9
PING, CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG, CHECK_W, REMOVE_W = 11, 12, 13, 14, 15, 16, 17, 18
CONTAINER, DELETE_CONTAINER, TTL, MULTI_READ = 19, 20, 21, 22
AUTH, SET_W, SASL, EPHEMERALS, ALL_CHILDREN, SET_W2, ADD_W, WHO = 100, 101, 102, 103, 104, 105, 106, 107


def create(path, data=b"", acls=OPEN, flags=0):
    return text(path) + buf(data) + acls + i32(flags)


def connect_request(session=0, password=bytes(16), read_only=False, zxid=0, timeout=10_000, version=0):
    payload = i32(version) + i64(zxid) + i32(timeout) + i64(session) + buf(password)
    return payload if read_only is None else payload + boolean(read_only)


def multi(*ops):
    body = b"".join(i32(op) + boolean(False) + i32(-1) + record for op, record in ops)
    return body + i32(-1) + boolean(True) + i32(-1)


# --- connections ----------------------------------------------------------------------------


class Connection:
    """One TCP connection; writes into `log` while that is set."""

    def __init__(self, address):
        self.socket = socket.create_connection(address, timeout=10)
        self.log = None
        self.xid = 0

    def note(self, mark, frame=b""):
        if self.log is not None:
            self.log.append(f"{mark} {frame.hex()}".rstrip())

    def send(self, payload, mark=">"):
        frame = i32(len(payload)) + payload
        self.note(mark, frame)
        self.socket.sendall(frame)

    def exactly(self, n):
        data = b""
        while len(data) < n:
            try:
                more = self.socket.recv(n - len(data))
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            data += more
        return data

    def receive(self):
        """The next payload, or None where the server closed."""
        prefix = self.exactly(4)
        payload = prefix and self.exactly(struct.unpack(">i", prefix)[0])
        if payload is None:
            self.note("x")
            return None
        self.note("<", prefix + payload)
        return payload

    def handshake(self, **fields):
        self.send(connect_request(**fields))
        answer = self.receive()
        if answer is None:
            return None, None
        session, length = struct.unpack(">qi", answer[8:20])
        return session, answer[20 : 20 + length]

    def call(self, op, body=b"", xid=None, mark=">"):
        """Sends a request and reads up to its reply, events on the way included."""
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.send(i32(xid) + i32(op) + body, mark)
        while True:
            payload = self.receive()
            if payload is None or payload[:4] != i32(-1):
                return payload


class Recorder:
    """Collects exchanges into files."""

    def __init__(self, address, out, note):
        self.address, self.out, self.note = address, out, note
        self.lines, self.connection = [], None

    def open(self):
        """A connection with a session, not recorded."""
        connection = Connection(self.address)
        connection.handshake()
        return connection

    def exchange(self, name, comment=None):
        """Starts an exchange on a new connection without handshake."""
        self.finish()
        self.start(name, comment, Connection(self.address))
        return self.connection

    def on(self, connection, name, comment=None):
        """Starts an exchange on a connection that is there."""
        if self.connection is not None:
            self.connection.log = None
        self.start(name, comment, connection)
        return connection

    def session(self, name, comment=None):
        """Starts an exchange on a new connection whose handshake is not recorded."""
        self.finish()
        self.start(name, comment, self.open())
        return self.connection

    def start(self, name, comment, connection):
        self.lines.append("")
        if comment:
            self.lines.append(f"# {comment}")
        self.lines.append(f"[{name}]")
        connection.log = self.lines
        self.connection = connection

    def finish(self):
        if self.connection is not None:
            self.connection.log = None
            self.connection.socket.close()
            self.connection = None

    def write(self, group):
        self.finish()
        head = [
            f"# {group}: bytes of a real server. {self.note}".rstrip(),
            "# Captured by tests/interop/capture_golden.py, which explains the lines.",
        ]
        with open(os.path.join(self.out, f"{group}.txt"), "w") as file:
            file.write("\n".join(head + self.lines) + "\n")
        self.lines = []


# --- groups ---------------------------------------------------------------------------------


def handshake(r):
    c = r.exchange("new session, readOnly false")
    session, password = c.handshake()
    c = r.exchange("new session, readOnly true")
    c.handshake(read_only=True)
    c = r.exchange("new session, no readOnly byte")
    c.handshake(read_only=None)
    for name, given in (("null", None), ("empty", b""), ("short", b"abc")):
        c = r.exchange(f"new session, {name} password")
        c.handshake(password=given)
    for name, timeout in (("negative", -5), ("zero", 0), ("huge", 1_000_000)):
        c = r.exchange(f"new session, {name} timeout")
        c.handshake(timeout=timeout)
    c = r.exchange("new session, version 7")
    c.handshake(version=7)
    c = r.exchange("new session, bytes behind the record")
    c.send(connect_request() + b"more", "~")
    c.receive()
    c = r.exchange("known session")
    c.handshake(session=session, password=password)
    c = r.exchange("known session, wrong password")
    c.handshake(session=session, password=b"\x01" * 16)
    c.receive()
    c = r.exchange("unknown session")
    c.handshake(session=0x1234, password=b"\x01" * 16)
    c.receive()
    c = r.exchange("unknown session, no readOnly byte")
    c.handshake(session=0x1234, password=b"\x01" * 16, read_only=None)
    c.receive()
    c = r.exchange("zxid ahead of the server")
    c.handshake(zxid=0x7FFF_0000_0000_0000)
    c = r.exchange("record cut short")
    c.send(connect_request(read_only=None)[:-17], "!")
    c.receive()
    c = r.exchange("empty frame")
    c.send(b"", "!")
    c.receive()
    r.write("handshake")


def operations(r):
    base = r.session("create the base")
    base.call(CREATE, create("/golden", b"base"))

    def one(name, op, body=b"", **more):
        return r.on(base, name).call(op, body, **more)

    one("ping", PING, xid=-2)
    one("ping with an ordinary xid", PING, xid=77)
    one("create with data", CREATE, create("/golden/a", b"abc"))
    one("create with null data", CREATE, create("/golden/null", None))
    one("create with empty data", CREATE, create("/golden/empty", b""))
    one("create beyond ASCII", CREATE, create("/golden/\u00e4 \u2028\u00a0", "\u20ac".encode()))
    one("create sequential", CREATE, create("/golden/s-", b"", flags=2))
    one("create ephemeral", CREATE, create("/golden/e", b"", flags=1))
    one("create ephemeral sequential", CREATE, create("/golden/es-", b"", flags=3))
    one("create2", CREATE2, create("/golden/c2", b"two"))
    one("create2 with flag container", CREATE2, create("/golden/c2c", b"", flags=4))
    one("createContainer", CONTAINER, create("/golden/container", b"", flags=4))
    one("createTTL", TTL, create("/golden/ttl", b"", flags=5) + i64(3_600_000))
    one("createTTL sequential, longest", TTL, create("/golden/ttl-", b"", flags=6) + i64((1 << 40) - 1))
    one("exists", EXISTS, text("/golden/a") + boolean(False))
    one("exists, ephemeral", EXISTS, text("/golden/e") + boolean(False))
    one("exists, ttl", EXISTS, text("/golden/ttl") + boolean(False))
    one("exists, container", EXISTS, text("/golden/container") + boolean(False))
    one("exists, empty path is the root", EXISTS, text("") + boolean(False))
    one("getData", GET, text("/golden/a") + boolean(False))
    one("getData, null", GET, text("/golden/null") + boolean(False))
    one("getData, empty", GET, text("/golden/empty") + boolean(False))
    one("getData, watch byte 7", GET, text("/golden/empty") + b"\x07", mark="~")
    one("getData, bytes behind", GET, text("/golden/a") + boolean(False) + b"more", mark="~")
    one("setData", SET, text("/golden/a") + buf(b"abcd") + i32(0))
    one("setData null", SET, text("/golden/a") + buf(None) + i32(-1))
    one("getACL", GET_ACL, text("/golden/a"))
    one("auth digest", AUTH, i32(0) + text("digest") + buf(b"u:p"), xid=-4)
    one("auth with an ordinary xid", AUTH, i32(3) + text("digest") + buf(b"v:q"), xid=12)
    one("whoAmI", WHO)
    one("create for auth, null id", CREATE, create("/golden/auth", b"", vec([acl(31, "auth", None)])))
    one("create for auth, empty id", CREATE, create("/golden/auth2", b"", vec([acl(31, "auth", "")])))
    one("getACL, digests", GET_ACL, text("/golden/auth"))
    mixed = vec([acl(1, "world", "anyone"), acl(63, "ip", "127.0.0.1/8"), acl(-1, "digest", "u:hash")])
    one("setACL", SET_ACL, text("/golden/c2") + mixed + i32(0))
    one("getACL, mixed", GET_ACL, text("/golden/c2"))
    one("getChildren", CHILDREN, text("/golden") + boolean(False))
    one("getChildren, none", CHILDREN, text("/golden/a") + boolean(False))
    one("getChildren2", CHILDREN2, text("/golden") + boolean(False))
    one("getChildren2, none", CHILDREN2, text("/golden/a") + boolean(False))
    one("getAllChildrenNumber", ALL_CHILDREN, text("/golden"))
    one("getEphemerals", EPHEMERALS, text("/golden"))
    one("getEphemerals, null prefix", EPHEMERALS, text(None))
    one("getEphemerals, none", EPHEMERALS, text("/nothing"))
    one("sync", SYNC, text("/golden"))
    one("sync, empty", SYNC, text(""))
    one("sync, null", SYNC, text(None))
    one("sasl, not configured", SASL, buf(b""))
    one("addWatch persistent", ADD_W, text("/golden/w") + i32(0))
    one("addWatch recursive", ADD_W, text("/golden/w") + i32(1))
    for name, kind in (("persistent", 4), ("recursive", 5)):
        one(f"checkWatches {name}", CHECK_W, text("/golden/w") + i32(kind))
        one(f"removeWatches {name}", REMOVE_W, text("/golden/w") + i32(kind))
    for name, kind in (("child", 1), ("data", 2), ("any", 3)):
        one(f"removeWatches {name}, none there", REMOVE_W, text("/golden/w") + i32(kind))
    one("setWatches, none", SET_W, i64(0) + texts() * 3, xid=-8)
    one("setWatches2, none", SET_W2, i64(0) + texts() * 5, xid=-8)
    one("reconfig", RECONFIG, text(None) + text("5") + text(None) + i64(-1))
    one("reconfig, all texts", RECONFIG, text("a") + text("b") + text("c") + i64(7))
    one("delete", DELETE, text("/golden/empty") + i32(0))
    one("closeSession", CLOSE)
    base.receive()
    r.write("operations")


def multis(r):
    c = r.session("every write, all succeed")
    c.call(
        MULTI,
        multi(
            (CREATE, create("/golden/m", b"x")),
            (CREATE2, create("/golden/m/c2", None)),
            (CONTAINER, create("/golden/m/container", b"", flags=4)),
            (TTL, create("/golden/m/ttl", b"", flags=5) + i64(1000_000)),
            (CREATE, create("/golden/m/s-", b"", flags=2)),
            (SET, text("/golden/m") + buf(b"yy") + i32(0)),
            (CHECK, text("/golden/m") + i32(1)),
            (DELETE, text("/golden/m/c2") + i32(-1)),
        ),
    )
    fail = (CHECK, text("/golden/m") + i32(99))
    ok = (CREATE, create("/golden/m2"))
    rest = [(DELETE, text("/golden/m") + i32(-1)), (SET, text("/golden/m") + buf(b"") + i32(-1))]
    r.on(c, "one in the middle fails").call(MULTI, multi(ok, fail, *rest))
    r.on(c, "the first fails").call(MULTI, multi((DELETE, text("/nope") + i32(-1)), ok))
    r.on(c, "the last fails").call(MULTI, multi(ok, fail))
    r.on(c, "empty").call(MULTI, multi())
    odd_end = i32(42) + boolean(True) + i32(42)
    r.on(c, "a terminator with other numbers").call(MULTI, odd_end, mark="~")
    check = text("/golden/m") + i32(-1)
    odd_start = i32(CHECK) + boolean(False) + i32(77) + check + multi()
    r.on(c, "a header with another err").call(MULTI, odd_start, mark="~")
    for name, op, body in (
        ("setACL", SET_ACL, text("/golden/m") + OPEN + i32(-1)),
        ("getData", GET, text("/golden/m") + boolean(False)),
        ("exists", EXISTS, text("/golden/m") + boolean(False)),
        ("deleteContainer", DELETE_CONTAINER, text("/golden/m")),
        ("an unknown operation", 999, b""),
        ("a bad create flag", CREATE, create("/golden/m3", flags=7)),
        ("a null path", DELETE, text(None) + i32(-1)),
    ):
        r.on(c, f"not allowed: {name}").call(MULTI, multi((op, body)), mark="!")
    r.on(c, "without terminator").call(MULTI, multi((CHECK, check))[:-9], mark="!")
    r.on(c, "cut short").call(MULTI, multi((CHECK, check))[:20], mark="!")

    read = lambda op, path, watch=False: (op, text(path) + boolean(watch))
    r.on(c, "multiRead").call(
        MULTI_READ,
        multi(
            read(GET, "/golden/m"),
            read(CHILDREN, "/golden/m", True),
            read(GET, "/nope"),
            read(CHILDREN, "/nope"),
            read(GET, "/golden/null"),
        ),
    )
    r.on(c, "multiRead, empty").call(MULTI_READ, multi())
    r.on(c, "multiRead with a write").call(MULTI_READ, multi((DELETE, text("/golden/m") + i32(-1))), mark="!")
    r.on(c, "multiRead with exists").call(MULTI_READ, multi(read(EXISTS, "/golden/m")), mark="!")
    r.write("multi")


def watches(r):
    writer = r.open()
    writer.call(CREATE, create("/golden/w", b""))

    c = r.session("data watch, own write: event, then reply")
    c.call(GET, text("/golden/w") + boolean(True))
    c.call(SET, text("/golden/w") + buf(b"1") + i32(-1))
    r.on(c, "exist watch")
    c.call(EXISTS, text("/golden/w/x") + boolean(True))
    c.call(CREATE, create("/golden/w/x"))
    r.on(c, "child watch")
    c.call(CHILDREN, text("/golden/w") + boolean(True))
    c.call(DELETE, text("/golden/w/x") + i32(-1))
    r.on(c, "data and child watch, one deletion")
    c.call(CREATE, create("/golden/w/y"))
    c.call(GET, text("/golden/w/y") + boolean(True))
    c.call(CHILDREN2, text("/golden/w/y") + boolean(True))
    c.call(DELETE, text("/golden/w/y") + i32(-1))
    r.on(c, "removeWatches data")
    c.call(GET, text("/golden/w") + boolean(True))
    c.call(CHECK_W, text("/golden/w") + i32(2))
    c.call(REMOVE_W, text("/golden/w") + i32(2))
    r.on(c, "removeWatches any")
    c.call(CHILDREN, text("/golden/w") + boolean(True))
    c.call(REMOVE_W, text("/golden/w") + i32(3))
    c = r.session("persistent watch")
    c.call(ADD_W, text("/golden/w") + i32(0))
    c.call(SET, text("/golden/w") + buf(b"2") + i32(-1))
    c.call(CREATE, create("/golden/w/z"))
    c.call(SET, text("/golden/w") + buf(b"3") + i32(-1))
    c = r.session("recursive watch over a multi")
    c.call(ADD_W, text("/golden") + i32(1))
    c.call(
        MULTI,
        multi(
            (CREATE, create("/golden/w/m1")),
            (SET, text("/golden/w/m1") + buf(b"x") + i32(-1)),
            (DELETE, text("/golden/w/m1") + i32(-1)),
        ),
    )
    c = r.session("an ephemeral's end, then the end of the session")
    c.call(CREATE, create("/golden/w/eph", flags=1))
    c.call(EXISTS, text("/golden/w/eph") + boolean(True))
    c.call(CLOSE)
    c.receive()
    c = r.session("setWatches catches up")
    gone, there = "/golden/w/gone", "/golden/w"
    c.call(SET_W, i64(1) + texts(there, gone) + texts(there, gone) + texts(there, gone), xid=-8)
    c = r.session("setWatches2: persistent ones catch up with nothing")
    c.call(
        SET_W2,
        i64(1) + texts(there) + texts(gone) + texts() + texts(there, gone) + texts("/golden"),
        xid=-8,
    )
    c.call(CREATE, create(gone))
    c = r.session("setWatches does not judge paths")
    c.call(SET_W, i64(1) + texts("bad") + texts() + texts(), xid=5)
    r.on(c, "setWatches, null list").call(SET_W, i64(1) + vec(None) + texts() * 2, xid=-8, mark="!")
    r.on(c, "addWatch, bad mode").call(ADD_W, text("/golden") + i32(2), mark="!")
    r.on(c, "removeWatches, bad type").call(REMOVE_W, text("/golden") + i32(0), mark="!")
    r.on(c, "checkWatches, bad type").call(CHECK_W, text("/golden") + i32(6), mark="!")
    r.on(c, "addWatch, any text").call(ADD_W, text("") + i32(0))
    r.write("watches")


def errors(r):
    c = r.session("no node")
    c.call(GET, text("/golden/none") + boolean(False))

    def one(name, op, body=b"", **more):
        return r.on(c, name).call(op, body, **more)

    one("node exists", CREATE, create("/golden"))
    one("parent missing", CREATE, create("/golden/none/x"))
    one("trailing slash", CREATE, create("/golden/w/"))
    one("bad version", SET, text("/golden") + buf(b"") + i32(77))
    one("not empty", DELETE, text("/golden") + i32(-1))
    one("bad path", CREATE, create("foo"))
    one("reserved path", DELETE, text("/zookeeper") + i32(-1))
    one("malformed UTF-8 in a path", CREATE, buf(b"/golden/\xff") + buf(b"") + OPEN + i32(0), mark="~")
    one("bad flags", CREATE, create("/golden/f", flags=7))
    one("bad ttl", TTL, create("/golden/f", flags=5) + i64(0))
    one("invalid acl", CREATE, create("/golden/f", acls=vec([acl(31, "world", "nobody")])))
    one("null acl", CREATE, create("/golden/f", acls=vec(None)))
    one("empty acl", CREATE, create("/golden/f", acls=vec([])))
    one("acl with a negative count", CREATE, create("/golden/f", acls=i32(-2)), mark="~")
    one("acl of null scheme", CREATE, create("/golden/f", acls=vec([acl(31, None, "x")])))
    one("no watcher", CHECK_W, text("/golden") + i32(3))
    one("null path in exists", EXISTS, text(None) + boolean(False), mark="!")
    one("null path in getData", GET, text(None) + boolean(False), mark="!")
    one("null path in create", CREATE, create(None), mark="!")
    one("null path in delete", DELETE, text(None) + i32(-1), mark="!")
    one("null path in setData", SET, text(None) + buf(b"") + i32(-1), mark="!")
    one("null path in getACL", GET_ACL, text(None), mark="!")
    one("null path in setACL", SET_ACL, text(None) + OPEN + i32(-1), mark="!")
    one("null path in getChildren", CHILDREN, text(None) + boolean(False), mark="!")
    one("null path in getChildren2", CHILDREN2, text(None) + boolean(False), mark="!")
    one("null path in getAllChildrenNumber", ALL_CHILDREN, text(None), mark="!")
    one("null path in checkWatches", CHECK_W, text(None) + i32(3), mark="~")
    one("null path in addWatch is taken", ADD_W, text(None) + i32(0), mark="~")
    one("null path in removeWatches", REMOVE_W, text(None) + i32(3), mark="~")
    one("null path in setWatches", SET_W, i64(1) + texts(None) + texts() * 2, mark="!")
    one("null path in setWatches2 is taken", SET_W2, i64(1) + texts() * 3 + texts(None) * 2, mark="~")
    one("empty body", GET, mark="!")
    one("body cut short", GET, text("/golden"), mark="!")
    one("path longer than the frame", GET, i32(1000) + b"/golden", mark="!")
    one("path of negative length", GET, i32(-2) + boolean(False), mark="!")
    one("acl count larger than the frame", CREATE, create("/golden/f", acls=i32(0x7FFFFFFF)), mark="!")
    one("createSession from a client", CREATE_SESSION, mark="!")
    one("the connection is still open", EXISTS, text("/golden") + boolean(False))
    for op in (10, 23, -1, 0, 1000):
        c = r.session(f"unknown operation {op}")
        c.call(op, mark="?")
        c.receive()
    c = r.session("check on top level")
    c.call(CHECK, text("/golden") + i32(-1))
    c.receive()
    for name, body in (
        ("unknown scheme", i32(0) + text("nothing") + buf(b"")),
        ("null scheme", i32(0) + text(None) + buf(b"")),
        ("null credentials", i32(0) + text("digest") + buf(None)),
    ):
        c = r.session(f"auth, {name}")
        c.call(AUTH, body, xid=-4)
        c.receive()
    c = r.session("sasl, null token")
    c.call(SASL, buf(None))
    for name, frame in (("empty frame", b""), ("frame too short for a header", b"\0\0\0\1")):
        c = r.session(name)
        c.send(frame, "!")
        c.receive()
    r.write("errors")


def delete_tree(c, path):
    payload = c.call(CHILDREN, text(path) + boolean(False))
    if payload[12:16] != i32(0):
        return
    (count,) = struct.unpack(">i", payload[16:20])
    at = 20
    for _ in range(count):
        (length,) = struct.unpack(">i", payload[at : at + 4])
        name = payload[at + 4 : at + 4 + length].decode()
        at += 4 + length
        delete_tree(c, f"{path}/{name}")
    c.call(DELETE, text(path) + i32(-1))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("address", help="HOST:PORT of a scratch server")
    parser.add_argument("out", help="directory for the captures")
    parser.add_argument("--note", default="", help="which server it is")
    args = parser.parse_args()
    host, port = args.address.rsplit(":", 1)
    recorder = Recorder((host, int(port)), args.out, args.note)

    sweeper = recorder.open()
    sweeper.call(AUTH, i32(0) + text("digest") + buf(b"u:p"), xid=-4)
    delete_tree(sweeper, "/golden")
    sweeper.call(CLOSE)
    for group in (handshake, operations, multis, watches, errors):
        group(recorder)


if __name__ == "__main__":
    main()
