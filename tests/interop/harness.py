"""Launches the servers that the interop checks run against.

`launch(kind, **settings)` starts one on a free loopback port with a scratch directory and waits
until it serves. `kind` is `zookeeper` (the real one, from the cache that setup.sh fills),
`zookeeper-3.5` (an old one) or `quorate:<path of the binary>`. All read the same zoo.cfg, so a
difference in what they answer is not one in what they were told.
"""

import atexit
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import wire

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent

# `super:test`, as DigestAuthenticationProvider hashes it.
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
# Users of SASL DIGEST-MD5 in the JAAS file.
SASL_USERS = {"bob": "bobsecret", "super": "adminsecret", "jaasuser": "jaas_password"}

# Where setup.sh puts the real servers, by kind.
JARS = {"zookeeper": "lib", "zookeeper-3.5": "lib-3.5"}

JAVA_OPTIONS = ["-Xms64m", "-Xmx768m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
                "-Xshare:auto"]


def cache():
    """The directory that setup.sh filled."""
    return Path(os.environ.get("QUORATE_INTEROP_CACHE") or ROOT / "target" / "interop").resolve()


def classpath(part="lib"):
    return str(cache() / part / "*")


def free_port():
    with socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def hex_id(number):
    """A session id as ZooKeeper prints it: unsigned."""
    return f"{number & 0xFFFF_FFFF_FFFF_FFFF:#x}"


class LaunchFailed(Exception):
    pass


class Server:
    """One server process. Its directory outlives `kill`, so that `start` is a restart."""

    def __init__(self, kind, tick_time=2000, super_digest=SUPER_DIGEST, sasl=False,
                 enforce_quota=False, extended_types=True, max_session_timeout=None,
                 min_session_timeout=None, whitelist="*", force_sync=True, reaper_ms=1000,
                 extra=None):
        self.kind = kind
        self.process = None
        # Containers and TTL znodes are looked at often, so that checks need not wait.
        self.reaper_ms = reaper_ms
        self.home = Path(tempfile.mkdtemp(prefix="quorate-interop-"))
        self.data_dir = self.home / "data"
        self.data_dir.mkdir()
        self.port = free_port()
        self.log_path = self.home / "server.log"
        settings = {
            "tickTime": tick_time,
            "dataDir": self.data_dir,
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "extendedTypesEnabled": str(extended_types).lower(),
            "enforceQuota": str(enforce_quota).lower(),
            # Effective for Quorate; ZooKeeper reads the property from its command line only.
            "znode.container.checkIntervalMs": reaper_ms,
        }
        if whitelist is not None:
            settings["4lw.commands.whitelist"] = whitelist
        if super_digest:
            settings["DigestAuthenticationProvider.superDigest"] = super_digest
        if max_session_timeout:
            settings["maxSessionTimeout"] = max_session_timeout
        if min_session_timeout:
            settings["minSessionTimeout"] = min_session_timeout
        if not force_sync:
            settings["forceSync"] = "no"
        if sasl:
            settings["authProvider.1"] = \
                "org.apache.zookeeper.server.auth.SASLAuthenticationProvider"
            # Likewise: ZooKeeper is told on its command line where the users are.
            settings["java.security.auth.login.config"] = self.home / "jaas.conf"
        self.sasl = sasl
        settings.update(extra or {})
        self.config_path = self.home / "zoo.cfg"
        self.config_path.write_text("".join(f"{k}={v}\n" for k, v in settings.items()))
        self.jaas_path = self.home / "jaas.conf"
        users = "\n".join(f'    user_{name}="{pw}"' for name, pw in SASL_USERS.items())
        self.jaas_path.write_text(
            "Server {\n    org.apache.zookeeper.server.auth.DigestLoginModule required\n"
            f"{users};\n}};\n")
        atexit.register(self.discard)

    @property
    def address(self):
        return ("127.0.0.1", self.port)

    @property
    def hosts(self):
        return f"127.0.0.1:{self.port}"

    def command(self):
        if self.kind in JARS:
            options = []
            if self.sasl:
                options.append(f"-Djava.security.auth.login.config={self.jaas_path}")
            options += [f"-Dznode.container.checkIntervalMs={self.reaper_ms}",
                        "-Dorg.slf4j.simpleLogger.showDateTime=true"]
            return ["java", *JAVA_OPTIONS, *options, "-cp",
                    classpath(JARS[self.kind]),
                    "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self.config_path)]
        if self.kind.startswith("quorate:"):
            return [self.kind.split(":", 1)[1], "server", "--config", str(self.config_path)]
        raise LaunchFailed(f"unknown kind of server: {self.kind}")

    def environment(self):
        env = dict(os.environ)
        if self.sasl and self.kind not in JARS:
            # Where zkServer.sh users put it; our server reads JVM options from there.
            env["SERVER_JVMFLAGS"] = f"-Djava.security.auth.login.config={self.jaas_path}"
        return env

    def start(self, wait=30.0):
        self.spawn()
        return self.wait_until_serves(wait)

    def spawn(self):
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen(
                self.command(), stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                env=self.environment(), cwd=self.home)

    def wait_until_serves(self, wait=30.0):
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise LaunchFailed(
                    f"{self.kind} ended with {self.process.returncode}:\n{self.log_tail()}")
            if self.serves():
                return self
            time.sleep(0.02)
        raise LaunchFailed(f"{self.kind} does not serve after {wait} s:\n{self.log_tail()}")

    def serves(self):
        return b"Mode: " in self.word("srvr")

    def word(self, word):
        """The answer to a four-letter word; nothing if none comes within a second."""
        try:
            return wire.four_letter_word(self.address, word, timeout=1.0)
        except OSError:
            return b""

    def log_tail(self, lines=30):
        try:
            text = self.log_path.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])

    def kill(self):
        """SIGKILL: the server gets no chance to tidy up."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def stop(self):
        """SIGTERM, and SIGKILL after ten seconds."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def restart(self):
        self.kill()
        return self.start()

    def discard(self):
        self.kill()
        if os.environ.get("QUORATE_INTEROP_KEEP"):
            print(f"kept: {self.home}", file=sys.stderr)
            return
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.discard()


