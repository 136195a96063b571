"""CPU time of variants of the same job, taken in turn in one process."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One job: the CPU seconds of each variant, undisturbed."""

    job: str
    seconds: dict[str, float]

    def ratio(self, variant: str, base: str) -> float:
        return self.seconds[variant] / self.seconds[base]


def measure(job: str, variants: dict[str, Callable[[], object]], rounds: int) -> Row:
    """Run every variant once to warm up, then all of them `rounds` times, one after another.

    Taking them in turn makes a machine that slows down slow all of them. The order changes from
    round to round, so that none always runs behind the same other.
    """
    names = list(variants)
    for name in names:
        variants[name]()
    times: dict[str, list[float]] = {name: [] for name in names}
    gc.collect()
    gc.freeze()  # else the collector goes through all that any of the libraries keeps, in any turn
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            began = time.process_time()
            variants[name]()
            times[name].append(time.process_time() - began)
    return Row(job, {name: undisturbed(taken) for name, taken in times.items()})


def undisturbed(times: list[float]) -> float:
    """The mean of the fastest quarter: neighbours on the machine only ever make a run slower."""
    return statistics.fmean(sorted(times)[: max(1, len(times) // 4)])


def table(rows: list[Row], base: str) -> str:
    """Markdown: CPU time of the base, every other variant as a ratio to it."""
    names = [name for name in dict.fromkeys(n for row in rows for n in row.seconds) if name != base]
    lines = [
        f"| job | {base} (ms) | " + " | ".join(names) + " |",
        "|---" * (len(names) + 2) + "|",
    ]
    for row in rows:
        cells = [f"{row.seconds[base] * 1e3:.2f}"]
        for name in names:
            if name in row.seconds:
                added = (row.seconds[name] - row.seconds[base]) * 1e3
                cells.append(f"{row.ratio(name, base):.3f} ({added:+.2f} ms)")
            else:
                cells.append("–")
        lines.append(f"| {row.job} | " + " | ".join(cells) + " |")
    return "\n".join(lines)
