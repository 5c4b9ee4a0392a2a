"""Random programs for the differential: what a step may be, drawn from one seed.

A step is plain data, so that it can be printed and sent to either server. What differs between
two servers is named, not written out: sessions by number, zxids by their distance from the
program's first one.

Left out on purpose, because Quorate refuses there what a real server should have refused:
  - createTTL outside a multi with a flag that is no TTL mode and a negative TTL (it kills a
    real server, for good);
  - deleteContainer from a client (it passes by every ACL);
  - a zookeeper_stats with null or unreadable data (any change below the quota then ends a real
    server);
  - createSession from a client (it puts a ConnectResponse into the stream when its body parses,
    and takes a zxid);
  - setWatches with a null behind something else (a real server tells and arms what stands before
    the null, and then answers that the request cannot be read).
Left out because the order or moment is not promised, so two equal servers may differ:
  - unknown opcodes together with other requests in one burst: how many of those a real server
    still answers, or even carries out, before it closes is a race;
  - writes behind a setACL in one burst: a real server may judge them by the old ACL, because
    what it keeps of changes under way has the old one;
  - auth and sasl packets behind other requests of one burst: their replies may overtake;
  - frames of a bad length behind other requests of one burst: replies may be lost.
"""

import random

import wire

USERS = ["u:p", "alice:secret", "bob", "a:b:c"]
UP = "u:Jq7wMyA/w2Vd5WIDAKdu4OIIFEQ="
NAMES = ["a", "b", "c", "é", "q"]
ODD_PATHS = ["", "/", "//", "/a/", "/a//b", "a", "/a/.", "/../a", "/a/\0", "/a/\x7f", "/a/\u0080",
             "/a/\ue000", "/a/😀", "/zookeeper", "/zookeeper/config", "/zookeeper/quota",
             "/zookeeper/nope", "/nope/x/y", "/a/" + "n" * 300, None]
QUOTA_PATHS = ["/zookeeper/quota/q", "/zookeeper/quota/q/zookeeper_limits",
               "/zookeeper/quota/q/zookeeper_stats", "/zookeeper/quota/a",
               "/zookeeper/quota/a/zookeeper_limits", "/zookeeper/quota/a/zookeeper_stats"]
LIMITS = [b"count=3,bytes=20", b"count=-1,bytes=-1=;byteHardLimit=40;countHardLimit=4",
          b"count=5,bytes=-1=;byteHardLimit=-1;countHardLimit=2", b"", b"garbage", None]
DATA = [None, b"", b"x", b"hello", b"d" * 100, bytes(range(256)), b"l" * 5000]
VERSIONS = [-1, -1, -1, -1, 0, 0, 1, 1, 2, 3, -2, 1 << 30, -(1 << 31)]
OPEN = wire.OPEN_ACL
ACLS = [
    [(31, "auth", "")], [(31, "auth", None)], [(31, "digest", UP)],
    [(1, "world", "anyone")], [(7, "world", "anyone"), (31, "digest", UP)],
    [(3, "world", "anyone"), (31, "digest", UP)],
    [(31 & ~8, "world", "anyone")], [(31 & ~4, "world", "anyone")], [(17, "world", "anyone")],
    [(31, "ip", "127.0.0.1")], [(31, "ip", "10.0.0.0/8"), (1, "world", "anyone")],
    [(31, "world", "anyone"), (31, "world", "anyone"), (1, "ip", "::1")],
    [], None, [(31, "digest", "foo")], [(31, "nosuch", "x")], [(31, None, "x")],
    [(31, "world", "someone")], [(31, "world", None)], [(0, "world", "anyone")],
    [(-1, "world", "anyone")], [(31, "ip", "1.2.3.4/33")], [(31, "sasl", "bob")],
    [(31, "super", "x")], [(31, "x509", "CN=x")], [(31, "digest", None)], [(31, "ip", None)],
]
SCHEMES = [("nosuch", b"x"), (None, b"x"), ("world", b"anyone"), ("digest", None), ("", b""),
           ("super", b"x"), ("x509", b"x"), ("sasl", b"x")]
