"""The client protocol as bytes: encoders, decoders and a connection that hides nothing.

Nothing here retries, reorders or interprets. A `Connection` sends frames and hands back the
frames that arrive, in order; `CLOSED` stands for the end of the stream. It shares no code with
any client library, so an error of theirs cannot hide one of the server's.
"""

import socket
import struct
import time

# Opcodes.
CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = range(1, 10)
PING, GET_CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG = 11, 12, 13, 14, 15, 16
CHECK_WATCHES, REMOVE_WATCHES, CREATE_CONTAINER, DELETE_CONTAINER = 17, 18, 19, 20
CREATE_TTL, MULTI_READ, AUTH, SET_WATCHES, SASL, GET_EPHEMERALS = 21, 22, 100, 101, 102, 103
GET_ALL_CHILDREN_NUMBER, SET_WATCHES2, ADD_WATCH, WHO_AM_I = 104, 105, 106, 107
CREATE_SESSION, CLOSE_SESSION, ERROR = -10, -11, -1

# Errors.
OK, RUNTIME_INCONSISTENCY, MARSHALLING, UNIMPLEMENTED, BAD_ARGUMENTS = 0, -2, -5, -6, -8
NO_NODE, NO_AUTH, BAD_VERSION, NO_CHILDREN_FOR_EPHEMERALS = -101, -102, -103, -108
NODE_EXISTS, NOT_EMPTY, SESSION_EXPIRED, INVALID_ACL, AUTH_FAILED = -110, -111, -112, -114, -115
NO_WATCHER, RECONFIG_DISABLED, QUOTA_EXCEEDED = -121, -123, -125

# Event types.
CREATED, DELETED, DATA_CHANGED, CHILDREN_CHANGED = 1, 2, 3, 4

# Special xids.
XID_EVENT, XID_PING, XID_AUTH, XID_SET_WATCHES = -1, -2, -4, -8

READ, WRITE, CREATE_PERM, DELETE_PERM, ADMIN, ALL = 1, 2, 4, 8, 16, 31

# Writes: each takes a zxid, refused or not.
WRITES = {CREATE, DELETE, SET_DATA, SET_ACL, MULTI, CREATE2, RECONFIG, CREATE_CONTAINER,
          DELETE_CONTAINER, CREATE_TTL}


# ---- encoding -------------------------------------------------------------------------------

def i32(value):
    return struct.pack(">i", value)


def i64(value):
    return struct.pack(">q", value)


def boolean(value):
    return bytes([value]) if isinstance(value, int) else (b"\x01" if value else b"\x00")


def buf(value):
    """A buffer or a string; None is null, which is not the empty one."""
    if value is None:
        return i32(-1)
    if isinstance(value, str):
        value = value.encode("utf-8", "surrogatepass")
    return i32(len(value)) + value


def vec(items, encode=buf):
    if items is None:
        return i32(-1)
    return i32(len(items)) + b"".join(encode(item) for item in items)


def acl_entry(entry):
    perms, scheme, identity = entry
    return i32(perms) + buf(scheme) + buf(identity)


def acls(entries):
    return vec(entries, acl_entry)


OPEN_ACL = [(ALL, "world", "anyone")]


def create(path, data=b"", acl=OPEN_ACL, flags=0):
    return buf(path) + buf(data) + acls(acl) + i32(flags)


def create_ttl(path, data=b"", acl=OPEN_ACL, flags=5, ttl=1000):
    return create(path, data, acl, flags) + i64(ttl)


def path_version(path, version=-1):
    return buf(path) + i32(version)


def path_watch(path, watch=False):
    return buf(path) + boolean(watch)


def set_data(path, data=b"", version=-1):
    return buf(path) + buf(data) + i32(version)


def set_acl(path, acl=OPEN_ACL, version=-1):
    return buf(path) + acls(acl) + i32(version)


def path_int(path, number):
    """addWatch's mode, checkWatches' and removeWatches' type."""
    return buf(path) + i32(number)


def set_watches(zxid, data=(), exist=(), child=()):
    return i64(zxid) + vec(data) + vec(exist) + vec(child)


def set_watches2(zxid, data=(), exist=(), child=(), persistent=(), recursive=()):
    return set_watches(zxid, data, exist, child) + vec(persistent) + vec(recursive)


