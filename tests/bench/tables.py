"""Medians, ratios and the markdown of them."""

import math
import statistics

import cells
from cells import CELLS

FIGURES = {
    "rate": lambda run: run["per_second"],
    "p50": lambda run: run["series"][0]["p50_ms"],
    "p99": lambda run: run["series"][0]["p99_ms"],
    "cpu": lambda run: run["server_cpu_us_per_op"],
    "peak": lambda run: run["server_peak_kib"] / 1024,
}


def values(runs, figure):
    """One figure per round; None where the run failed."""
    return [FIGURES[figure](run) if run.get("series") else None for run in runs]


def median(numbers):
    numbers = [number for number in numbers if number is not None]
    return statistics.median(numbers) if numbers else math.nan


def ratio(cell, figure, other="zookeeper"):
    """The median over the rounds of subject / other."""
    pairs = zip(values(cell["subject"], figure), values(cell[other], figure))
    return median([ours / theirs for ours, theirs in pairs if ours is not None and theirs])


def in_short(cell):
    """The last round, for the log."""
    parts = []
    for kind, runs in cell.items():
        if not runs:
            continue
        if not runs[-1].get("series"):
            parts.append(f"{kind} failed: {runs[-1].get('error')}")
            continue
        failed = " with errors" if runs[-1].get("error") else ""
        parts.append(f"{kind} {number(runs[-1]['per_second'])}/s{failed}")
    return ", ".join(parts)


def number(value):
    if value is None or math.isnan(value):
        return "–"
    if value >= 10_000:
        return f"{value / 1000:.0f} k"
    if value >= 1_000:
        return f"{value / 1000:.1f} k"
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.2f}"


def row(*columns):
    return "| " + " | ".join(columns) + " |\n"


def verdict(met):
    return "yes" if met else "**no**"


def cell_rows(results):
    text = row("cell", "ZooKeeper", results["subject"], "ratio", "p50 ms", "p99 ms",
               "CPU µs/op", "CPU ratio", "asked", "met", "of the null server", "asked", "met")
    text += row(*["---"] * 13)
    for cell in CELLS:
        found = results["cells"].get(cell.name)
        if not found:
            continue

        def both(figure, found=found):
            return " / ".join(number(median(values(found[kind], figure)))
                              for kind in ("zookeeper", "subject"))

        met = [target.met(ratio(found, target.figure)) for target in cell.targets]
        share = ratio(found, "rate", cell.null) if cell.null else math.nan
        main = "p50" if cell.by_time else "rate"
        unit = " ms" if cell.by_time else "/s"
        text += row(
            cell.name,
            number(median(values(found["zookeeper"], main))) + unit,
            number(median(values(found["subject"], main))) + unit,
            f"{ratio(found, main):.2f}",
            both("p50"),
            both("p99"),
            both("cpu"),
            f"{ratio(found, 'cpu'):.2f}",
            ", ".join(map(str, cell.targets)) or "–",
            verdict(all(met)) if met else "–",
            number(share),
            f"≥ {cell.share:g}" if cell.share else "–",
            verdict(share >= cell.share) if cell.share else "–",
        )
    failed = [f"{name} on {kind}: {run['error'][0]}"
              for name, found in results["cells"].items()
              for kind, runs in found.items() for run in runs if run.get("error")]
    if failed:
        text += "\nFailed runs:\n\n" + "".join(f"- {line}\n" for line in failed)
    return text


def peak(results, kind):
    runs = [run for found in results["cells"].values() for run in found[kind]]
    peaks = [FIGURES["peak"](run) for run in runs if run.get("server_peak_kib")]
    return max(peaks, default=math.nan)


def memory_rows(results):
    text = row("", "ZooKeeper", results["subject"], "ratio", "asked", "met")
    text += row(*["---"] * 6)

    def line(name, theirs, ours, asked, met):
        quotient = ours / theirs if theirs else math.nan
        return row(name, number(theirs), number(ours), f"{quotient:.3f}", asked, verdict(met))

    found = results.get("memory")
    if found:
        theirs, ours = found["zookeeper"], found["subject"]

        def most(name, key, bound, unit):
            return line(name, theirs[key], ours[key], f"≤ {bound:g} {unit}", ours[key] <= bound)

        def faster(name, key, bound):
            good = ours[key] >= bound * theirs[key]
            return line(name, theirs[key], ours[key], f"≥ {bound:g}x", good)

        text += most("bytes per znode of 100 B", "znode_bytes", cells.ZNODE_BYTES_MAX, "B")
        text += faster("znodes filled per second", "fill_per_s", cells.FILL_RATIO_MIN)
        text += most("seconds to serve after kill -9", "restart_s", cells.RESTART_SECONDS_MAX, "s")
        text += most("bytes per idle session", "session_bytes", cells.SESSION_BYTES_MAX, "B")
        text += faster("sessions opened per second", "sessions_opened_per_s",
                       cells.OPEN_RATIO_MIN)
        # The disk has stalls of its own, which the null server shows.
        bound = cells.STALL_MS_MAX + found["disk"]["stall_ms"]
        text += line("longest write at 2 k/s during snapshots, ms", theirs["stall_ms"],
                     ours["stall_ms"], f"≤ {cells.STALL_MS_MAX} ms + the disk's "
                     f"{found['disk']['stall_ms']:.0f}", ours["stall_ms"] <= bound)
    if results.get("cells"):
        theirs, ours = peak(results, "zookeeper"), peak(results, "subject")
        text += line("largest memory over the cells, MiB", theirs, ours,
                     f"≤ {cells.PEAK_RATIO_MAX:g}x", ours <= cells.PEAK_RATIO_MAX * theirs)
    return text


def markdown(results):
    text = ""
    if results.get("cells"):
        runs = [run for found in results["cells"].values()
                for runs in found.values() for run in runs]
        machine = next((run["machine"] for run in runs if run.get("machine")), {})
        text += (f"{machine.get('cpu')}, {machine.get('cores')} cores, Linux "
                 f"{machine.get('kernel')}, {results['at']}; {results['rounds']} rounds of "
                 f"{results['seconds']:g} s, load average {results['load_before'][0]:.1f} before "
                 f"and {results['load_after'][0]:.1f} after. Medians; where there are two "
                 f"figures, ZooKeeper's comes first.\n\n")
        text += cell_rows(results) + "\n"
    return text + memory_rows(results)