class Ensemble:
    """Several servers that elect a leader, each as `Server` makes it."""

    def __init__(self, kind, size=3, extra=None, **settings):
        lines = {f"server.{number}": f"127.0.0.1:{free_port()}:{free_port()}"
                 for number in range(1, size + 1)}
        extra = {"initLimit": 10, "syncLimit": 5, **lines, **(extra or {})}
        self.kind = kind
        self.servers = [Server(kind, extra=extra, **settings) for _ in range(size)]
        for number, server in enumerate(self.servers, 1):
            (server.data_dir / "myid").write_text(f"{number}\n")

    @property
    def hosts(self):
        return ",".join(server.hosts for server in self.servers)

    def start(self, wait=60.0):
        for server in self.servers:
            server.spawn()
        for server in self.servers:
            server.wait_until_serves(wait)
        return self

    def leader(self, wait=30.0):
        """The server that says that it leads."""
        deadline = time.monotonic() + wait
        while time.monotonic() < deadline:
            for server in self.servers:
                if server.process and b"Mode: leader" in server.word("srvr"):
                    return server
            time.sleep(0.02)
        raise LaunchFailed(f"no leader after {wait} s:\n{self.servers[0].log_tail()}")

    def discard(self):
        for server in self.servers:
            server.discard()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.discard()


class External:
    """A server that somebody else started: only its address is known."""

    def __init__(self, hosts):
        host, port = hosts.rsplit(":", 1)
        self.kind, self.address, self.hosts = "external", (host, int(port)), hosts

    def discard(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass


def launch(kind, **settings):
    return Server(kind, **settings).start()


def add_server_options(parser):
    """The two ways to name the server under test."""
    group = parser.add_mutually_exclusive_group(required=True)
    group.add_argument("--kind", help="launch it: `zookeeper` or `quorate:<path of the binary>`")
    group.add_argument("--server", help="host:port of one that runs already")


def server_from(arguments, **settings):
    if arguments.server:
        return External(arguments.server)
    return launch(arguments.kind, **settings)


class Checks:
    """Counts facts and prints one line for each."""

    def __init__(self, area):
        self.area, self.passed, self.failed = area, 0, []

    def run(self, name, action):
        try:
            action()
        except Exception as error:  # noqa: BLE001 - every failure of a check is a result
            self.failed.append(name)
            text = " ".join(str(error).split()) or type(error).__name__
            print(f"FAIL {self.area}: {name}: {text[:600]}", flush=True)
            if os.environ.get("QUORATE_INTEROP_TRACE"):
                import traceback
                traceback.print_exc()
            return False
        self.passed += 1
        print(f"ok   {self.area}: {name}", flush=True)
        return True

    def finish(self):
        print(f"{self.passed} passed, {len(self.failed)} failed", flush=True)
        return 1 if self.failed else 0
