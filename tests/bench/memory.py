"""What znodes and sessions weigh, how fast a server is back, and what a snapshot holds up."""

import statistics
import time

from servers import settle

BASE = "/bench-fill"
# Written anew this often while the stall is measured, so that several snapshots fall into it.
SNAP_COUNT = 20_000
RESTARTS = 3


def measure(server, bench, chosen, say):
    """All figures of one server, from its start to its end."""
    results = {}
    try:
        server.start()
        # So that neither class loading nor first buffers count as weight.
        bench(server, "set -c 16 -d 16", "--duration", "3s")
        bench(server, "session-storm -c 16", "--duration", "2s")
        results.update(sessions(server, bench, chosen.sessions))
        say(f"sessions: {results}")
        results.update(fill(server, bench, chosen.znodes))
        say(f"filled: {results}")
        results["restart_s"] = restart(server)
        say(f"restart: {results['restart_s']:.2f} s")
        server.kill()
        server.settings["snapCount"] = SNAP_COUNT
        server.start(probe=BASE)
        before = server.snapshots()
        results["stall_ms"] = stall(server, bench, chosen, start=False)
        results["stall_snapshots"] = server.snapshots() - before
        say(f"stall: {results['stall_ms']:.1f} ms, {results['stall_snapshots']} snapshots")
    finally:
        server.discard()
    return results


def resident(server):
    server.collect_garbage()
    settle([server])
    return server.resident_kib()


def sessions(server, bench, count):
    before = resident(server)
    figures = bench(server, f"session-storm --hold -c {count}", "--duration", "3s")
    held = figures.get("server_resident_kib", 0)
    return {
        "session_bytes": (held - before) * 1024 / count,
        "sessions_opened_per_s": figures.get("per_second", 0),
        "sessions_error": figures.get("error"),
    }


def fill(server, bench, count):
    before = resident(server)
    figures = bench(server, f"fill --count {count} -c 16 -d 64 --keep --base {BASE}")
    full = server.resident_kib()
    return {
        "znode_bytes": (resident(server) - before) * 1024 / count,
        # Before a collection, where there is one.
        "znode_bytes_at_once": (full - before) * 1024 / count,
        "fill_per_s": figures.get("per_second", 0),
        "fill_max_ms": max((s["max_ms"] for s in figures.get("series", [])), default=0),
        "fill_error": figures.get("error"),
    }


def restart(server):
    """Seconds from the start after a SIGKILL to the first answer about a znode."""
    times = []
    for _ in range(RESTARTS):
        settle([server])
        server.kill()
        times.append(server.start(probe=f"{BASE}/dir-000000"))
    return statistics.median(times)


def stall(server, bench, chosen, start=True):
    """The longest that a write waited at 2 k/s, with snapshots going on if it takes any."""
    try:
        if start:
            server.start()
        settle([server])
        time.sleep(1)
        seconds = 10 if chosen.quick else 40
        figures = bench(server, "set -c 64 --rate 2000", "--duration", f"{seconds}s")
        return max((s["max_ms"] for s in figures.get("series", [])), default=float("nan"))
    finally:
        if start:
            server.discard()
