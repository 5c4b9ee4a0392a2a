#!/usr/bin/env python3
"""Seeded random programs, run step by step against a real ZooKeeper and the server under test.

Every reply, event, Stat and close must be the same. Compared as they are: opcodes' results,
errors, the order of events and replies on each connection, versions, counts, data, ACLs,
timeouts, and which connections end. Compared after translation: zxids (the distance from the
program's first one: both servers must number every request alike), session ids (by the order of
opening), times (only which are equal). Not compared: what nobody promises, the order of child
names, of ephemerals and of a closing session's events.

    differential.py --kind quorate:target/release/quorate --seeds 200 --steps 400
    differential.py --kind zookeeper --seeds 20        two real ones: there must be no difference
    differential.py --kind ... --seed 17 --steps 400   one program again
    differential.py --faults                           plants faults and wants each one found
"""

import argparse
import sys
import time

import harness
import wire
from programs import NAME, UNKNOWN_OPS, Generator, Request

SETTINGS = dict(tick_time=2000, min_session_timeout=300_000, max_session_timeout=600_000,
                enforce_quota=True, reaper_ms=3_600_000, force_sync=False)
PATIENCE = 20.0
# Distance between the zxids of before and after a restart.
GAP = 100


class Divergence(Exception):
    pass


class Side:
    """One of the two servers, with its names for what both have."""

    def __init__(self, server, address=None):
        self.server = server
        self.address = address or server.address
        self.slots = {}       # slot -> Connection
        self.sessions = []    # number -> (id, password)
        self.numbers = {}     # id -> number
        # (first zxid, its distance), and the distance at which the one before ended: zxids may
        # jump when a server restarts.
        self.segments, self.ends = [], []

    def begin(self, distance=0, ended=0):
        """From here on zxids count from the next session's opening."""
        self.ends.append(ended)
        session = wire.open_session(self.address, timeout=300_000)
        session.send(wire.PING, xid=-2)
        self.segments.append((session.next().zxid, distance))
        session.close_session()

    def rel(self, zxid):
        if zxid in (0, -1):
            return zxid
        for first, distance in reversed(self.segments):
            if zxid >= first:
                return ("z", zxid - first + distance)
        return ("before", zxid - self.segments[0][0])

    def zxid_of(self, distance):
        for (first, start), ended in reversed(list(zip(self.segments, self.ends))):
            if distance >= start:
                return first + distance - start
            distance = min(distance, ended)
        return self.segments[0][0]

    def owner(self, session):
        return session if session == 0 else f"s{self.numbers.get(session, hex(session))}"

    def learn(self, connection):
        if connection.session not in self.numbers:
            self.numbers[connection.session] = len(self.sessions)
            self.sessions.append((connection.session, connection.password))

    # -- what came, in words that both servers share --

    def stat(self, s):
        times = (s.ctime == 0, s.mtime == 0, s.mtime >= s.ctime,
                 s.mzxid != s.czxid or s.mtime == s.ctime)
        return ("stat", self.rel(s.czxid), self.rel(s.mzxid), times, s.version, s.cversion,
                s.aversion, self.owner(s.ephemeral_owner), s.data_length, s.num_children,
                self.rel(s.pzxid))

    def frame(self, frame, op):
        """An event or a reply to `op` as a tuple to compare."""
        if not isinstance(frame, wire.Reply):
            return repr(frame)
        if frame.is_event:
            kind, state, path = frame.event()
            return ("event", kind, state, path, self.rel(frame.zxid))
        head = ("reply", NAME.get(op, op), frame.xid, frame.err, self.rel(frame.zxid))
        try:
            return head + (self.body(frame, op),)
        except (wire.ShortRecord, UnicodeDecodeError) as error:
            return head + (f"unreadable: {error}", frame.body)

    def body(self, frame, op):
        if not frame.body:
            return ()
        if frame.err != 0:
            # A real server's multiRead may carry what it had read; no client looks there.
            return () if op == wire.MULTI_READ else frame.body
        reader = frame.reader()
        if op in (wire.CREATE, wire.SYNC):
            out = (reader.str(),)
        elif op in (wire.CREATE2, wire.CREATE_CONTAINER, wire.CREATE_TTL):
            out = (reader.str(), self.stat(reader.stat()))
        elif op in (wire.EXISTS, wire.SET_DATA, wire.SET_ACL):
            out = (self.stat(reader.stat()),)
        elif op == wire.GET_DATA:
            out = (reader.buf(), self.stat(reader.stat()))
        elif op == wire.GET_ACL:
            out = (self.acl(reader.vec(reader.acl)), self.stat(reader.stat()))
        elif op == wire.GET_CHILDREN:
            out = (sorted(reader.vec(reader.str)),)
        elif op == wire.GET_CHILDREN2:
            out = (sorted(reader.vec(reader.str)), self.stat(reader.stat()))
        elif op == wire.GET_EPHEMERALS:
            out = (sorted(reader.vec(reader.str)),)
        elif op == wire.WHO_AM_I:
            out = (sorted(reader.vec(lambda: (reader.str(), reader.str()))),)
        elif op in (wire.MULTI, wire.MULTI_READ):
            return [self.result(r) for r in wire.multi_results(frame.body)]
        else:
            out = ()
        return out + (reader.left(),)

    @staticmethod
    def acl(entries):
        # `auth` becomes the identities in no particular order.
        return sorted(entries, key=repr)

    def result(self, result):
        kind = result[0]
        if kind == wire.GET_CHILDREN:
            return (*result[:2], sorted(result[2]))
        return tuple(self.stat(f) if isinstance(f, wire.Stat) else f for f in result)

    # -- what a step does --

    def connect(self, slot, options):
        connection = wire.Connection(self.address, timeout=PATIENCE)
        zxid = 0
        if options["ahead"] is not None:
            zxid = self.zxid_of(options["last"] + options["ahead"])
        session, password = options.get("session", 0), options["password"]
        connection.send_frame(wire.connect_request(
            session, password, options["timeout"], zxid, options["read_only"],
            options.get("version", 0)) + options.get("tail", b""))
        answer = connection.receive()
        if not isinstance(answer, bytes):
            connection.drop()
            return repr(answer)
        try:
            reader = wire.Reader(answer)
            version, timeout, session = reader.i32(), reader.i32(), reader.i64()
            password, left = reader.buf(), reader.left()
        except wire.ShortRecord as error:
            return f"unreadable handshake: {error}"
        if timeout <= 0:
            ends = connection.receive()
            connection.drop()
            return ("refused", version, timeout, session, password, left, repr(ends))
        connection.session, connection.password = session, password
        self.learn(connection)
        self.slots[slot] = connection
        return ("session", version, timeout, self.owner(session), len(password),
                password != b"\0" * 16, left)

    def attach(self, slot, options):
        kind, whom = options["whom"]
        if kind == "unknown":
            session, right = whom, b"\1" * 16
        else:
            number = whom if kind == "detached" else options["number"]
            session, right = self.sessions[number]
        password = {"right": right, "wrong": bytes(b ^ 0x55 for b in right),
                    "short": right[:15], "": b""}[options["password"]]
        return self.connect(slot, dict(options, session=session, password=password))

    def send(self, slot, requests):
        """Sends all in one piece; returns the frames up to the last reply."""
        connection, frames = self.slots[slot], []
        for request in requests:
            xid = connection.xid() if request.xid is None else request.xid
            frames.append(wire.i32(xid) + wire.i32(request.op) + request.body(self.zxid_of))
        connection.send_bytes(b"".join(wire.i32(len(f)) + f for f in frames))
        out = self.collect(connection, [request.op for request in requests])
        if any(request.op in UNKNOWN_OPS for request in requests):
            # The end is certain but takes a moment, in which a ping may still be answered.
            while isinstance(frame := connection.next(), wire.Reply):
                out.append(self.frame(frame, None))
            out.append(repr(frame))
        return out

    def collect(self, connection, ops):
        out, waiting = [], list(ops)
        while waiting:
            frame = connection.next()
            is_reply = isinstance(frame, wire.Reply) and not frame.is_event
            out.append(self.frame(frame, waiting[0]))
            if is_reply:
                waiting.pop(0)
            elif not isinstance(frame, wire.Reply):
                return out
        return out

    def fence(self):
        """What else is due on each connection: all that comes before a ping's reply."""
        for connection in self.slots.values():
            if not connection.closed:
                connection.send(wire.PING, xid=wire.XID_PING)
        out = {}
        for slot, connection in sorted(self.slots.items()):
            frames = []
            while True:
                frame = connection.next()
                if not isinstance(frame, wire.Reply):
                    frames.append(repr(frame))
                    break
                if frame.xid == wire.XID_PING:
                    frames.append(("fence", frame.err, self.rel(frame.zxid), frame.body))
                    break
                frames.append(self.frame(frame, None))
            out[slot] = frames
        for slot, frames in out.items():
            if not isinstance(frames[-1], tuple):
                self.slots.pop(slot).drop()
        return out

    def tree(self):
        """Everything that is stored, as the super user sees it."""
        session = wire.open_session(self.address, timeout=300_000)
        self.learn(session)
        session.call(wire.AUTH, wire.auth("digest", "super:test"), xid=wire.XID_AUTH)
        found, todo = {}, ["/"]
        while todo:
            path = todo.pop()
            data = session.call(wire.GET_DATA, wire.path_watch(path))
            acl = session.call(wire.GET_ACL, wire.buf(path))
            children = session.call(wire.GET_CHILDREN, wire.path_watch(path))
            found[path] = (self.frame(data, wire.GET_DATA)[5:], self.frame(acl, wire.GET_ACL)[5:])
            reader = children.reader()
            todo += [path.rstrip("/") + "/" + name for name in reader.vec(reader.str)]
        session.close_session()
        return found

    def discard(self):
        for connection in self.slots.values():
            connection.drop()