def auth(scheme, credential):
    return i32(0) + buf(scheme) + buf(credential)


def multi_header(op, done=False, err=-1):
    return i32(op) + boolean(done) + i32(err)


def multi(*ops):
    """`ops` are pairs (opcode, body)."""
    parts = [multi_header(op) + body for op, body in ops]
    return b"".join(parts) + multi_header(-1, True)


def connect_request(session=0, password=b"\0" * 16, timeout=30000, zxid=0, read_only=False,
                    version=0):
    """`read_only=None` leaves the byte out, as clients of 3.3 do."""
    body = i32(version) + i64(zxid) + i32(timeout) + i64(session) + buf(password)
    return body if read_only is None else body + boolean(read_only)


# ---- decoding -------------------------------------------------------------------------------

class ShortRecord(Exception):
    """A reply that ends inside a field."""


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        if count < 0 or self.at + count > len(self.data):
            raise ShortRecord(f"{count} bytes wanted at {self.at} of {len(self.data)}")
        self.at += count
        return self.data[self.at - count:self.at]

    def i32(self):
        return struct.unpack(">i", self.take(4))[0]

    def i64(self):
        return struct.unpack(">q", self.take(8))[0]

    def boolean(self):
        return self.take(1)[0]

    def buf(self):
        size = self.i32()
        return None if size == -1 else self.take(size)

    def str(self):
        raw = self.buf()
        if raw is None:
            return None
        try:
            # A real server writes a supplementary character as two surrogates of three bytes.
            return raw.decode("utf-8", "surrogatepass").encode("utf-16", "surrogatepass") \
                .decode("utf-16")
        except UnicodeDecodeError:
            return raw.decode("utf-8", "replace")

    def vec(self, item):
        size = self.i32()
        return None if size == -1 else [item() for _ in range(size)]

    def stat(self):
        return Stat(*struct.unpack(">qqqqiiiqiiq", self.take(68)))

    def acl(self):
        return (self.i32(), self.str(), self.str())

    def left(self):
        return self.data[self.at:]


class Stat:
    FIELDS = ("czxid", "mzxid", "ctime", "mtime", "version", "cversion", "aversion",
              "ephemeral_owner", "data_length", "num_children", "pzxid")
    __slots__ = FIELDS

    def __init__(self, *values):
        for field, value in zip(self.FIELDS, values):
            setattr(self, field, value)

    def __repr__(self):
        return "Stat(" + ", ".join(f"{f}={getattr(self, f)}" for f in self.FIELDS) + ")"


class Reply:
    """One frame from the server: its header, and the bytes behind it."""

    def __init__(self, payload):
        if len(payload) < 16:
            raise ShortRecord(f"a reply of {len(payload)} bytes: {payload.hex()}")
        self.payload = payload
        self.xid, self.zxid, self.err = struct.unpack(">iqi", payload[:16])
        self.body = payload[16:]

    def reader(self):
        return Reader(self.body)

    @property
    def is_event(self):
        return self.xid == XID_EVENT

    def event(self):
        reader = self.reader()
        kind, state, path = reader.i32(), reader.i32(), reader.str()
        return kind, state, path

    def stat(self):
        """The Stat at the end of the body."""
        return Reader(self.body[-68:]).stat()

    def path(self):
        return self.reader().str()

    def __repr__(self):
        if self.is_event:
            return f"event{self.event()} zxid={self.zxid:#x}"
        return f"reply(xid={self.xid}, zxid={self.zxid:#x}, err={self.err}, {self.body.hex()})"


class _Closed:
    def __repr__(self):
        return "CLOSED"


class _Silent:
    def __repr__(self):
        return "SILENT"


CLOSED = _Closed()
SILENT = _Silent()


def multi_results(body):
    """A multi's or multiRead's reply as a list of (type, value)."""
    reader, results = Reader(body), []
    while True:
        kind, done, err = reader.i32(), reader.boolean(), reader.i32()
        if done:
            results.append(("end", kind, err, reader.left()))
            return results
        if kind == ERROR:
            results.append((kind, err, reader.i32()))
        elif kind == CREATE:
            results.append((kind, err, reader.str()))
        elif kind == CREATE2:
            results.append((kind, err, reader.str(), reader.stat()))
        elif kind in (DELETE, CHECK):
            results.append((kind, err))
        elif kind == SET_DATA:
            results.append((kind, err, reader.stat()))
        elif kind == GET_CHILDREN:
            results.append((kind, err, reader.vec(reader.str)))
        elif kind == GET_DATA:
            results.append((kind, err, reader.buf(), reader.stat()))
        else:
            raise ShortRecord(f"result type {kind} in a multi")