UNKNOWN_OPS = [10, 13, 23, 24, 77, 99, 108, 1000, 0, -1, -2, -5, 1 << 30]
EVERY_OP = [wire.CREATE, wire.DELETE, wire.EXISTS, wire.GET_DATA, wire.SET_DATA, wire.GET_ACL,
            wire.SET_ACL, wire.GET_CHILDREN, wire.SYNC, wire.GET_CHILDREN2, wire.MULTI,
            wire.CREATE2, wire.CHECK_WATCHES, wire.REMOVE_WATCHES, wire.CREATE_CONTAINER,
            wire.CREATE_TTL, wire.MULTI_READ, wire.SET_WATCHES, wire.GET_EPHEMERALS,
            wire.GET_ALL_CHILDREN_NUMBER, wire.SET_WATCHES2, wire.ADD_WATCH, wire.RECONFIG]


class Rel:
    """A zxid by its distance; each server adds its own beginning."""

    def __init__(self, distance):
        self.distance = distance

    def __repr__(self):
        return f"zxid{self.distance:+d}"


class Request:
    """One frame: an opcode and a body, in which a Rel stands for a zxid."""

    def __init__(self, op, parts, note, xid=None):
        self.op, self.note, self.xid = op, note, xid
        self.parts = parts if isinstance(parts, list) else [parts]

    def body(self, zxid_of):
        return b"".join(wire.i64(zxid_of(p.distance)) if isinstance(p, Rel) else p
                        for p in self.parts)

    def __repr__(self):
        return self.note