class Lockstep:
    """One program on two sides."""

    def __init__(self, seed, real, ours):
        self.seed, self.real, self.ours = seed, real, ours
        self.generator = Generator(seed)
        self.history = []
        self.next_slot = 0
        self.slot_session = {}    # slot -> session number
        self.detached = []
        self.counts = {"steps": 0, "frames": 0, "events": 0, "closes": 0}

    def compare(self, what, real, ours):
        if real == ours:
            return
        lines = [f"seed {self.seed}, step {len(self.history)}: {what} differ"]
        lines += [f"  {n}: {text}" for n, text in self.history[-12:]]
        if isinstance(real, dict):
            for key in sorted(set(real) | set(ours), key=str):
                if real.get(key) != ours.get(key):
                    lines += [f"  at {key}:"] + pairs(real.get(key), ours.get(key))
        else:
            lines += pairs(real, ours)
        raise Divergence("\n".join(lines))

    def run(self, steps):
        for side in (self.real, self.ours):
            side.begin()
        prologue = self.generator.prologue(self.seed)
        if prologue:
            self.step(("connect", self.generator.connect_options()))
            if 0 in self.real.slots:
                self.step(("requests", 0, prologue))
        for _ in range(steps):
            live = sorted(self.real.slots)
            self.step(self.generator.step(live, self.detached))
        self.finish()

    def note(self, text):
        self.history.append((len(self.history) + 1, text))
        self.counts["steps"] += 1

    def step(self, step):
        kind = step[0]
        real = ours = None
        unordered = False
        if kind in ("connect", "attach"):
            slot, options = self.next_slot, dict(step[1], last=self.generator.last_rel)
            self.next_slot += 1
            if kind == "attach" and options["whom"][0] == "live":
                options["number"] = self.slot_session[options["whom"][1]]
            self.note(f"{kind} as #{slot}: {step[1]}")
            real, ours = (getattr(side, kind)(slot, options) for side in (self.real, self.ours))
            self.compare("handshakes", real, ours)
            if slot in self.real.slots:
                number = self.real.numbers[self.real.slots[slot].session]
                self.slot_session[slot] = number
                if number in self.detached:
                    self.detached.remove(number)
        elif kind == "drop":
            slot = step[1]
            self.note(f"drop #{slot}")
            for side in (self.real, self.ours):
                side.slots.pop(slot).drop()
            self.detached.append(self.slot_session[slot])
        elif kind == "close":
            slot = step[1]
            self.note(f"closeSession on #{slot}")
            unordered = True
            requests = [Request(wire.CLOSE_SESSION, b"", "closeSession")]
            real, ours = (side.send(slot, requests) for side in (self.real, self.ours))
            self.compare(f"frames on #{slot}", *map(in_any_order, (real, ours)))
        elif kind == "frame":
            slot, data = step[1:]
            self.note(f"frame {data.hex()} on #{slot}")
            for side in (self.real, self.ours):
                side.slots[slot].send_bytes(data)
                # Nothing may follow before the close is seen: it would be part of that frame.
            real, ours = ([repr(side.slots[slot].next())] for side in (self.real, self.ours))
            self.compare(f"ends of #{slot}", real, ours)
        else:
            slot, requests = step[1:]
            self.note(f"on #{slot}: {' | '.join(map(repr, requests))}")
            real, ours = (side.send(slot, requests) for side in (self.real, self.ours))
            self.compare(f"frames on #{slot}", real, ours)
            self.learn(real)
        fences = [side.fence() for side in (self.real, self.ours)]
        for fence in fences:
            if unordered:
                for slot in fence:
                    fence[slot] = in_any_order(fence[slot])
        self.compare("frames due", *fences)
        self.settle(fences[0], kind, step)
        self.counts["frames"] += sum(len(frames) for frames in fences[0].values())
        self.counts["frames"] += len(real) if isinstance(real, list) else 0
        every = [f for frames in fences[0].values() for f in frames]
        every += real if isinstance(real, list) else []
        self.counts["events"] += sum(1 for f in every if f[0] == "event")

    def learn(self, frames):
        """Names in replies are new material; so is how far the zxids have come."""
        for frame in frames:
            if frame[0] != "reply" or frame[3] != 0:
                continue
            body = frame[5]
            if frame[1] in ("create", "create2", "createContainer", "createTTL") and body:
                self.generator.heard_of(body[0])
            if frame[1] == "multi" and body:
                for result in body:
                    if result[0] in (wire.CREATE, wire.CREATE2):
                        self.generator.heard_of(result[2])
            if isinstance(frame[4], tuple):
                self.generator.last_rel = max(self.generator.last_rel, frame[4][1])

    def settle(self, fence, kind, step):
        for slot, frames in fence.items():
            if isinstance(frames[-1], tuple):
                if isinstance(frames[-1][2], tuple):
                    self.generator.last_rel = max(self.generator.last_rel, frames[-1][2][1])
                continue
            self.counts["closes"] += 1
            number = self.slot_session.get(slot)
            # A session that another connection now holds is not detached.
            held = [self.slot_session[s] for s in self.real.slots]
            if kind == "close" and slot == step[1]:
                continue
            if number is not None and number not in held and number not in self.detached:
                self.detached.append(number)

    def finish(self):
        self.note("the whole tree")
        self.compare("trees", self.real.tree(), self.ours.tree())

    def restart(self):
        """Both are killed and started again: what they acknowledged is there, and sessions."""
        self.note("kill -9 and restart")
        for slot in list(self.real.slots):
            self.detached.append(self.slot_session[slot])
        for side in (self.real, self.ours):
            side.discard()
            side.slots.clear()
            side.server.restart()
            side.begin(self.generator.last_rel + GAP, self.generator.last_rel)
        self.generator.last_rel += GAP
        self.finish()


