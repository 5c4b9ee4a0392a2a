#!/usr/bin/env python3
"""Moving in and moving out: a dataDir of a real ZooKeeper, and one that it boots from.

A random program fills two real servers alike. One of them is killed, and the server under test
starts on its directory: tree, Stats, ACLs and sessions must be there, and the program goes on in
lockstep with the other real server. Then the server under test is stopped, its data are exported,
a real ZooKeeper boots from the export, and the program goes on again.

    datadir.py --kind quorate:target/release/quorate
    datadir.py --kind zookeeper        (a real one on a copied directory: proves the check)
"""

import argparse
import shutil
import subprocess
import sys

import harness
import wire
from differential import GAP, SETTINGS, Divergence, Lockstep, Side

# Sessions must outlive the moves.
MOVES = dict(SETTINGS, force_sync=True)


def copy_of(server, kind):
    """A new server's home with a copy of this one's ZooKeeper files."""
    successor = harness.Server(kind, **MOVES)
    shutil.copytree(server.data_dir / "version-2", successor.data_dir / "version-2")
    return successor


def move(lockstep, successor):
    """Puts another server in the place of ours; the real one is restarted beside it."""
    ended = lockstep.generator.last_rel
    distance = ended + GAP
    lockstep.note(f"{lockstep.ours.server.kind} moves to {successor.kind}")
    for slot in list(lockstep.real.slots):
        lockstep.detached.append(lockstep.slot_session[slot])
    for side in (lockstep.real, lockstep.ours):
        side.discard()
        side.slots.clear()
    lockstep.real.server.restart()
    successor.start()
    lockstep.ours.server.kill()
    lockstep.ours.server, lockstep.ours.address = successor, successor.address
    for side in (lockstep.real, lockstep.ours):
        side.begin(distance, ended)
    lockstep.generator.last_rel = distance
    lockstep.finish()


def re_attach_all(lockstep):
    """Every session that was alive is, with its password."""
    for number in sorted(set(lockstep.detached)):
        options = dict(whom=("detached", number), timeout=30_000, read_only=False,
                       password="right", ahead=None)
        lockstep.step(("attach", options))


def go_on(lockstep, steps):
    for _ in range(steps):
        lockstep.step(lockstep.generator.step(sorted(lockstep.real.slots), lockstep.detached))
    lockstep.finish()


def export(server):
    """What `quorate export-datadir` wrote, in a new ZooKeeper's home."""
    successor = harness.Server("zookeeper", **MOVES)
    shutil.rmtree(successor.data_dir)
    server.stop()
    binary = server.kind.split(":", 1)[1]
    result = subprocess.run(
        [binary, "export-datadir", "--config", str(server.config_path), "--to",
         str(successor.data_dir)], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, f"export: {result.returncode}: {result.stderr}"
    return successor


def digest_mismatches(server):
    text = wire.four_letter_word(server.address, "mntr").decode()
    found = [line for line in text.splitlines() if line.startswith("zk_digest_mismatches_count")]
    assert found, "no digest_mismatches_count"
    return int(found[0].split("\t")[1])


def journey(kind, seed, steps):
    servers = [harness.launch("zookeeper", **MOVES) for _ in range(2)]
    lockstep = Lockstep(seed, Side(servers[0]), Side(servers[1]))
    try:
        lockstep.run(steps)
        servers[1].kill()
        originals = snapshot_of(servers[1].data_dir / "version-2")
        native = len(lockstep.real.sessions)
        servers.append(copy_of(servers[1], kind))
        move(lockstep, servers[2])
        kept = {name: data for name, data in
                snapshot_of(servers[2].data_dir / "version-2").items() if name in originals}
        if kind != "zookeeper":
            assert kept == originals, "ZooKeeper's own files were changed"
        re_attach_all(lockstep)
        go_on(lockstep, steps // 2)
        if kind == "zookeeper":
            servers[2].kill()
            servers.append(copy_of(servers[2], "zookeeper"))
        else:
            servers.append(export(servers[2]))
        move(lockstep, servers[3])
        if kind != "zookeeper":
            # Replaying its own log a real server may count some; an export has no log.
            assert digest_mismatches(servers[3]) == 0, "digest mismatches after the export"
            # Quorate's own passwords mean nothing to ZooKeeper: its sessions cannot be taken over.
            lockstep.detached = [n for n in lockstep.detached if n < native]
        re_attach_all(lockstep)
        go_on(lockstep, steps // 2)
    finally:
        for side in (lockstep.real, lockstep.ours):
            side.discard()
        for server in servers:
            server.discard()


def snapshot_of(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir() if path.is_file()}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True,
                        help="`zookeeper` or `quorate:<path of the binary>`")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--first", type=int, default=1)
    parser.add_argument("--steps", type=int, default=300)
    arguments = parser.parse_args()
    checks = harness.Checks("datadir")
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        text = []

        def action(seed=seed, text=text):
            try:
                journey(arguments.kind, seed, arguments.steps)
            except Divergence as divergence:
                text.append(str(divergence))
                raise AssertionError(str(divergence).splitlines()[0]) from None

        if not checks.run(f"in and out again, seed {seed}", action) and text:
            print(text[0])
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
