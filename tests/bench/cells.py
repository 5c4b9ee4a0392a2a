"""What is measured, and what is asked of it.

`C x D` is connections times requests outstanding on each. A target compares Quorate with
ZooKeeper; `share` is the part of the null server's throughput that Quorate has to reach, with
group commit to disk where the cell writes and without where it reads.
"""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Target:
    figure: str  # rate, p50, p99 or cpu
    at_least: float | None = None
    at_most: float | None = None

    def met(self, ratio):
        return ratio >= self.at_least if self.at_least is not None else ratio <= self.at_most

    def __str__(self):
        bound = f"≥ {self.at_least:g}x" if self.at_least is not None else f"≤ {self.at_most:g}x"
        return bound if self.figure == "rate" else f"{self.figure} {bound}"


@dataclass(frozen=True)
class Cell:
    name: str
    args: str
    targets: list = field(default_factory=list)
    null: str | None = None  # `disk` or `memory`
    share: float | None = None
    # The figure that stands for throughput; a cell whose work is one round has its time.
    by_time: bool = False


def rate(at_least):
    return Target("rate", at_least=at_least)


def p50(at_most):
    return Target("p50", at_most=at_most)


def p99(at_most):
    return Target("p99", at_most=at_most)


def cpu(at_most):
    return Target("cpu", at_most=at_most)


CELLS = [
    Cell("set 1x1", "set -c 1 -d 1", [rate(1.6), p50(0.6)], "disk", 0.75),
    Cell("set 64x1", "set -c 64 -d 1", [rate(1.5)], "disk", 0.7),
    Cell("set 256x1", "set -c 256 -d 1", [rate(2.5)], "disk"),
    Cell("set 16x16", "set -c 16 -d 16", [rate(3)], "disk"),
    Cell("set 64x16", "set -c 64 -d 16", [rate(4), cpu(0.2)], "disk", 0.35),
    Cell("set 1 KiB 64x16", "set -c 64 -d 16 --size 1024", [rate(3)], "disk"),
    Cell("create 64x16", "create -c 64 -d 16", [rate(4), cpu(0.2)], "disk"),
    Cell("ephemeral create+delete 64x16", "ephemeral -c 64 -d 16", [rate(4)], "disk"),
    Cell("multi of 10 sets 16x4", "multi -c 16 -d 4 --ops 10", [rate(4)], "disk"),
    Cell("get 1x1", "get -c 1 -d 1", [p50(0.6)], "memory", 0.7),
    Cell("get 64x1", "get -c 64 -d 1", [rate(2.5)], "memory", 0.6),
    Cell("get 64x16", "get -c 64 -d 16", [rate(8), cpu(0.1)], "memory", 0.35),
    Cell("get 1x100", "get -c 1 -d 100", [rate(15)], "memory"),
    Cell("mixed 90/10 64x16", "mixed -c 64 -d 16 --read 90", [rate(6)]),
    Cell("children(100) 16x16", "children -c 16 -d 16", [rate(5)], "memory"),
    Cell("lock, 16 on 1", "lock -c 16 --paths 1", [rate(2)]),
    Cell("lock, 64 on 64", "lock -c 64 --paths 64", [rate(3)]),
    Cell("set, open loop 2 k/s, 64", "set -c 64 --rate 2000", [p99(0.5)], "disk"),
    Cell("1000 watchers, to the last", "watch-fanout -c 1000", [p50(0.35)], by_time=True),
    Cell("sessions opened and closed, 64", "session-storm -c 64", [], "disk"),
]

# Bytes and seconds of the memory part: what Quorate may take at most, whoever it is beside,
# and how it has to compare with ZooKeeper.
ZNODE_BYTES_MAX = 300
SESSION_BYTES_MAX = 1_640
RESTART_SECONDS_MAX = 1.1
STALL_MS_MAX = 50
FILL_RATIO_MIN = 4
OPEN_RATIO_MIN = 3
PEAK_RATIO_MAX = 0.1