def in_any_order(frames):
    """A closing session's ephemerals go in no particular order; replies keep theirs."""
    events = sorted((f for f in frames if f[0] == "event"), key=repr)
    return events + [f for f in frames if f[0] != "event"]


def pairs(real, ours):
    real = real if isinstance(real, list) else [real]
    ours = ours if isinstance(ours, list) else [ours]
    lines = []
    for number in range(max(len(real), len(ours))):
        a = real[number] if number < len(real) else "nothing"
        b = ours[number] if number < len(ours) else "nothing"
        mark = " " if a == b else "!"
        lines.append(f"    {mark} zookeeper: {a!r}"[:1500])
        if a != b:
            lines.append(f"    {mark} ours:      {b!r}"[:1500])
    return lines


def run_seed(seed, kind, steps, restart=False, between=None):
    """Fresh servers for each program. `between` may wrap the second one's address."""
    settings = dict(SETTINGS, force_sync=restart)
    with harness.launch("zookeeper", **settings) as first, \
            harness.launch(kind, **settings) as second:
        proxy = between(second.address) if between else None
        real, ours = Side(first), Side(second, proxy.address if proxy else None)
        lockstep = Lockstep(seed, real, ours)
        try:
            lockstep.run(steps)
            if restart:
                lockstep.restart()
                for _ in range(steps // 2):
                    lockstep.step(lockstep.generator.step(sorted(real.slots), lockstep.detached))
                lockstep.finish()
        finally:
            for side in (real, ours):
                side.discard()
            if proxy:
                proxy.stop()
        return lockstep


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", default="zookeeper",
                        help="`zookeeper` or `quorate:<path of the binary>`")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--seed", type=int, help="this one only")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--restart", action="store_true",
                        help="kill both after the program, then go on for half as long")
    parser.add_argument("--keep-going", action="store_true", help="do not stop at a difference")
    parser.add_argument("--faults", action="store_true", help="prove that faults are found")
    arguments = parser.parse_args()
    checks = harness.Checks("differential")
    if arguments.faults:
        import faults
        faults.prove(checks, run_seed, Divergence)
        return checks.finish()
    seeds = [arguments.seed] if arguments.seed is not None else \
        range(arguments.first, arguments.first + arguments.seeds)
    started = time.monotonic()
    totals = {}
    for seed in seeds:
        diverged = []

        def action(seed=seed):
            try:
                lockstep = run_seed(seed, arguments.kind, arguments.steps, arguments.restart)
            except Divergence as divergence:
                diverged.append(str(divergence))
                raise AssertionError(str(divergence).splitlines()[0]) from None
            for key, value in lockstep.counts.items():
                totals[key] = totals.get(key, 0) + value

        if not checks.run(f"seed {seed}", action):
            if diverged:
                print(diverged[0])
            if not arguments.keep_going:
                break
    print(f"     {totals} in {time.monotonic() - started:.0f} s")
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
