"""What is checked of each recipe: one function for each kind, called with the languages that meet.

A function gets the arena, a path of its own and the languages; it raises Wrong, or returns.
"""

import itertools
import time

from recipes_arena import GRACE_S, Guarded, in_parallel, must, same, until


def everyone_behind_everyone(languages):
    """An order of contenders in which each language comes right behind each other one."""
    if len(languages) == 2:
        a, b = languages
        return [a, b, a, a]
    a, b, c = languages
    return [a, b, c, a, c, b, a]


def exclusion(arena, path, languages, rounds, kind, layout):
    """One holds at a time; the next in line is the next to hold; all see the same leader."""
    rest = (f"{path}-b",) if kind == "multi" else ()
    arena.keep(languages, path, *rest)
    guarded = Guarded()
    line = []
    for language in everyone_behind_everyone(languages):
        line.append(arena.take(language, kind, layout, path, *rest))
        until(lambda: len(arena.children(path)) == len(line), "each has its znode")
    for at, holder in enumerate(line):
        holder.wait()
        time.sleep(GRACE_S)
        must(all(one.waits() for one in line[at + 1:]),
             f"{holder.name} holds, and so does one behind it")
        name, token = arena.head(path)
        same(name, holder.name, "whose znode is the first")
        guarded.enter(holder.name, token)
        if kind in ("latch", "selector"):
            for language in languages:
                leader = arena.ask(language, "leader", layout, path, kind)
                same(leader, holder.name, f"who leads, for {language}")
        guarded.leave(holder.name)
        holder.give()
    arena.is_empty_soon(path)

    def contend(language):
        for _ in range(rounds):
            holder = arena.take(language, kind, layout, path, *rest).wait()
            name, token = arena.head(path)
            guarded.enter(holder.name, token)
            same(name, holder.name, "whose znode is the first")
            guarded.leave(holder.name)
            holder.give()
    in_parallel(*[lambda language=language: contend(language) for language in languages * 2])
    arena.is_empty_soon(path)


def multi_order(arena, path, languages, rounds, layout):
    """As exclusion, and two who name the locks in opposite order do not block each other."""
    exclusion(arena, path, languages, rounds, "multi", layout)
    one, other = f"{path}-c", f"{path}-d"
    arena.keep(languages, one, other)

    def contend(language, paths):
        for _ in range(rounds):
            arena.take(language, "multi", layout, *paths).wait().give()
    in_parallel(*[lambda language=language, paths=paths: contend(language, paths)
                  for language, paths in zip(languages, itertools.cycle(
                      [(one, other), (other, one)]))])


def permits(arena, path, languages, rounds, kind, layout):
    """Never more than so many; in the order of arrival."""
    limit = 1 if kind == "semaphore-mutex" else 2
    rest = () if kind == "semaphore-mutex" else (str(limit),)
    if kind == "shared-semaphore":
        rest = (f"{path}-max",)
        arena.ask("java", "count", "-", rest[0], "set", limit)
    gate = f"{path}-__lock__" if layout == "kazoo" else f"{path}/locks"
    leases = path if layout == "kazoo" else f"{path}/leases"
    arena.keep(languages, gate, *[leases] * (layout == "curator"))
    guarded = Guarded(limit)
    line = []
    for at, language in enumerate(everyone_behind_everyone(languages)):
        line.append(arena.take(language, kind, layout, path, *rest))
        if at < limit:
            line[-1].wait()
            guarded.enter(line[-1].name)
        else:
            until(lambda: len(arena.children(gate)) == at + 1 - limit, "each waits at the gate")
    for at, holder in enumerate(line):
        holder.wait()
        guarded.enter(holder.name)
        if at + limit < len(line):
            time.sleep(GRACE_S)
            must(all(one.waits() for one in line[at + limit:]), "one too many")
        guarded.leave(holder.name)
        holder.give()
    arena.is_empty_soon(leases)

    def contend(language):
        for _ in range(rounds):
            holder = arena.take(language, kind, layout, path, *rest).wait()
            guarded.enter(holder.name)
            time.sleep(0.002)
            guarded.leave(holder.name)
            holder.give()
    in_parallel(*[lambda language=language: contend(language) for language in languages * 2])
    arena.is_empty_soon(leases)