class Generator:
    """Draws steps. It is told what came of them only where that is the same on both servers."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.known_paths = []
        self.guarded_paths = []
        self.watched_paths = []
        self.last_rel = 0

    def heard_of(self, path):
        """A name that was created, so that later steps find something."""
        if path and path not in self.known_paths and not path.startswith("/zookeeper"):
            self.known_paths = [*self.known_paths[-15:], path]

    def prologue(self, seed):
        """What some programs begin with: quotas on the names that they use."""
        requests = []
        if seed % 3 == 0:
            for name in ("a", "q"):
                home = f"/zookeeper/quota/{name}"
                limits = self.random.choice(LIMITS[1:3])
                for path, data in ((home, b""), (home + "/zookeeper_limits", limits),
                                   (home + "/zookeeper_stats", b"count=0,bytes=0")):
                    requests.append(Request(wire.CREATE, wire.create(path, data),
                                            f"create {path!r} {data!r}"))
        return requests

    # -- arguments --

    def path(self, odd=0.06):
        r = self.random
        roll = r.random()
        if roll < odd:
            return r.choice(ODD_PATHS)
        if roll < odd + 0.04:
            return r.choice(QUOTA_PATHS)
        if roll < odd + 0.55 and self.known_paths:
            return r.choice(self.known_paths) + ("/" + r.choice(NAMES) if r.random() < 0.25
                                                 else "")
        depth = r.choice((1, 1, 1, 2, 2, 3))
        return "".join("/" + r.choice(NAMES[:3] if r.random() < 0.8 else NAMES)
                       for _ in range(depth))

    def data(self, path):
        if path in QUOTA_PATHS:
            if path.endswith("stats"):
                return self.random.choice((b"count=0,bytes=0", b""))
            return self.random.choice(LIMITS)
        return self.random.choice(DATA[:5] if self.random.random() < 0.9 else DATA)

    def acl(self, path=None):
        if self.random.random() < 0.72:
            return OPEN
        if path:
            self.guarded_paths = [*self.guarded_paths[-20:], path]
        return self.random.choice(ACLS)

    def flags(self):
        r = self.random
        return r.choice((0, 0, 0, 0, 1, 1, 2, 3, 4)) if r.random() < 0.95 else r.randint(-2, 9)

    def version(self):
        return self.random.choice(VERSIONS)

    def watch(self):
        return self.random.choice((0, 1, 1, 7) if self.random.random() < 0.05 else (0, 1))

    def zxid(self):
        r = self.random
        if r.random() < 0.3:
            return self.last_rel
        return r.randint(0, self.last_rel + 1)

    # -- single requests --

    def create_body(self, op, inside_multi=False):
        path, flags = self.path(), self.flags()
        sequential = flags in (2, 3, 6)
        if sequential and path and self.random.random() < 0.6:
            path += self.random.choice(("-", "/", "/n-"))
        body = wire.create(path, self.data(path), self.acl(path), flags)
        note = f"{path!r} flags={flags}"
        if op == wire.CREATE_TTL:
            if self.random.random() < 0.8:
                flags = self.random.choice((5, 5, 6))
            ttl = self.random.choice((3_600_000, 3_600_000, 0, -1, 1 << 40, (1 << 40) - 1, -5))
            if flags not in (5, 6) and ttl < 0 and not inside_multi:
                ttl = 3_600_000
            body = wire.create_ttl(path, self.data(path), self.acl(path), flags, ttl)
            note = f"{path!r} flags={flags} ttl={ttl}"
        return body, note

    def write(self):
        r = self.random
        op = r.choice((wire.CREATE, wire.CREATE, wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER,
                       wire.CREATE_TTL, wire.DELETE, wire.DELETE, wire.SET_DATA, wire.SET_DATA,
                       wire.SET_DATA, wire.SET_ACL))
        if op in (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER, wire.CREATE_TTL):
            body, note = self.create_body(op)
        else:
            path, version = self.path(), self.version()
            note = f"{path!r} v{version}"
            if op == wire.DELETE:
                body = wire.path_version(path, version)
            elif op == wire.SET_DATA:
                body = wire.set_data(path, self.data(path), version)
            else:
                acl = self.acl(path)
                # Closing the root for everybody would end most programs.
                if path in ("/", "", None) and acl != OPEN:
                    path = "/a"
                body = wire.set_acl(path, acl, version)
                note = f"{path!r} {acl} v{version}"
        return Request(op, body, f"{NAME[op]} {note}")

    def read(self):
        r = self.random
        op = r.choice((wire.EXISTS, wire.EXISTS, wire.EXISTS, wire.GET_DATA, wire.GET_DATA,
                       wire.GET_DATA, wire.GET_CHILDREN, wire.GET_CHILDREN, wire.GET_CHILDREN2,
                       wire.GET_ACL, wire.GET_ACL, wire.SYNC, wire.GET_EPHEMERALS,
                       wire.GET_ALL_CHILDREN_NUMBER, wire.WHO_AM_I, wire.PING))
        path = self.path()
        if op in (wire.WHO_AM_I, wire.PING):
            return Request(op, b"", NAME[op])
        if op == wire.GET_ACL and self.guarded_paths and r.random() < 0.6:
            path = r.choice(self.guarded_paths)
        if op in (wire.GET_ACL, wire.SYNC, wire.GET_EPHEMERALS, wire.GET_ALL_CHILDREN_NUMBER):
            return Request(op, wire.buf(path), f"{NAME[op]} {path!r}")
        watch = self.watch()
        if watch:
            self.watched(path)
        return Request(op, wire.path_watch(path, watch), f"{NAME[op]} {path!r} watch={watch}")

    def watched(self, path):
        self.watched_paths = [*self.watched_paths[-10:], path]

    def multi(self):
        r = self.random
        ops, notes = [], []
        for _ in range(r.choice((0, 1, 1, 2, 2, 3, 4, 6))):
            op = r.choice((wire.CREATE, wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER,
                           wire.CREATE_TTL, wire.DELETE, wire.DELETE, wire.SET_DATA,
                           wire.SET_DATA, wire.CHECK))
            if r.random() < 0.02:
                op = r.choice((wire.SET_ACL, wire.EXISTS, wire.GET_DATA, 99))
            if op in (wire.CREATE, wire.CREATE2, wire.CREATE_CONTAINER, wire.CREATE_TTL):
                body, note = self.create_body(op, inside_multi=True)
            else:
                path, version = self.path(0.03), self.version()
                note = f"{path!r} v{version}"
                body = {wire.SET_DATA: wire.set_data(path, self.data(path), version),
                        wire.SET_ACL: wire.set_acl(path),
                        wire.EXISTS: wire.path_watch(path),
                        wire.GET_DATA: wire.path_watch(path)}.get(
                            op, wire.path_version(path, version))
            ops.append((op, body))
            notes.append(f"{NAME.get(op, op)} {note}")
        body = wire.multi(*ops)
        if r.random() < 0.03:
            body = body[:-9]
            notes.append("no end")
        return Request(wire.MULTI, body, f"multi [{'; '.join(notes)}]")

    def multi_read(self):
        r = self.random
        ops, notes = [], []
        for _ in range(r.randint(0, 4)):
            op, path = r.choice((wire.GET_DATA, wire.GET_CHILDREN)), self.path()
            if r.random() < 0.02:
                op = r.choice((wire.EXISTS, wire.CHECK, 99))
            ops.append((op, wire.path_watch(path, self.watch())))
            notes.append(f"{NAME.get(op, op)} {path!r}")
        return Request(wire.MULTI_READ, wire.multi(*ops), f"multiRead [{'; '.join(notes)}]")

    def watches(self):
        r = self.random
        kind = r.random()
        path = self.path(0.02)
        if kind < 0.35:
            mode = r.choice((0, 0, 0, 1, 1, 1, 1, 2, -1))
            self.watched(path)
            return Request(wire.ADD_WATCH, wire.path_int(path, mode),
                           f"addWatch {path!r} mode={mode}")
        if kind < 0.6:
            op = r.choice((wire.REMOVE_WATCHES, wire.CHECK_WATCHES))
            if self.watched_paths and r.random() < 0.7:
                path = r.choice(self.watched_paths)
            which = r.choice((1, 2, 3, 4, 5)) if r.random() < 0.95 else r.choice((0, 6, -1))
            return Request(op, wire.path_int(path, which), f"{NAME[op]} {path!r} type={which}")
        lists = [[self.path(0.02) for _ in range(r.choice((0, 0, 1, 2, 3)))] for _ in range(5)]
        rel = self.zxid()
        xid = r.choice((-8, None))
        if any(None in names for names in lists):
            lists = [[None], [], [], [], []]
        if r.random() < 0.03:
            lists = [None, *lists[1:]]
        if r.random() < 0.5:
            return Request(wire.SET_WATCHES, [Rel(rel), b"".join(map(wire.vec, lists[:3]))],
                           f"setWatches {rel} {lists[:3]}", xid)
        return Request(wire.SET_WATCHES2, [Rel(rel), b"".join(map(wire.vec, lists))],
                       f"setWatches2 {rel} {lists}", xid)

    def malformed(self):
        r = self.random
        kind = r.random()
        if kind < 0.2:
            op = r.choice(UNKNOWN_OPS)
            return Request(op, wire.path_version("/a"), f"unknown op {op}")
        if kind < 0.55:
            # A sound request that ends too early.
            sound = r.choice((self.write, self.read, self.watches, self.multi_read))()
            whole = sound.body(lambda distance: 0)
            cut = r.randrange(len(whole)) if whole else 0
            return Request(sound.op, whole[:cut], f"cut at {cut}: {sound.note}")
        if kind < 0.7:
            sound = r.choice((self.write, self.read, self.multi, self.watches))()
            return Request(sound.op, sound.parts + [b"behind"], f"with a tail: {sound.note}")
        op = r.choice(EVERY_OP)
        noise = bytes(r.choice((0, 0, 0, 1, 2, 5, 0xFF, ord("/"), ord("a")))
                      for _ in range(r.randint(0, 40)))
        return Request(op, noise, f"{NAME[op]} with noise {noise.hex()}")

    def request(self):
        r = self.random
        roll = r.random()
        if roll < 0.42:
            request = self.write()
        elif roll < 0.72:
            request = self.read()
        elif roll < 0.82:
            request = self.multi()
        elif roll < 0.85:
            request = self.multi_read()
        elif roll < 0.97:
            request = self.watches()
        else:
            request = self.malformed()
        if request.xid is None and r.random() < 0.02:
            request.xid = r.choice((0, -8, -100, 5, (1 << 31) - 1, -(1 << 31)))
        return request

    def auth(self):
        r = self.random
        roll = r.random()
        if roll < 0.75:
            scheme, credential = "digest", r.choice(USERS)
        elif roll < 0.9:
            scheme, credential = "digest", "super:test"
        elif roll < 0.95:
            scheme, credential = "ip", b"x"
        else:
            scheme, credential = r.choice(SCHEMES)
        xid = r.choice((-4, -4, 12))
        return Request(wire.AUTH, wire.auth(scheme, credential),
                       f"auth {scheme} {credential!r}", xid)

    # -- steps --

    def step(self, live, detached, limit=6):
        """`live`: slots with a connection; `detached`: sessions without one."""
        r = self.random
        roll = r.random()
        if not live or (roll < 0.05 and len(live) < limit):
            return ("connect", self.connect_options())
        if roll < 0.07:
            return ("drop", r.choice(live))
        if roll < 0.10 and (detached or live):
            return ("attach", self.attach_options(live, detached))
        if roll < 0.115:
            return ("close", r.choice(live))
        if roll < 0.12:
            return ("frame", r.choice(live), r.choice((
                wire.i32(-1), wire.i32(0x100000), wire.i32(0), wire.i32(4) + b"\0" * 4, b"ruok",
                wire.i32(7) + b"\0" * 7)))
        if roll < 0.15:
            return ("requests", r.choice(live), [self.auth()])
        if roll < 0.153:
            token = r.choice((b"", b"x", None))
            return ("requests", r.choice(live),
                    [Request(wire.SASL, wire.buf(token), f"sasl {token!r}")])
        if roll < 0.30:
            burst = [self.request() for _ in range(r.randint(2, 8))]
            burst = [one for one in burst if one.op not in UNKNOWN_OPS]
            # setACL ends a burst.
            burst = [one for one in burst if one.op != wire.SET_ACL] + \
                [one for one in burst if one.op == wire.SET_ACL][:1]
            if r.random() < 0.1:
                burst.insert(0, self.auth())
            if not burst:
                return ("requests", r.choice(live), [self.read()])
            return ("requests", r.choice(live), burst)
        return ("requests", r.choice(live), [self.request()])

    def connect_options(self):
        r = self.random
        return dict(timeout=r.choice((30_000, 100_000, -1, 0, 1 << 30)),
                    read_only=r.choice((False, False, True, None)),
                    password=r.choice((b"\0" * 16, b"\0" * 16, b"", None, b"abc")),
                    version=r.choice((0, 0, 0, 7)),
                    ahead=r.choice((None, None, None, None, 0, 1000)),
                    tail=r.choice((b"", b"", b"", b"tail")))

    def attach_options(self, live, detached):
        r = self.random
        whom = r.choice([("live", slot) for slot in live] + [("detached", s) for s in detached] +
                        [("unknown", r.choice((0x1234, -1, 1 << 62)))])
        return dict(whom=whom, timeout=r.choice((30_000, 100_000, 0)),
                    read_only=r.choice((False, False, True, None)),
                    password=r.choice(("right", "right", "right", "right", "wrong", "short", "")),
                    ahead=r.choice((None, None, 0, 0, 1000)))


NAME = {wire.CREATE: "create", wire.DELETE: "delete", wire.EXISTS: "exists",
        wire.GET_DATA: "getData", wire.SET_DATA: "setData", wire.GET_ACL: "getACL",
        wire.SET_ACL: "setACL", wire.GET_CHILDREN: "getChildren", wire.SYNC: "sync",
        wire.PING: "ping", wire.GET_CHILDREN2: "getChildren2", wire.CHECK: "check",
        wire.MULTI: "multi", wire.CREATE2: "create2", wire.RECONFIG: "reconfig",
        wire.CHECK_WATCHES: "checkWatches", wire.REMOVE_WATCHES: "removeWatches",
        wire.CREATE_CONTAINER: "createContainer", wire.CREATE_TTL: "createTTL",
        wire.MULTI_READ: "multiRead", wire.AUTH: "auth", wire.SET_WATCHES: "setWatches",
        wire.SASL: "sasl", wire.GET_EPHEMERALS: "getEphemerals",
        wire.GET_ALL_CHILDREN_NUMBER: "getAllChildrenNumber", wire.SET_WATCHES2: "setWatches2",
        wire.ADD_WATCH: "addWatch", wire.WHO_AM_I: "whoAmI"}
