#!/usr/bin/env python3
"""quorate-client's own test suite (client/tests/any_server.rs) against several servers.

    rust_client.py --kind quorate:target/release/quorate

Runs it on the server that is named, and on real ZooKeeper 3.9 and 3.5 besides. Real servers also
speak TLS, and all of them SASL DIGEST-MD5.
"""

import argparse
import json
import os
import re
import subprocess
import sys

import harness

TIMEOUT_S = 300
# What ZooKeeper 3.5 does not know yet.
NEWER_THAN_3_5 = "addWatch getEphemerals getAllChildrenNumber whoAmI multiRead"


def built():
    """The test binary."""
    binary = os.environ.get("QUORATE_CLIENT_TESTS")
    if binary:
        return binary
    result = subprocess.run(
        ["cargo", "test", "--quiet", "-p", "quorate-client", "--test", "any_server", "--no-run",
         "--message-format=json"],
        cwd=harness.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for line in result.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message.get("target", {}).get("name") == "any_server":
            return message["executable"]
    raise SystemExit("cargo names no test binary")


def certificates(directory):
    """An authority, a server and a client, as PEM files."""
    def openssl(*arguments):
        subprocess.run(["openssl", *arguments], cwd=directory, check=True,
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=authority",
            "-keyout", "ca.key", "-out", "ca.pem")
    for name, alternative in (("server", "IP:127.0.0.1"), ("client", "DNS:client")):
        (directory / "extensions").write_text(f"subjectAltName={alternative}\n")
        openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}",
                "-keyout", f"{name}.key", "-out", f"{name}.csr")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
                "-CAcreateserial", "-days", "2", "-extfile", "extensions", "-out", f"{name}.pem")
    (directory / "server-both.pem").write_text(
        (directory / "server.key").read_text() + (directory / "server.pem").read_text())


def tls_settings(directory, port):
    return {
        "serverCnxnFactory": "org.apache.zookeeper.server.NettyServerCnxnFactory",
        "secureClientPort": port,
        "ssl.keyStore.location": directory / "server-both.pem",
        "ssl.keyStore.type": "PEM",
        "ssl.trustStore.location": directory / "ca.pem",
        "ssl.trustStore.type": "PEM",
    }


def suite(checks, binary, kind, with_tls):
    name = kind.split(":", 1)[0]
    settings = {}
    environment = {}
    if with_tls:
        directory = harness.cache() / "tls"
        if not (directory / "server-both.pem").exists():
            directory.mkdir(exist_ok=True)
            certificates(directory)
        port = harness.free_port()
        settings = tls_settings(directory, port)
        environment = {"QUORATE_TEST_TLS": f"127.0.0.1:{port}",
                       "QUORATE_TEST_TLS_FILES": str(directory)}
    user = "bob"
    environment["QUORATE_TEST_SASL"] = f"{user}:{harness.SASL_USERS[user]}"
    environment["QUORATE_TEST_LACKS"] = NEWER_THAN_3_5 if kind == "zookeeper-3.5" else ""
    # Short ticks, so that the shortest sessions are short.
    with harness.launch(kind, sasl=True, tick_time=500, reaper_ms=200, max_session_timeout=60_000,
                        extra=settings) as server:
        result = subprocess.run(
            [binary], env={**os.environ, **environment, "QUORATE_TEST_SERVER": server.hosts},
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=TIMEOUT_S,
            check=False)
    tests = re.findall(r"^test (\S+) \.\.\. (ok|FAILED)$", result.stdout, re.MULTILINE)
    for test, outcome in tests:
        def action():
            why = re.search(rf"---- {test} stdout ----\n(.*?)(?:stack backtrace|\n\n)",
                            result.stdout, re.DOTALL)
            assert outcome == "ok", why[1] if why else "it failed"
        checks.run(f"{name}: {test}", action)

    def whole():
        assert tests and result.returncode in (0, 101), result.stdout[-600:]
    checks.run(f"{name}: the suite comes to its end", whole)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", required=True, help="`zookeeper` or `quorate:<path>`")
    arguments = parser.parse_args()
    checks = harness.Checks("rust-client")
    binary = built()
    for kind in dict.fromkeys([arguments.kind, "zookeeper", "zookeeper-3.5"]):
        suite(checks, binary, kind, with_tls=kind in harness.JARS)
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