def grown_maximum(arena, path, languages, rounds, layout):
    """As permits, and whoever waits is let in when another language raises the maximum."""
    permits(arena, path, languages, rounds, "shared-semaphore", layout)
    for holder, raiser in itertools.permutations(languages, 2):
        where = f"{path}-{holder}"
        arena.ask(raiser, "count", "-", f"{where}-max", "set", 1)
        first = arena.take(raiser, "shared-semaphore", layout, where, f"{where}-max").wait()
        second = arena.take(holder, "shared-semaphore", layout, where, f"{where}-max")
        until(lambda: len(arena.children(f"{where}/leases")) == 2, "the second waits")
        time.sleep(GRACE_S)
        must(second.waits(), "one too many")
        arena.ask(raiser, "count", "-", f"{where}-max", "set", 2)
        second.wait()
        first.give()
        second.give()


def readers_and_writers(arena, path, languages, rounds, layout):
    """Readers share, a writer is alone, and a later reader waits behind a waiting writer."""
    arena.keep(languages, path)
    for writer, *others in itertools.permutations(languages):
        reader, second = others[0], others[-1]
        kinds = [(writer, "write"), (reader, "read"), (second, "read"), (writer, "read"),
                 (reader, "write"), (writer, "read")]
        line = []
        for language, kind in kinds:
            line.append(arena.take(language, kind, layout, path))
            until(lambda: len(arena.children(path)) == len(line), "each has its znode")
        for now in ([0], [1, 2, 3], [4], [5]):
            for at in now:
                line[at].wait()
            time.sleep(GRACE_S)
            must(all(one.waits() for one in line[now[-1] + 1:]), "one holds that must wait")
            for at in now:
                line[at].give()
        arena.is_empty_soon(path)
    writing = Guarded(1)
    reading = Guarded(100)

    def contend(language, kinds):
        for _ in range(rounds):
            for kind in kinds:
                holder = arena.take(language, kind, layout, path).wait()
                mine = writing if kind == "write" else reading
                mine.enter(holder.name)
                must(not (writing.inside and reading.inside), "one reads while another writes")
                time.sleep(0.002)
                must(not (writing.inside and reading.inside), "one reads while another writes")
                mine.leave(holder.name)
                holder.give()
    in_parallel(*[lambda language=language, kinds=kinds: contend(language, kinds)
                  for language in languages for kinds in (["read", "write"], ["write", "read"])])
    arena.is_empty_soon(path)


def downgrade(arena, path, languages, _rounds, layout):
    """A write lock that became a read lock lets readers in, and no writer."""
    arena.keep(languages, path)
    for holder, *others in itertools.permutations(languages):
        if holder == "python":
            continue
        held = arena.take(holder, "downgraded", layout, path).wait()
        readers = [arena.take(other, "read", layout, path).wait() for other in others]
        writer = arena.take(others[-1], "write", layout, path)
        until(lambda: len(arena.children(path)) == len(readers) + 2, "the writer has its znode")
        late = arena.take(others[0], "read", layout, path)
        until(lambda: len(arena.children(path)) == len(readers) + 3, "the reader has its znode")
        for reader in readers:
            reader.give()
        time.sleep(GRACE_S)
        must(writer.waits() and late.waits(), "one holds beside the downgraded lock")
        held.give()
        writer.wait().give()
        late.wait().give()
        arena.is_empty_soon(path)


def revocation(arena, path, languages, _rounds, layout):
    """A holder hears that another language asks for the lock, and lets go."""
    for holder, asker in itertools.permutations(languages, 2):
        held = arena.take(holder, "revocable", layout, path).wait()
        waiting = arena.take(asker, "mutex", layout, path)
        until(lambda: len(arena.children(path)) == 2, "the second waits")
        arena.ask(asker, "revoke", layout, f"{path}/{arena.contenders(path)[0]}")
        waiting.wait().give()
        same(held.items(), ["revoked"], "what the holder heard")
        arena.is_empty_soon(path)


