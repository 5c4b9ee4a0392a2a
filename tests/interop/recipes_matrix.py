#!/usr/bin/env python3
"""Recipes of three languages on one path: quorate-recipes, Apache Curator and kazoo.

    recipes_matrix.py --kind quorate:target/release/quorate            # checks the table, too
    recipes_matrix.py --kind quorate:target/release/quorate --write    # writes docs/recipes/interop.md
    recipes_matrix.py --kind quorate:target/release/quorate --rounds 50
    recipes_matrix.py --faults                                         # plants faults: all are found

Each cell is a recipe, a layout and the languages that meet in it, on the server that is named and on
a real ZooKeeper beside it. recipes_rows.py says what is checked, recipes_arena.py runs the
processes. QUORATE_MATRIX_ONLY=text runs the rows with that text in their names.
"""

import argparse
import concurrent.futures
import contextlib
import dataclasses
import os
import sys
import traceback

import harness
import recipes_rows as rows
from recipes_arena import VICTIM_MS, Arena, Wrong, programs, same

TABLE = harness.ROOT / "docs" / "recipes" / "interop.md"
COLUMNS = {"Rust–Java": ["rust", "java"], "Rust–Python": ["rust", "python"],
           "three": ["rust", "java", "python"]}
NO_KAZOO, NO_CURATOR = "kazoo has no such recipe", "Curator has no such recipe"
ROUNDS = 3
# Rows that run side by side: most of them wait most of the time.
AT_ONCE = 4


@dataclasses.dataclass(eq=False)
class Row:
    recipe: str
    znodes: str
    check: object
    arguments: tuple
    checked: str
    # By column, why there is none.
    missing: dict = dataclasses.field(default_factory=dict)
    # What a process that is killed holds, and others wait for.
    kind: str = None
    layout: str = "curator"

    def languages(self, column):
        return None if column in self.missing else COLUMNS[column]


def only_curator(reason=NO_KAZOO):
    return {"Rust–Python": reason, "three": reason}


def only_kazoo(reason=NO_CURATOR):
    return {"Rust–Java": reason, "three": reason}


EXCLUSION = "one holds at a time, in the order of arrival, each with a larger `czxid`"
SUCCESSION = "the next in line follows one that was killed"
QUEUE = "the order of all puts; each item once"
SUM = "no count lost by concurrent writers; the bytes"

