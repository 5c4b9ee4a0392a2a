#!/usr/bin/env python3
"""Byte-level facts of the protocol, each checked with hand-made frames.

A probe's name is the fact. Every expectation was confirmed on a real ZooKeeper 3.9.5, which is
how the probes themselves are tested: `conformance.py --kind zookeeper` must pass in full. The
few places where Quorate answers differently on purpose ask `env.quorate`.

    conformance.py --kind zookeeper [--only TEXT] [--list]
    conformance.py --kind quorate:target/release/quorate
    conformance.py --server 127.0.0.1:2181       (what one running server can answer)
"""

import argparse
import itertools
import sys

import harness
import probes_acl
import probes_connect
import probes_create
import probes_multi
import probes_operations
import probes_sessions
import probes_words
import probes_watches
import wire
from probe import Env

MODULES = [probes_connect, probes_words, probes_create, probes_operations, probes_multi,
           probes_watches, probes_acl, probes_sessions]

# Probes say which server they need; one of each is launched, when first asked for.
SETTINGS = {
    # A tick of 500 ms: sessions may last 1 s to 10 s, so expiry is seen soon.
    "main": dict(tick_time=500, sasl=True),
    # ZooKeeper's own defaults: no SASL, no TTL znodes, srvr alone, no super user.
    "plain": dict(extended_types=False, whitelist=None, super_digest=None),
    "quota": dict(enforce_quota=True),
    # Killed and started again by its probes, so it must sync for what it acknowledges.
    "restart": dict(tick_time=500, force_sync=True),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    harness.add_server_options(parser)
    parser.add_argument("--only", help="run the probes whose name or module contains this")
    parser.add_argument("--list", action="store_true", help="print the facts and stop")
    arguments = parser.parse_args()

    checks = harness.Checks("conformance")
    servers, quorate = {}, {}
    numbers = itertools.count(1)

    def server(which):
        if which not in servers:
            servers[which] = harness.External(arguments.server) if arguments.server else \
                harness.launch(arguments.kind, **{"force_sync": False, **SETTINGS[which]})
            # Quorate marks its passwords; everything else about them is opaque.
            probe = wire.open_session(servers[which].address)
            quorate[which] = probe.password[:6] == b"QUORA\x01"
            probe.close_session()
        return servers[which]

    for module in MODULES:
        for probe in module.PROBES.probes:
            name = probe.name
            if arguments.only and arguments.only not in f"{module.__name__} {name}":
                continue
            if arguments.list:
                print(name)
                continue
            if arguments.server and probe.server != "main":
                continue

            def action(probe=probe):
                target = server(probe.server)
                env = Env(target, quorate[probe.server], next(numbers))
                try:
                    probe.action(env)
                finally:
                    env.finish()

            if not checks.run(name, action):
                # A probe that stops a server must not fail those behind it.
                for which, one in list(servers.items()):
                    process = getattr(one, "process", None)
                    if process is not None and process.poll() is not None:
                        print(f"     the {which} server is gone:\n{one.log_tail(15)}")
                        servers.pop(which).discard()
    for one in servers.values():
        one.discard()
    if arguments.list:
        return 0
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