# ---- connections ----------------------------------------------------------------------------

class Connection:
    """A socket that speaks frames. `handshake` makes it a session's."""

    def __init__(self, address, timeout=10.0):
        self.address = address
        self.timeout = timeout
        self.sock = socket.create_connection(address, timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.pending = b""
        self.closed = False
        self.session, self.password, self.negotiated = 0, b"\0" * 16, 0
        self.next_xid = 0
        self.last_zxid = 0

    # -- frames --

    def send_bytes(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            pass  # The end of the stream is seen, and judged, where we read.

    def send_frame(self, payload):
        self.send_bytes(i32(len(payload)) + payload)

    def receive(self, timeout=None):
        """The next frame's payload, CLOSED, or SILENT when none came in time."""
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            if len(self.pending) >= 4:
                size = struct.unpack(">i", self.pending[:4])[0]
                if len(self.pending) >= 4 + size:
                    payload = self.pending[4:4 + size]
                    self.pending = self.pending[4 + size:]
                    return payload
            if self.closed:
                return CLOSED
            left = deadline - time.monotonic()
            if left <= 0:
                return SILENT
            self.sock.settimeout(left)
            try:
                chunk = self.sock.recv(65536)
            except socket.timeout:
                return SILENT
            except OSError:
                chunk = b""
            if not chunk:
                self.closed = True
            self.pending += chunk

    def next(self, timeout=None):
        """The next Reply (an event is one too), CLOSED or SILENT."""
        payload = self.receive(timeout)
        if payload is CLOSED or payload is SILENT:
            return payload
        reply = Reply(payload)
        if reply.zxid > 0 and not reply.is_event:
            self.last_zxid = reply.zxid
        return reply

    # -- session --

    def handshake(self, session=0, password=None, timeout=30000, zxid=0, read_only=False):
        """Returns the raw payload of the answer, CLOSED or SILENT."""
        if password is None:
            password = b"\0" * 16
        self.send_frame(connect_request(session, password, timeout, zxid, read_only))
        answer = self.receive()
        if isinstance(answer, bytes):
            reader = Reader(answer)
            reader.i32()
            self.negotiated, self.session, self.password = reader.i32(), reader.i64(), reader.buf()
        return answer

    # -- requests --

    def xid(self):
        self.next_xid += 1
        return self.next_xid

    def send(self, op, body=b"", xid=None):
        xid = self.xid() if xid is None else xid
        self.send_frame(i32(xid) + i32(op) + body)
        return xid

    def call(self, op, body=b"", xid=None):
        """Sends one request; returns its reply. Events that come before it are kept in order
        in `self.events`."""
        self.send(op, body, xid)
        self.events = []
        while True:
            reply = self.next()
            if reply is CLOSED or reply is SILENT or not reply.is_event:
                return reply
            self.events.append(reply)

    def drain(self):
        """Everything that is due on this connection: what comes before the reply to a ping."""
        self.send(PING, xid=XID_PING)
        frames = []
        while True:
            reply = self.next()
            if reply is CLOSED or reply is SILENT:
                frames.append(reply)
                return frames
            if reply.xid == XID_PING:
                return frames
            frames.append(reply)

    def drop(self):
        self.sock.close()
        self.closed = True

    def close_session(self):
        reply = self.call(CLOSE_SESSION)
        self.drop()
        return reply


def open_session(address, **options):
    connection = Connection(address)
    answer = connection.handshake(**options)
    if not isinstance(answer, bytes) or connection.negotiated <= 0:
        raise ConnectionError(f"no session: {answer!r}")
    return connection


def four_letter_word(address, word, timeout=5.0):
    """The whole answer to a four-letter word, as bytes."""
    with socket.create_connection(address, timeout) as sock:
        sock.sendall(word.encode())
        chunks = []
        while True:
            try:
                chunk = sock.recv(65536)
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                return b"".join(chunks)
            chunks.append(chunk)