ROWS = [
    Row("lock", "`_c_<uuid>-lock-N`; Python: subclass `-lock-`", rows.exclusion,
        ("mutex", "curator"), f"{EXCLUSION}; {SUCCESSION}", kind="mutex"),
    Row("lock, kazoo's layout", "`<hex>__lock__N`", rows.exclusion, ("mutex", "kazoo"),
        f"{EXCLUSION}; {SUCCESSION}", only_kazoo("Curator does not see these names"),
        kind="mutex", layout="kazoo"),
    Row("read-write lock", "`…-__READ__N`, `…-__WRIT__N`; Python: subclasses",
        rows.readers_and_writers, ("curator",),
        f"readers share, writers do not, a waiting writer stops later readers; {SUCCESSION}",
        kind="write"),
    Row("read-write lock, kazoo's layout", "`<hex>__rlock__N`, `<hex>__lock__N`",
        rows.readers_and_writers, ("kazoo",), "the same",
        only_kazoo("Curator does not see these names"), kind="write", layout="kazoo"),
    Row("downgraded write lock", "`…-__READ__N` with the writer's number", rows.downgrade,
        ("curator",), "readers come in, no writer does, whoever of Rust and Java holds it"),
    Row("semaphore", "`leases/…-lease-N`, `locks/…-lock-N`; Python: subclass", rows.permits,
        ("semaphore", "curator"), f"never more than two, in the order of arrival; {SUCCESSION}",
        kind="semaphore"),
    Row("semaphore of a shared maximum", "the same; 4 bytes", rows.grown_maximum, ("curator",),
        "the same; a raised maximum lets in who waits", only_curator()),
    Row("semaphore mutex", "the same", rows.permits, ("semaphore-mutex", "curator"),
        "one at a time"),
    Row("semaphore, kazoo's layout", "`<hex>`, `P-__lock__/`", rows.permits,
        ("semaphore", "kazoo"), f"never more than two, in the order of arrival; {SUCCESSION}",
        only_kazoo("Curator's has other directories"), kind="semaphore", layout="kazoo"),
    Row("several locks as one", "as the lock; Python: one after the other", rows.multi_order,
        ("curator",), "one holds both at a time; opposite orders do not block each other"),
    Row("revocable lock", "`__REVOKE__` in the holder's znode", rows.revocation, ("curator",),
        "a holder lets go when another language asks", only_curator()),
    Row("leader latch", "`_c_<uuid>-latch-N`; Python: subclass `-latch-`", rows.exclusion,
        ("latch", "curator"), f"one leads at a time, all name the same leader; {SUCCESSION}",
        kind="latch"),
    Row("leader selector", "`_c_<uuid>-lock-N`; Python: subclass `-lock-`", rows.exclusion,
        ("selector", "curator"), "the same", kind="selector"),
    Row("election, kazoo's layout", "`<hex>__lock__N`", rows.exclusion, ("latch", "kazoo"),
        "the same", only_kazoo("Curator does not see these names"), kind="latch",
        layout="kazoo"),
    Row("barrier", "`P`", rows.gate, ("curator",), "what one closes, another opens for all"),
    Row("double barrier", "`<uuid>` or `<hex>`, `ready`", rows.meeting, ("curator",),
        "all go in together, all come out together"),
    Row("shared count", "`P`, 4 bytes", rows.followed, ("curator", True),
        f"all hear of what one sets; {SUM}"),
    Row("shared value", "`P`, raw; Python: `DataWatch`", rows.followed, ("curator", False),
        "all hear of what one sets"),
    Row("atomic integer", "`P`, 4 bytes; Python: `support_curator`", rows.counting,
        ("counter", "int", rows.four_bytes), SUM),
    Row("atomic long", "`P`, 8 bytes", rows.counting, ("counter", "long", rows.eight_bytes), SUM,
        only_curator("kazoo's `Counter` has no such bytes")),
    Row("atomic value", "`P`, raw; Python: `get` and `set`", rows.written, ("atomic",),
        "what one writes the others read"),
    Row("blocks of numbers", "`P`, 8 bytes", rows.blocks, ("curator",), "no number twice",
        only_curator()),
    Row("counter, kazoo's layout", "`P`, digits", rows.counting,
        ("counter", "ascii", rows.digits), SUM, only_kazoo("Curator's counters are binary")),
    Row("queue", "`queue-N`, framed; `lockPath/queue-N`", rows.each_once, ("curator", "fifo"),
        QUEUE, only_curator()),
    Row("queue, at most once", "`queue-N`, framed", rows.each_once, ("once", "fifo"), QUEUE,
        only_curator()),
    Row("queue of priorities", "`queue-{0,1}XXXXXXXXN`, framed", rows.each_once,
        ("curator", "priority"), QUEUE, only_curator("kazoo's have other names")),
    Row("queue of delays", "`queue-\\|HEXMS\\|N`, framed", rows.each_once, ("curator", "delay"),
        QUEUE, only_curator()),
    Row("queue of ids", "`queue-\\|id\\|N`, framed", rows.each_once, ("curator", "id"),
        f"{QUEUE}; one removes another's by its id", only_curator()),
    Row("simple queue", "`qn-N`, raw", rows.each_once, ("simple", "fifo"), QUEUE,
        only_curator()),
    Row("sharded queue", "`queue-<uuid>/queue-N`", rows.shards, ("sharded",),
        "all put into the shards that one made", only_curator()),
    Row("queue, kazoo's layout", "`entry-PPP-N`, raw", rows.each_once, ("kazoo", "priority"),
        QUEUE, only_kazoo()),
    Row("locking queue, kazoo's layout", "`entries/entry-PPP-N`, `taken/…`", rows.each_once,
        ("locking", "priority"), QUEUE, only_kazoo()),
    Row("kept znode", "`P`", rows.kept, ("curator",),
        f"it comes back, and goes with its keeper; {SUCCESSION}", only_curator(), kind="node"),
    Row("kept TTL znode", "`P`, `P/touch`", rows.ttl, ("curator",),
        "one keeps what the other made; without either it goes", only_curator()),
    Row("group", "`<id>`", rows.group, ("curator",), "each lists all, and sees them go",
        {"Rust–Python": "kazoo's have other names", "three": "kazoo's have other names"}),
    Row("party, kazoo's layout", "`<hex>__party__`", rows.group, ("party",), "the same",
        {"Rust–Java": "three languages meet with `ShallowParty`",
         "three": "a `Party` does not list Curator's members"}),
    Row("shallow party, kazoo's layout", "`<hex>-<id>`; Java: `<id>`", rows.group, ("shallow",),
        "the same; Java lists the znodes' names", {"Rust–Java": "with Python, see three"}),
    Row("partitioner, kazoo's layout", "`party/<hex>-<id>`, `locks/<item>/…`", rows.partition,
        ("kazoo",), "each item has one owner; who leaves hands over", only_kazoo()),
    Row("lease, kazoo's layout", "`lease_holder`, JSON", rows.lease, ("kazoo",),
        "one has it, renews it, and loses it when its time is over", only_kazoo()),
    Row("several leases, kazoo's layout", "`0`, `1`, …", rows.leases, ("kazoo",),
        "so many have one, and no more", only_kazoo()),
]

