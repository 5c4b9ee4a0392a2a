"""One server, and processes in three languages that do with their recipes what they are told.

Each process has one session. What it holds carries the name by which it was asked to take it, in
the data of its znode, so that the znodes say who holds. The lines are in rust/src/main.rs.
"""

import concurrent.futures
import itertools
import json
import os
import subprocess
import sys
import threading
import time

from kazoo.client import KazooClient
from kazoo.exceptions import NoNodeError

import harness

PATIENCE_S = 20
# Long enough for whoever wrongly does not wait to say so.
GRACE_S = 0.03
# A session of those that are killed, and of all others.
VICTIM_MS, SESSION_MS = 2_000, 30_000

LANGUAGES = {"rust": "Rust", "java": "Java", "python": "Python"}
PEER_SOURCE = harness.HERE / "java" / "peer" / "src" / "RecipesPeer.java"


class Wrong(AssertionError):
    """What was seen is not what must be."""


def must(condition, text):
    if not condition:
        raise Wrong(text)


def same(actual, expected, what):
    must(actual == expected, f"{what}: expected {expected!r}, got {actual!r}")


def until(condition, what, patience=PATIENCE_S):
    """Asks again and again; what it answers in the end."""
    deadline = time.monotonic() + patience
    while True:
        answer = condition()
        if answer:
            return answer
        must(time.monotonic() < deadline, f"not within {patience} s: {what}")
        time.sleep(0.003)


def rust_program():
    binary = os.environ.get("QUORATE_INTEROP_PEER")
    if binary:
        return [binary]
    result = subprocess.run(
        ["cargo", "build", "--quiet", "-p", "quorate-interop-peer", "--message-format=json"],
        cwd=harness.ROOT, stdout=subprocess.PIPE, text=True, check=True)
    for line in result.stdout.splitlines():
        message = json.loads(line)
        if message.get("executable") and message["target"]["name"] == "quorate-interop-peer":
            return [message["executable"]]
    raise SystemExit("cargo names no program")


def java_program():
    classes = harness.cache() / "peer-classes"
    built = classes / f"{PEER_SOURCE.stem}.class"
    if not built.exists() or built.stat().st_mtime < PEER_SOURCE.stat().st_mtime:
        classes.mkdir(exist_ok=True)
        subprocess.run(["javac", "-nowarn", "-cp", harness.classpath("curator"), "-d",
                        str(classes), str(PEER_SOURCE)], check=True)
    return ["java", *harness.JAVA_OPTIONS, "-Dorg.slf4j.simpleLogger.defaultLogLevel=off", "-cp",
            f"{classes}:{harness.classpath('curator')}", "RecipesPeer"]


def programs(fault=None):
    """How the processes are started, by language."""
    python = [sys.executable, str(harness.HERE / "recipes_peer.py")]
    return {"rust": (rust_program(), []), "java": (java_program(), []),
            "python": (python, [fault] if fault else [])}