def gate(arena, path, languages, _rounds, layout):
    """What one closes holds the others until any opens it."""
    for closer, opener in itertools.permutations(languages, 2):
        arena.ask(closer, "gate", layout, path, "close")
        waiting = [arena.take(language, "gate", layout, path) for language in languages]
        time.sleep(3 * GRACE_S)
        must(all(one.waits() for one in waiting), "one is through a closed gate")
        arena.ask(opener, "gate", layout, path, "open")
        for one in waiting:
            one.wait()


def meeting(arena, path, languages, rounds, layout):
    """None is in before all have come; none is out before all are done."""
    count = len(languages) + 1
    arena.keep(languages, path)
    for number in range(max(2, rounds // 3)):
        for order in itertools.permutations(languages):
            coming = [arena.take(language, "double", layout, path, count)
                      for language in (*order, order[0])[:-1]]
            until(lambda: len(arena.children(path)) == count - 1, "all but one have come")
            time.sleep(GRACE_S)
            must(all(one.waits() for one in coming), "one is in before all have come")
            coming.append(arena.take(order[number % len(order)], "double", layout, path, count))
            for one in coming:
                one.wait()
            leaving = [one.peer.send("give", one.name) for one in coming[1:]]
            time.sleep(GRACE_S)
            must(not any(one.done() for one in leaving), "one is out before all are done")
            leaving.append(coming[0].peer.send("give", coming[0].name))
            for one in leaving:
                one.result(20)
            arena.is_empty_soon(path)


def counting(arena, path, languages, rounds, kind, layout, show):
    """No count is lost, and all read the same from the same bytes."""
    per_writer = 4 * rounds

    def count(language):
        for _ in range(per_writer):
            arena.ask(language, kind, layout, path, "add", "1")
    in_parallel(*[lambda language=language: count(language) for language in languages])
    for language in languages:
        arena.ask(language, kind, layout, path, "add", "-300")
    total = (per_writer - 300) * len(languages)
    for language in languages:
        same(arena.ask(language, kind, layout, path, "get"), str(total), f"the sum, for {language}")
    same(arena.zk.get(path)[0], show(total), "the bytes")


def followed(arena, path, languages, rounds, kind, numbers):
    """What one sets, all who follow it see last."""
    what = "count" if numbers else "value"
    arena.ask(languages[0], what, kind, path, "set", "1")
    followers = [arena.take(language, f"follow-{what}", kind, path).wait()
                 for language in languages if not (numbers and language == "python")]
    for at, language in zip(range(2, 2 + 2 * len(languages)), itertools.cycle(languages)):
        arena.ask(language, what, kind, path, "set", str(at))
        for other in languages:
            until(lambda other=other: arena.ask(other, what, kind, path, "get") == str(at),
                  "all read it")
        for follower in followers:
            until(lambda follower=follower: follower.items()[-1:] == [str(at)], "all hear of it")
    for follower in followers:
        follower.give()
    if numbers:
        # A change of what was not seen is refused: none is lost.
        counting(arena, f"{path}-sum", languages, rounds, "count", kind, four_bytes)


def written(arena, path, languages, _rounds, layout):
    """What one writes the others read, byte for byte."""
    for at, language in enumerate(languages * 2):
        arena.ask(language, "value", layout, path, "set", f"v{at}")
        same(arena.zk.get(path)[0], f"v{at}".encode(), "the bytes")
        for other in languages:
            same(arena.ask(other, "value", layout, path, "get"), f"v{at}", f"for {other}")


def blocks(arena, path, languages, _rounds, layout):
    """No number is given twice."""
    given = []

    def draw(language):
        for _ in range(3):
            given.extend(arena.ask(language, "cached", layout, path, "6").split(","))
    in_parallel(*[lambda language=language: draw(language) for language in languages * 2])
    same(len(set(given)), len(given), "how many of the numbers are different")


def in_order(arena, path, languages, _rounds, layout, order):
    """Whoever consumes gets the items of all in the one order."""
    wishes = {"priority": [5, 1, 9, 3, 7, 1], "delay": [1600, 500, 2000, 1100, 0, 800]}.get(order)
    if wishes and layout == "curator" and order == "priority":
        wishes = [5, -1, 9, -300, 7, 0]
    for consumer in languages:
        where = f"{path}-{consumer}"
        items = []
        for at, language in zip(range(6), itertools.cycle(languages)):
            # Later ones first where it matters: the names decide, not the puts.
            wish = [str(wishes[at])] if wishes else [f"id{at}"] if order == "id" else []
            arena.ask(language, "put", layout, where, order, f"i{at}", *wish)
            items.append((wishes[at] if wishes else 0, at, f"i{at}"))
        expected = [item for _, _, item in sorted(items)]
        if order == "id":
            other = languages[languages.index(consumer) - 1]
            same(arena.ask(other, "remove", layout, where, "id2"), "1", "how many were removed")
            expected.remove("i2")
        taking = arena.take(consumer, "consume", layout, where, order).wait()
        until(lambda: len(taking.items()) >= len(expected), "all items are consumed")
        same(taking.items(), expected, f"the order, for {consumer}")
        taking.give()
        until(lambda: not items_left(arena, where), "nothing is left")


def items_left(arena, path):
    below = arena.children(f"{path}/entries")
    names = below + arena.children(path)
    return [name for name in names if name.startswith(("queue-", "qn-", "entry-"))]


def each_once(arena, path, languages, rounds, layout, order):
    """Items of all, consumed by all at the same time: each exactly once, none for one alone."""
    in_order(arena, f"{path}-order", languages, rounds, layout, order)
    count = 4 * rounds
    wish = {"id": ["some"], "delay": ["0"]}.get(order, ["1"] if order == "priority" else [])
    taking = [arena.take(language, "consume", layout, path, order).wait()
              for language in languages]

    def put(language):
        for at in range(count):
            arena.ask(language, "put", layout, path, order, f"{language}-{at}", *wish)
    in_parallel(*[lambda language=language: put(language) for language in languages])
    expected = sorted(f"{language}-{at}" for language in languages for at in range(count))
    until(lambda: sum(len(one.items()) for one in taking) >= len(expected), "all are consumed")
    until(lambda: not items_left(arena, path), "nothing is left")
    taken = [one.items() for one in taking]
    for one in taking:
        one.give()
    same(sorted(itertools.chain(*taken)), expected, "what was consumed")


def shards(arena, path, languages, _rounds, layout):
    """Items of all lie in shards that all know, and each can be consumed by any."""
    expected = set()
    for at, language in zip(range(4), itertools.cycle(languages)):
        arena.ask(language, "put", layout, path, "fifo", f"{language}-{at}")
        expected.add(f"{language}-{at}")
    names = [name for name in arena.children(path) if name.startswith("queue-")]
    same(len(names), 1, "the shards")
    taking = arena.take(languages[0], "consume", "once", f"{path}/{names[0]}", "fifo").wait()
    until(lambda: len(taking.items()) >= len(expected), "all are consumed")
    same(set(taking.items()), expected, "what was consumed")
    taking.give()


def group(arena, path, languages, _rounds, layout):
    """Each sees all, and sees them go."""
    members = [arena.take(language, "member", layout, path).wait() for language in languages * 2]
    lists(arena, path, languages, layout, members)
    gone = members.pop(0)
    gone.give()
    lists(arena, path, languages, layout, members)
    for member in members:
        member.give()
    arena.is_empty_soon(path)


def lists(arena, path, languages, layout, members):
    names = sorted(member.name for member in members)
    for language in languages:
        expected = names
        if language == "java" and layout != "curator":
            # A GroupMember shows names as they are.
            expected = sorted(arena.children(path))
        until(lambda: sorted(arena.ask(language, "members", layout, path).split(",")) == expected,
              f"all are listed, for {language}")


def kept(arena, path, languages, _rounds, layout):
    """It comes back when another deletes it, and goes with its keeper."""
    for language in languages:
        keeper = arena.take(language, "node", layout, path).wait()
        data, stat = arena.zk.get(path)
        same(data.decode(), keeper.name, "the bytes")
        must(stat.ephemeralOwner != 0, "it is not ephemeral")
        arena.zk.delete(path)
        until(lambda: arena.zk.exists(path), "it is back")
        keeper.give()
        until(lambda: not arena.zk.exists(path), "it is gone")


def ttl(arena, path, languages, _rounds, layout):
    """Each keeps what the other made, for longer than it would last untouched."""
    ttl_ms = 1_000
    for first, second in itertools.permutations(languages, 2):
        where = f"{path}-{first}"
        one = arena.take(first, "ttl", layout, where, ttl_ms).wait()
        until(lambda: arena.children(where) == ["touch"], "it has its child")
        born = arena.zk.exists(where).czxid
        other = arena.take(second, "ttl", layout, where, ttl_ms).wait()
        one.give()
        time.sleep(3 * ttl_ms / 1000)
        stat = arena.zk.exists(where)
        must(stat and stat.czxid == born, "it is gone, or was made anew")
        other.give()
        until(lambda: not arena.zk.exists(where), "it is gone when nobody touches it")


def lease(arena, path, languages, _rounds, layout):
    """One has it until its time is over, renewed or not."""
    for first, second in itertools.permutations(languages, 2):
        where = f"{path}-{first}"
        began = time.time()
        same(arena.ask(first, "lease", layout, where, first, "2"), "true", "the first")
        same(arena.ask(second, "lease", layout, where, second, "2"), "false", "the second")
        same(arena.ask(first, "lease", layout, where, first, "2"), "true", "the first again")
        until(lambda: arena.ask(second, "lease", layout, where, second, "2") == "true",
              "the second, when it is over")
        must(time.time() - began > 1, "it was over too early")


def leases(arena, path, languages, _rounds, layout):
    """So many have one, and no more."""
    a, b = languages
    same(arena.ask(a, "multi-lease", layout, path, "one", "30"), "true", "the first")
    same(arena.ask(b, "multi-lease", layout, path, "two", "30"), "true", "the second")
    for language in languages:
        same(arena.ask(language, "multi-lease", layout, path, "three", "30"), "false", "the third")


def partition(arena, path, languages, _rounds, layout):
    """Each item has one owner; who leaves hands its items over."""
    items = ["a", "b", "c", "d", "e"]
    members = [arena.take(language, "partitioner", layout, path, *items).wait()
               for language in languages]

    def owners():
        return sorted(item for member in members for item in member.items())
    until(lambda: owners() == items and all(member.items() for member in members),
          "all items are divided")
    for item in items:
        same(len(arena.children(f"{path}/locks/{item}")), 1, f"who holds {item}")
    members.pop(0).give()
    until(lambda: owners() == items, "all items are with who stayed")
    members.pop().give()


def foreign(arena, path, languages, kind, layout, other_kind, other_layout, seen_as):
    """Two that do not exclude each other: both hold, and Rust says who does not belong here."""
    arena.keep(languages, path)
    stranger, = [language for language in languages if language != "rust"]
    for order in ("before", "behind"):
        first = arena.take("rust", kind, layout, path).wait() if order == "behind" else None
        other = arena.take(stranger, other_kind, other_layout, path)
        try:
            other.wait(5)
        finally:
            names = set(arena.children(path))
            held = first or arena.take("rust", kind, layout, path).wait()
        theirs = {name for name in names if arena.zk.get(f"{path}/{name}")[0].decode()
                  == other.name}
        same(set(arena.ask("rust", "foreign", layout, path, seen_as).split(",")), theirs,
             "who is reported as foreign")
        other.give()
        held.give()
        arena.is_empty_soon(path)


def four_bytes(number):
    return number.to_bytes(4, "big", signed=True)


def eight_bytes(number):
    return number.to_bytes(8, "big", signed=True)


def digits(number):
    return repr(number).encode()
