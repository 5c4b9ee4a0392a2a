"""The servers that are measured: real ZooKeeper, Quorate, and the null server.

All of them run on a free loopback port with their data under one directory, so on one file
system, and with fsync on. ZooKeeper and Quorate read the same zoo.cfg.
"""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
TICK = os.sysconf("SC_CLK_TCK")


class LaunchFailed(Exception):
    pass


@contextlib.contextmanager
def awake():
    """Keeps every core out of its sleep, as `idle=poll` at boot does.

    Where one request waits for the one before, both ends sleep in turn, and on a virtual machine
    the time that a sleeping core takes to wake is most of what is measured. One process for each
    core spins, at a priority that gives way at once to whatever else wants to run.
    """
    spin = "import os\nos.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))\nwhile True: pass"
    spinners = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(os.cpu_count() or 1)]
    try:
        yield
    finally:
        for spinner in spinners:
            spinner.kill()
            spinner.wait()


def awake_option(parser):
    parser.add_argument("--awake", action="store_const", const=awake, default=contextlib.nullcontext,
                        help="keep the cores from sleeping, so that their waking is not measured")


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def serves(port, path="/", timeout=1.0):
    """Whether a session opens and `exists(path)` is answered without error."""
    def frame(sock):
        need, data = 4, b""
        while len(data) < need:
            more = sock.recv(need - len(data))
            if not more:
                raise OSError("closed")
            data += more
            if need == 4 and len(data) == 4:
                need += struct.unpack(">i", data)[0]
        return data[4:]

    def send(sock, payload):
        sock.sendall(struct.pack(">i", len(payload)) + payload)

    try:
        with socket.create_connection(("127.0.0.1", port), timeout=timeout) as sock:
            send(sock, struct.pack(">iqiqi16s?", 0, 0, 10_000, 0, 16, bytes(16), False))
            if struct.unpack(">i", frame(sock)[4:8])[0] <= 0:
                return False
            name = path.encode()
            send(sock, struct.pack(">iii", 1, 3, len(name)) + name + b"\0")
            error = struct.unpack(">i", frame(sock)[12:16])[0]
            send(sock, struct.pack(">ii", 2, -11))
            frame(sock)
            return error == 0
    except OSError:
        return False


class Server:
    """One process. Its directory outlives `kill`, so that `start` is a restart."""

    name = "?"
    # What a started server has to have before it counts as serving.
    probe = "/"

    def __init__(self, data):
        self.home = Path(data) / self.name
        shutil.rmtree(self.home, ignore_errors=True)
        (self.home / "data").mkdir(parents=True)
        self.port = free_port()
        self.process = None
        self.settings = {}

    @property
    def pid(self):
        return self.process.pid

    @property
    def address(self):
        return f"127.0.0.1:{self.port}"

    def config(self):
        settings = {
            "tickTime": 2000,
            "dataDir": self.home / "data",
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "maxClientCnxns": 0,
            "admin.enableServer": "false",
            "4lw.commands.whitelist": "*",
            **self.settings,
        }
        path = self.home / "zoo.cfg"
        path.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        return path

    def command(self):
        raise NotImplementedError

    def start(self, wait=120.0, probe=None):
        """Starts it; how many seconds passed until it answered."""
        probe = probe or self.probe
        with open(self.home / "server.log", "ab") as log:
            began = time.monotonic()
            self.process = subprocess.Popen(self.command(), stdout=log, stderr=log,
                                            stdin=subprocess.DEVNULL, cwd=self.home)
        while time.monotonic() < began + wait:
            if self.process.poll() is not None:
                raise LaunchFailed(f"{self.name} ended with {self.process.returncode}:\n"
                                   f"{self.log_tail()}")
            if serves(self.port, probe):
                return time.monotonic() - began
            time.sleep(0.005)
        raise LaunchFailed(f"{self.name} does not serve after {wait} s:\n{self.log_tail()}")

    def log_tail(self):
        text = (self.home / "server.log").read_text(errors="replace")
        return "\n".join(text.splitlines()[-20:])

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        self.process = None

    def discard(self):
        self.kill()
        shutil.rmtree(self.home, ignore_errors=True)

    def cpu_seconds(self):
        fields = Path(f"/proc/{self.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICK

    def resident_kib(self):
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status)[1])

    def collect_garbage(self):
        """Servers without a collector have nothing to do."""

    def snapshots(self):
        """How many snapshot files there are. Old ones stay: nothing purges them here."""
        return len([path for path in (self.home / "data").rglob("*")
                    if "snap" in path.name and path.is_file()])


class ZooKeeper(Server):
    """Apache ZooKeeper 3.9.5, as zkServer.sh starts it."""

    def __init__(self, name, data, jars, heap="1000m"):
        self.name, self.jars, self.heap = name, jars, heap
        super().__init__(data)

    def command(self):
        return ["java", f"-Xmx{self.heap}", "-cp", f"{self.jars}/*",
                "org.apache.zookeeper.server.quorum.QuorumPeerMain", str(self.config())]

    def collect_garbage(self):
        """What lies around is not what znodes weigh."""
        if shutil.which("jcmd"):
            subprocess.run(["jcmd", str(self.pid), "GC.run"], stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, check=False)
            time.sleep(0.5)


class Quorate(Server):
    def __init__(self, name, data, binary):
        self.name, self.binary = name, binary
        super().__init__(data)

    def command(self):
        return [str(self.binary), "server", "--config", str(self.config())]


class Null(Server):
    """The machine's limit, with or without a disk."""

    def __init__(self, name, data, binary, fsync):
        self.name, self.binary, self.fsync = name, binary, fsync
        super().__init__(data)

    def command(self):
        disk = ["--fsync", str(self.home / "data")] if self.fsync else []
        return [str(self.binary), "bench", "null-server", "--listen", self.address, *disk]


def jars():
    """Where tests/interop/setup.sh has put ZooKeeper."""
    cache = os.environ.get("QUORATE_INTEROP_CACHE") or ROOT / "target" / "interop"
    lib = Path(cache).resolve() / "lib"
    if not list(lib.glob("zookeeper-3*.jar")):
        raise LaunchFailed(f"no ZooKeeper in {lib}: run tests/interop/setup.sh first")
    return lib


def settle(servers, patience=15.0):
    """Waits until none of them works any more: compaction, snapshots, a JIT at its work."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        before = sum(server.cpu_seconds() for server in servers)
        time.sleep(0.25)
        if sum(server.cpu_seconds() for server in servers) - before <= 0.03:
            return