# Stock kazoo and Curator exclude nobody on one path; here whoever meets them there is told.
STRANGERS = [
    Row("stock kazoo `Lock` beside a lock", "`<hex>__lock__N` beside `_c_<uuid>-lock-N`",
        rows.foreign, ("mutex", "curator", "mutex", "kazoo", "-"), "",
        {"Rust–Java": "–", "three": "–"}),
    Row("stock kazoo `ReadLock` beside a write lock", "`<hex>__rlock__N` beside `…-__WRIT__N`",
        rows.foreign, ("write", "curator", "read", "kazoo", "rw"), "",
        {"Rust–Java": "–", "three": "–"}),
    Row("Curator's lock beside a lock of kazoo's layout", "`_c_<uuid>-lock-N` beside "
        "`<hex>__lock__N`", rows.foreign, ("mutex", "kazoo", "mutex", "curator", "-"), "",
        {"Rust–Python": "–", "three": "–"}),
    Row("Curator's lock beside a leader latch", "`_c_<uuid>-lock-N` beside `_c_<uuid>-latch-N`",
        rows.foreign, ("latch", "curator", "mutex", "curator", "latch"), "",
        {"Rust–Python": "–", "three": "–"}),
]

FAULTS = {
    "prefix": ["lock"],
    "impatient": ["lock", "read-write lock", "semaphore"],
    "nameless": ["leader latch"],
    "digits": ["atomic integer"],
    "twice": ["locking queue, kazoo's layout"],
}


def path_of(row, column):
    plain = "".join(letter if letter.isalnum() else "-" for letter in row.recipe)
    return f"/matrix/{plain}-{column[:8].replace('–', '-')}"


