"""What a probe gets to work with: connections, a path of its own, and comparisons that say
both values."""

import wire


class Probe:
    def __init__(self, name, action, server):
        self.name, self.action, self.server = name, action, server


class Probes:
    """A module's list of facts, filled by its decorator."""

    def __init__(self):
        self.probes = []

    def __call__(self, name, server="main"):
        def add(action):
            self.probes.append(Probe(name, action, server))
            return action
        return add


class Mismatch(AssertionError):
    pass


def eq(actual, expected, what=""):
    if actual != expected:
        raise Mismatch(f"{what or 'value'}: expected {expected!r}, got {actual!r}")


def true(condition, what):
    if not condition:
        raise Mismatch(what)


def err(reply, expected, what=""):
    """The reply has this error; an error reply has no body."""
    if not isinstance(reply, wire.Reply):
        raise Mismatch(f"{what or 'reply'}: expected err {expected}, got {reply!r}")
    eq(reply.err, expected, what or "err")
    if expected != 0:
        eq(reply.body, b"", f"{what or 'reply'}: body of an error reply")
    return reply


def ok(reply, what=""):
    return err(reply, 0, what)


def closed(reply, what="connection"):
    if reply is not wire.CLOSED:
        raise Mismatch(f"{what}: expected to be closed, got {reply!r}")


def events(frames):
    """The frames as (type, path); fails on anything that is not an event."""
    result = []
    for frame in frames:
        if not isinstance(frame, wire.Reply) or not frame.is_event:
            raise Mismatch(f"expected events only, got {frame!r}")
        eq(frame.err, 0, "err of an event")
        kind, state, path = frame.event()
        eq(state, 3, "state of an event")
        result.append((kind, path))
    return result


class Env:
    def __init__(self, server, quorate, number):
        self.server, self.quorate, self.number = server, quorate, number
        self.address = server.address
        self.connections = []
        self._root = None

    def socket(self):
        """A connection that has not shaken hands."""
        connection = wire.Connection(self.address)
        self.connections.append(connection)
        return connection

    def session(self, **options):
        connection = self.socket()
        answer = connection.handshake(**options)
        if not isinstance(answer, bytes) or connection.negotiated <= 0:
            raise Mismatch(f"no session: {answer!r}")
        return connection

    def super(self):
        connection = self.session()
        ok(connection.call(wire.AUTH, wire.auth("digest", "super:test"), xid=wire.XID_AUTH))
        return connection

    def reattach(self, other, **options):
        return self.session(session=other.session, password=other.password, **options)

    @property
    def root(self):
        """A znode of this probe's own."""
        if self._root is None:
            self._root = f"/probe-{self.number}"
            ok(self.session().call(wire.CREATE, wire.create(self._root)), "create the root")
        return self._root

    def finish(self):
        for connection in self.connections:
            if not connection.closed:
                connection.send(wire.CLOSE_SESSION)
            connection.drop()


# Shorthands that most probes use.

def create(connection, path, data=b"", acl=wire.OPEN_ACL, flags=0, op=wire.CREATE):
    return connection.call(op, wire.create(path, data, acl, flags))


def created(connection, path, **options):
    reply = ok(create(connection, path, **options), f"create {path}")
    return reply.path()


def delete(connection, path, version=-1):
    return connection.call(wire.DELETE, wire.path_version(path, version))


def set_data(connection, path, data=b"", version=-1):
    return connection.call(wire.SET_DATA, wire.set_data(path, data, version))


def exists(connection, path, watch=False):
    return connection.call(wire.EXISTS, wire.path_watch(path, watch))


def get(connection, path, watch=False):
    return connection.call(wire.GET_DATA, wire.path_watch(path, watch))


def children(connection, path, watch=False):
    return connection.call(wire.GET_CHILDREN, wire.path_watch(path, watch))


def child_names(connection, path):
    reader = ok(children(connection, path)).reader()
    return sorted(reader.vec(reader.str))


def stat_of(connection, path):
    return ok(exists(connection, path), f"exists {path}").stat()


def add_watch(connection, path, mode):
    return connection.call(wire.ADD_WATCH, wire.path_int(path, mode))


def authenticate(connection, scheme, credential):
    return connection.call(wire.AUTH, wire.auth(scheme, credential), xid=wire.XID_AUTH)


def multi(connection, *ops):
    reply = connection.call(wire.MULTI, wire.multi(*ops))
    ok(reply, "multi")
    return wire.multi_results(reply.body)


def codes(results):
    """The error of each result of a multi, after checking its layout."""
    body, end = results[:-1], results[-1]
    eq(end, ("end", -1, -1, b""), "end of the results")
    out = []
    for result in body:
        if result[0] == wire.ERROR:
            eq(result[1], result[2], "err in header and body")
        out.append(result[1])
    return out
