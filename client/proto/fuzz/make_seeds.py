#!/usr/bin/env python3
"""Makes the seed corpus out of the golden captures. Run it after a new capture."""

import pathlib
import re
import shutil

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "tests" / "golden"
SEEDS = HERE / "seeds"

# In the order of `OpCode::ALL`, by which the target `reply` reads its first byte.
ALL = [-11, -10, *range(1, 10), *range(11, 23), *range(100, 108)]
assert len(ALL) == 31


def number(data, at):
    return int.from_bytes(data[at : at + 4], "big", signed=True)


def put(target, name, data):
    """Writes a seed once: the first of its name stays."""
    folder = SEEDS / target
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / re.sub(r"[^a-zA-Z0-9]+", "-", name).strip("-").lower()
    if not path.exists():
        path.write_bytes(data)


def main():
    shutil.rmtree(SEEDS, ignore_errors=True)
    for capture in sorted(GOLDEN.glob("*.txt")):
        name, op = "", 1
        for line in capture.read_text().splitlines():
            if line.startswith("["):
                name = line[1:-1]
                continue
            if line[:2] not in ("> ", "! ", "~ ", "? ", "< "):
                continue
            frame = bytes.fromhex(line[2:])
            payload = frame[4:]
            if capture.stem == "handshake":
                put("handshake", f"{name} {'answer' if line[0] == '<' else ''}", frame)
            elif line[0] == "<":
                event = payload[:4] == b"\xff" * 4
                if op in ALL and (event or payload[12:16] == bytes(4)):
                    known = bytes([ALL.index(op)]) + payload
                    put("reply", f"event {number(payload, 16)}" if event else f"{op} {name}", known)
                    if op in (14, 22):
                        put("multi", f"results {name}", payload[16:])
            elif len(payload) >= 8:
                op = number(payload, 4)
                put("request", f"{op} {name}", payload)
                if op in (14, 22):
                    put("multi", name, payload[8:])
                length = number(payload, 8) if len(payload) >= 12 else -1
                if 0 <= length <= len(payload) - 12:
                    put("path", payload[12 : 12 + length].decode(errors="replace") or "empty", payload[8:])


if __name__ == "__main__":
    main()