class Matrix:
    """The results of one server, by row and column: why it failed, or None."""

    def __init__(self, name, checks, rounds):
        self.name, self.checks, self.rounds = name, checks, rounds
        self.results = {}

    def run(self, arena, wanted):
        arena.zk.ensure_path("/matrix")
        cells = [(row, column) for row in wanted for column in COLUMNS if row.languages(column)]
        with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as threads:
            for (row, column), why in zip(cells, threads.map(
                    lambda cell: self.cell(arena, *cell), cells)):
                self.note(row, column, why)
        for (row, column), why in self.succession(arena, [
                cell for cell in cells if cell[0].kind]).items():
            self.note(row, column, why)
        for row, column in cells:
            why = self.results[row.recipe, column]

            def action(why=why):
                if why:
                    raise Wrong(why)
            self.checks.run(f"{self.name}: {row.recipe}: {column}", action)

    def note(self, row, column, why):
        self.results[row.recipe, column] = self.results.get((row.recipe, column)) or why

    def cell(self, arena, row, column):
        languages = row.languages(column)
        try:
            if row.check is rows.foreign:
                row.check(arena, path_of(row, column), languages, *row.arguments)
            else:
                row.check(arena, path_of(row, column), languages, self.rounds, *row.arguments)
        except Exception as error:  # noqa: BLE001 - every failure is a result
            if os.environ.get("QUORATE_INTEROP_TRACE"):
                traceback.print_exc()
            return f"{type(error).__name__}: {error}"
        return None

    def succession(self, arena, cells):
        """One process of each language holds what others wait for, and is killed."""
        results = dict.fromkeys(cells)
        used = {language for _, column in cells for language in COLUMNS[column]}
        victims = {language: arena.start(language, VICTIM_MS) for language in used}
        lines = []
        for victim in victims.values():
            victim.ready.result(20)
        for row, column in cells:
            for language in row.languages(column):
                rest = ("1",) if row.kind == "semaphore" else ()
                path = f"{path_of(row, column)}-killed-{language}"
                arena.keep(row.languages(column), *directories(row, path))
                line = []
                try:
                    held = arena.take(victims[language], row.kind, row.layout, path, *rest).wait()
                    for other in row.languages(column):
                        if other == language:
                            continue
                        line.append(arena.take(other, row.kind, row.layout, path, *rest))
                        rows.until(lambda: row.kind == "node" or at_the_gate(
                            arena, row, path) == len(line) + 1, "each has its znode")
                    lines.append((row, column, path, held, line))
                except Wrong as error:
                    results[row, column] = f"before {language} is killed: {error}"
        for row, column, _, held, line in lines:
            if row.kind != "node" and not all(one.waits() for one in line):
                results[row, column] = f"{held.name} holds, and so does one behind it"
        for victim in victims.values():
            victim.kill()
        for row, column, path, held, line in lines:
            try:
                if row.kind == "node":
                    rows.until(lambda: is_kept_by_another(arena, path, held), "it comes back")
                else:
                    for one in line:
                        one.wait()
                        must_wait = line[line.index(one) + 1:]
                        same([other.name for other in must_wait if not other.waits()], [],
                             f"who holds beside {one.name}")
                        one.give()
            except Wrong as error:
                results[row, column] = f"after {held.peer.language} was killed: {error}"
        return results


def directories(row, path):
    if row.kind == "node":
        return []
    if row.kind != "semaphore":
        return [path]
    return [f"{path}-__lock__"] if row.layout == "kazoo" else [f"{path}/leases", f"{path}/locks"]


def at_the_gate(arena, row, path):
    """How many hold or wait."""
    if row.kind != "semaphore":
        return len(arena.children(path))
    if row.layout == "kazoo":
        return len(arena.children(path)) + len(arena.children(f"{path}-__lock__"))
    # Whoever waits in the gate has made its lease already, or will when there is room.
    holders = min(1, len(arena.children(f"{path}/leases")))
    return holders + len(arena.children(f"{path}/locks"))


def is_kept_by_another(arena, path, held):
    with contextlib.suppress(Exception):
        data, stat = arena.zk.get(path)
        return stat.ephemeralOwner not in (0, None) and data.decode() != held.name
    return False


NAMES = {"zookeeper": "ZooKeeper 3.9.5"}


def wanted_rows():
    text = os.environ.get("QUORATE_MATRIX_ONLY")
    every = ROWS + STRANGERS
    return [row for row in every if not text or text in row.recipe]


def run(kind, checks, rounds, fault=None, wanted=None):
    name = NAMES.get(kind, "Quorate")
    matrix = Matrix(name, checks, rounds)
    with harness.launch(kind, tick_time=500, reaper_ms=200, max_session_timeout=60_000,
                        force_sync=False) as server:
        arena = Arena(name, server, programs(fault))
        try:
            matrix.run(arena, wanted_rows() if wanted is None else wanted)
        finally:
            arena.close()
    return matrix.results


# -- the table --

