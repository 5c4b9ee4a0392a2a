"""Proof that the differential sees faults: a proxy in front of the second server plants them.

Both servers are real ZooKeepers, so the planted fault is the only difference there is. Each
kind must be found by some program among a few.
"""

import socket
import struct
import threading

import wire

STATS = {wire.EXISTS, wire.GET_DATA, wire.SET_DATA, wire.GET_CHILDREN2, wire.CREATE2,
         wire.GET_ACL}


class Frame:
    def __init__(self, payload, op):
        self.payload, self.op = payload, op
        self.xid, self.zxid, self.err = struct.unpack(">iqi", payload[:16])

    @property
    def is_event(self):
        return self.xid == wire.XID_EVENT

    def with_head(self, xid=None, zxid=None, err=None):
        head = struct.pack(">iqi", self.xid if xid is None else xid,
                           self.zxid if zxid is None else zxid, self.err if err is None else err)
        return head + self.payload[16:]


def add_to(payload, offset_from_end, size, amount=1):
    """Adds to an integer of the Stat at the end."""
    at = len(payload) - 68 + offset_from_end
    kind = ">q" if size == 8 else ">i"
    value = struct.unpack(kind, payload[at:at + size])[0]
    return payload[:at] + struct.pack(kind, value + amount) + payload[at + size:]


def stat_field(offset, size):
    def plant(frame, _held):
        if frame.op in STATS and frame.err == 0 and len(frame.payload) >= 84:
            return [add_to(frame.payload, offset, size)]
        return None
    return plant


def drop_event(frame, _held):
    return [] if frame.is_event else None


def double_event(frame, _held):
    return [frame.payload, frame.payload] if frame.is_event else None


def event_zxid(frame, _held):
    return [frame.with_head(zxid=-1)] if frame.is_event and frame.zxid > 0 else None


def event_type(frame, _held):
    if frame.is_event and frame.payload[16:20] == wire.i32(wire.CHILDREN_CHANGED):
        return [frame.payload[:16] + wire.i32(wire.DATA_CHANGED) + frame.payload[20:]]
    return None


def reply_before_event(frame, held):
    """Holds an event back until the next frame has gone."""
    if frame.is_event and not held:
        held.append(frame.payload)
        return []
    if held:
        return [frame.payload, held.pop()] if not frame.is_event else None
    return None


def other_error(frame, _held):
    return [frame.with_head(err=wire.NO_NODE)] if frame.err == wire.BAD_VERSION else None


def error_with_body(frame, _held):
    if frame.err == wire.NO_NODE and frame.op == wire.EXISTS:
        return [frame.payload + b"\0" * 4]
    return None


def header_zxid(frame, _held):
    if frame.op in (wire.CREATE, wire.SET_DATA) and frame.zxid > 0:
        return [frame.with_head(zxid=frame.zxid + 1)]
    return None


def echo_of_xid(frame, _held):
    return [frame.with_head(xid=frame.xid + 1)] if frame.op == wire.GET_DATA else None


def lost_child(frame, _held):
    if frame.op == wire.GET_CHILDREN and frame.err == 0:
        reader = wire.Reader(frame.payload[16:])
        names = reader.vec(reader.str)
        if names:
            return [frame.payload[:16] + wire.vec(names[1:])]
    return None


def null_for_empty(frame, _held):
    if frame.op == wire.GET_DATA and frame.err == 0 and frame.payload[16:20] == wire.i32(0):
        return [frame.payload[:16] + wire.i32(-1) + frame.payload[20:]]
    return None


def sequence_number(frame, _held):
    if frame.op == wire.CREATE and frame.err == 0 and frame.payload[-10:].isdigit():
        number = int(frame.payload[-10:]) + 1
        return [frame.payload[:-10] + b"%010d" % number]
    return None


def multi_result(frame, _held):
    """A rolled-back operation's 0 becomes -2."""
    at = frame.payload.find(wire.multi_header(wire.ERROR, False, 0) + wire.i32(0))
    if frame.op == wire.MULTI and at >= 0:
        fault = wire.multi_header(wire.ERROR, False, -2) + wire.i32(-2)
        return [frame.payload[:at] + fault + frame.payload[at + len(fault):]]
    return None


def addwatch_without_body(frame, _held):
    return [frame.payload[:16]] if frame.op == wire.ADD_WATCH and frame.err == 0 else None


def closed_instead_of_reply(frame, _held):
    return "close" if frame.op == wire.SET_ACL else None


def unmasked_acl(frame, _held):
    if frame.op == wire.GET_ACL and frame.payload.find(wire.buf("u:x")) >= 0:
        return [frame.payload.replace(wire.buf("u:x"), wire.buf("u:y"))]
    return None


def forgotten_identity(frame, _held):
    if frame.op == wire.WHO_AM_I and b"digest" in frame.payload:
        return [frame.payload[:16] + wire.vec([("ip", "127.0.0.1")],
                                              lambda e: wire.buf(e[0]) + wire.buf(e[1]))]
    return None