class Peer:
    """One process."""

    def __init__(self, language, program, hosts, session_ms):
        self.language = language
        command, more = program
        self.process = subprocess.Popen(
            [*command, hosts, str(session_ms), *more], text=True, bufsize=1,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.numbers = itertools.count(1)
        self.ready = concurrent.futures.Future()
        self.open = {0: self.ready}
        self.lock = threading.Lock()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            number, outcome, *rest = line.rstrip("\n").split(" ", 2)
            text = rest[0] if rest else ""
            with self.lock:
                answer = self.open.pop(int(number))
            if outcome == "ok":
                answer.set_result(text)
            else:
                answer.set_exception(Wrong(f"{LANGUAGES[self.language]} says: {text}"))
        with self.lock:
            unanswered, self.open = list(self.open.values()), {}
        for answer in unanswered:
            answer.set_exception(Wrong(f"the {LANGUAGES[self.language]} process has ended"))

    def send(self, *words):
        """Asks; the answer comes in a future."""
        answer = concurrent.futures.Future()
        number = next(self.numbers)
        with self.lock:
            self.open[number] = answer
            self.process.stdin.write(" ".join([str(number), *map(str, words)]) + "\n")
        return answer

    def ask(self, *words):
        return self.send(*words).result(PATIENCE_S)

    def kill(self):
        """SIGKILL: nothing is tidied up, and the session ends when its time is over."""
        self.process.kill()
        self.process.wait()


class Held:
    """What one process holds, or is about to."""

    def __init__(self, peer, name, kind, layout, path, rest):
        self.peer, self.name = peer, name
        self.answer = peer.send("take", name, kind, layout, path, *rest)

    def wait(self, patience=PATIENCE_S):
        try:
            self.answer.result(patience)
        except concurrent.futures.TimeoutError:
            raise Wrong(f"{self.name} waits in vain") from None
        return self

    def waits(self):
        return not self.answer.done()

    def give(self):
        self.peer.ask("give", self.name)

    def items(self):
        text = self.peer.ask("items", self.name)
        return text.split(",") if text else []


class Arena:
    """A server, one process of each language, and a client that looks at the znodes."""

    def __init__(self, name, server, how):
        self.name, self.server, self.how = name, server, how
        self.names = itertools.count(1)
        self.peers = {language: self.start(language) for language in how}
        self.zk = KazooClient(hosts=server.hosts, timeout=30)
        self.zk.start(timeout=PATIENCE_S)
        for peer in self.peers.values():
            peer.ready.result(PATIENCE_S)

    def start(self, language, session_ms=SESSION_MS):
        return Peer(language, self.how[language], self.server.hosts, session_ms)

    def take(self, peer, kind, layout, path, *rest):
        """`peer` is a language or a process."""
        peer = self.peers[peer] if isinstance(peer, str) else peer
        # Without a hyphen: kazoo's ShallowParty cuts a name at the first.
        name = f"{peer.language}{next(self.names)}"
        return Held(peer, name, kind, layout, path, rest)

    def ask(self, language, *words):
        return self.peers[language].ask("ask", *words)

    def keep(self, languages, *paths):
        """Makes directories that stay. kazoo does not make one anew that vanishes before it enters,
        and those that the others make are containers: they vanish when they are empty."""
        if "python" in languages:
            for path in paths:
                self.zk.ensure_path(path)

    def children(self, path):
        try:
            return self.zk.get_children(path)
        except NoNodeError:
            return []

    def contenders(self, path):
        """The names in the order of their numbers."""
        return sorted(self.children(path), key=lambda name: name[-10:])

    def head(self, path):
        """Who stands first, and its czxid: the fencing token of what it holds."""
        for name in self.contenders(path):
            try:
                data, stat = self.zk.get(f"{path}/{name}")
                return data.decode(), stat.czxid
            except NoNodeError:
                continue
        return None, 0

    def is_empty_soon(self, path):
        until(lambda: not self.children(path), f"nobody is left in {path}")

    def close(self):
        for peer in self.peers.values():
            peer.kill()
        self.zk.stop()
        self.zk.close()


class Guarded:
    """What a lock protects: notes who is inside, and refuses a token that is not newer."""

    def __init__(self, limit=1):
        self.limit = limit
        self.lock = threading.Lock()
        self.inside, self.token = set(), 0

    def enter(self, name, token=None):
        with self.lock:
            self.inside.add(name)
            must(len(self.inside) <= self.limit,
                 f"{' and '.join(sorted(self.inside))} hold at one time")
            if token is not None:
                must(token > self.token, f"{name} has the token {token:#x}, after {self.token:#x}")
                self.token = token

    def leave(self, name):
        with self.lock:
            self.inside.discard(name)


def in_parallel(*actions):
    """Runs them side by side; the first failure is raised."""
    with concurrent.futures.ThreadPoolExecutor(len(actions)) as threads:
        for done in [threads.submit(action) for action in actions]:
            done.result()