HEAD = """# Three languages on one path

Generated by `tests/interop/recipes_matrix.py --write`; the interop run fails when it is not what the
run gives. `quorate-recipes`, Apache Curator 5.9.0 and kazoo 2.11.0 work on one path, each in a
process of its own with one session: first on Quorate, then on Apache ZooKeeper 3.9.5. A cell says
**yes** for each of the two servers where all that is checked held, and why there is nothing to run
where it is empty. Every language holds before and behind every other one, and all contend at once.

Where *Python: subclass* is said, stock kazoo does not take part: its names mean nothing to Curator
and Curator's nothing to it, so they exclude each other nowhere. The subclasses are in
`tests/interop/recipes_peer.py`; they differ from kazoo's own in the names of their znodes. Each is
needed on every Python process that shares the path.

"""

STRANGERS_HEAD = """
## Who does not belong

Locks of other names on one path exclude nobody: both hold at the same time. Nothing here can change
that, but `contenders()` and `participants()` name the stranger under `foreign`, and nobody touches
its znode. **reported** says that both held and that Rust named exactly the other's znode.

| who | znodes | Quorate | ZooKeeper |
| --- | --- | --- | --- |
"""

TAIL = """
## Limits

- ZooKeeper's own `WriteLock` and `LeaderElectionSupport`, Curator's `InterProcessSemaphore` (legacy)
  and its service discovery have no counterpart in `quorate-recipes`.
- Connections are cut here by killing the process that holds, and in no other way; silence, restarts
  and lost answers are injected in `recipes/tests/faults.rs`, without foreign processes.
- Where Python takes part the directories are made before, and stay. kazoo enters a directory and
  fails if it vanishes at that moment; those that Curator and Rust make are containers, which the
  server takes away when they are empty.
- Exclusion is judged by one process that all holders talk to, and by the `czxid` of the first znode.
"""


def table(results):
    """`results`: of both servers, in their order."""
    lines = ["| recipe | znodes | Rust–Java | Rust–Python | all three | what is checked |",
             "| --- | --- | --- | --- | --- | --- |"]
    for row in ROWS:
        cells = []
        for column in COLUMNS:
            if column in row.missing:
                cells.append(f"– {row.missing[column]}")
            else:
                cells.append(", ".join(verdict(of, row, column, "yes") for of in results))
        lines.append(f"| {row.recipe} | {row.znodes} | {' | '.join(cells)} | {row.checked} |")
    text = HEAD + "\n".join(lines) + "\n" + STRANGERS_HEAD
    for row in STRANGERS:
        column, = [column for column in COLUMNS if column not in row.missing]
        cells = " | ".join(verdict(of, row, column, "reported") for of in results)
        text += f"| {row.recipe} | {row.znodes} | {cells} |\n"
    return text + TAIL


def verdict(results, row, column, good):
    why = results.get((row.recipe, column), "not run")
    return good if why is None else "**no**"


def plant(checks):
    """Every fault turns its rows red, and only a fault does."""
    for fault, expected in FAULTS.items():
        wanted = [row for row in ROWS if row.recipe in expected]
        quiet = harness.Checks("planted")
        quiet.run = lambda name, action: None
        results = run("zookeeper", quiet, 2, fault, wanted)
        for row in wanted:
            columns = [column for column in ("Rust–Python", "three") if row.languages(column)]

            def found(row=row, columns=columns):
                for column in columns:
                    if not results[row.recipe, column]:
                        raise Wrong(f"{column} does not show it")
            checks.run(f"planted {fault}: {row.recipe} turns red", found)


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kind", help="`zookeeper` or `quorate:<path>`")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--write", action="store_true", help="write the table")
    parser.add_argument("--faults", action="store_true", help="plant faults instead")
    arguments = parser.parse_args()
    checks = harness.Checks("recipes")
    if arguments.faults:
        plant(checks)
        return checks.finish()
    if not arguments.kind:
        parser.error("--kind is needed")
    kinds = list(dict.fromkeys([arguments.kind, "zookeeper"]))
    results = [run(kind, checks, arguments.rounds) for kind in kinds]
    is_whole = len(kinds) == 2 and not os.environ.get("QUORATE_MATRIX_ONLY")
    if arguments.write:
        if not is_whole:
            parser.error("a table needs all rows on two servers")
        TABLE.write_text(table(results))
    elif is_whole:
        checks.run("docs/recipes/interop.md is what this run gives",
                   lambda: same(TABLE.read_text(), table(results), "the table"))
    return checks.finish()


if __name__ == "__main__":
    sys.exit(main())