KINDS = {
    "a Stat's czxid is one more": stat_field(0, 8),
    "a Stat's mzxid is one more": stat_field(8, 8),
    "a Stat's mtime is an hour early": lambda f, h: (
        [add_to(f.payload, 24, 8, -3_600_000)] if f.op == wire.GET_DATA and f.err == 0 else None),
    "a Stat's version is one more": stat_field(32, 4),
    "a Stat's cversion is one more": stat_field(36, 4),
    "a Stat's aversion is one more": stat_field(40, 4),
    "a Stat's ephemeralOwner is one more": stat_field(44, 8),
    "a Stat's dataLength is one more": stat_field(52, 4),
    "a Stat's numChildren is one more": stat_field(56, 4),
    "a Stat's pzxid is one more": stat_field(60, 8),
    "an event is dropped": drop_event,
    "an event comes twice": double_event,
    "an event has no zxid": event_zxid,
    "an event has another type": event_type,
    "a reply overtakes an event": reply_before_event,
    "a refusal has another error": other_error,
    "an error reply has a body": error_with_body,
    "a header's zxid is one more": header_zxid,
    "a reply has another xid": echo_of_xid,
    "a child is missing from a list": lost_child,
    "empty data come back as null": null_for_empty,
    "a sequence number is skipped": sequence_number,
    "a failed multi's results are wrong": multi_result,
    "addWatch's reply has no body": addwatch_without_body,
    "a connection ends instead of a reply": closed_instead_of_reply,
    "getACL masks otherwise": unmasked_acl,
    "whoAmI forgets an identity": forgotten_identity,
}


class Proxy:
    """Passes everything through but one frame, the `nth` on which the fault can be planted."""

    def __init__(self, upstream, plant, nth=3):
        self.upstream, self.plant, self.left = upstream, plant, nth
        self.lock = threading.Lock()
        self.planted = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = self.listener.getsockname()
        threading.Thread(target=self.accept, daemon=True).start()

    def stop(self):
        self.listener.close()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(self.upstream)
            ops = {}
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self.requests, args=(client, server, ops), daemon=True).start()
            threading.Thread(target=self.replies, args=(client, server, ops), daemon=True).start()

    @staticmethod
    def requests(client, server, ops):
        pending, first = b"", True
        while True:
            try:
                chunk = client.recv(65536)
                if not chunk:
                    server.shutdown(socket.SHUT_WR)
                    return
                pending += chunk
                while len(pending) >= 4:
                    size = struct.unpack(">i", pending[:4])[0]
                    if size < 0 or len(pending) < 4 + size:
                        break
                    frame, pending = pending[4:4 + size], pending[4 + size:]
                    if not first and size >= 8:
                        xid, op = struct.unpack(">ii", frame[:8])
                        ops.setdefault(xid, []).append(op)
                    first = False
                server.sendall(chunk)
            except OSError:
                return

    def replies(self, client, server, ops):
        pending, first, held = b"", True, []
        try:
            while True:
                chunk = server.recv(65536)
                if not chunk:
                    break
                pending += chunk
                while len(pending) >= 4:
                    size = struct.unpack(">i", pending[:4])[0]
                    if len(pending) < 4 + size:
                        break
                    payload, pending = pending[4:4 + size], pending[4 + size:]
                    out = [payload]
                    if not first:
                        out = self.pass_on(payload, ops, held)
                    first = False
                    if out == "close":
                        return
                    client.sendall(b"".join(wire.i32(len(p)) + p for p in out))
        except OSError:
            pass
        finally:
            for sock in (client, server):
                try:
                    sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                sock.close()

    def pass_on(self, payload, ops, held):
        xid = struct.unpack(">i", payload[:4])[0]
        waiting = ops.get(xid) or [None]
        op = waiting.pop(0) if xid != wire.XID_EVENT else None
        frame = Frame(payload, op)
        with self.lock:
            if self.left <= 0 and not held:
                return [payload]
            out = self.plant(frame, held)
            if out is None:
                return [payload]
            if held:
                self.left = 0
            elif self.left > 1:
                self.left -= 1
                return [payload]
            else:
                self.left = 0
            self.planted += 1
            return out


# So rare that the first occasion must do.
RARE = {unmasked_acl}


def prove(checks, run_seed, divergence, seeds=range(1, 9), steps=400):
    for name, plant in KINDS.items():
        def action(plant=plant):
            planted = 0
            for seed in seeds:
                proxies = []

                def between(address):
                    proxies.append(Proxy(address, plant, nth=1 if plant in RARE else 3))
                    return proxies[0]

                try:
                    run_seed(seed, "zookeeper", steps, between=between)
                except divergence:
                    assert proxies[0].planted, "a difference without a fault"
                    return
                planted += proxies[0].planted
            raise AssertionError(f"planted {planted} times and not found in {len(seeds)} programs")
        checks.run(f"found: {name}", action)
