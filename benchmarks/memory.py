"""Peak memory of saving the output of every block.

    python -m benchmarks.memory [--tokens N]

One process, variants in turn: by how much the resident set grew beyond what it was before the
run, at its highest. Linux only, which lets a process set its own high-water mark back.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import re
import statistics
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.engine import demo, save_all

STATUS = Path("/proc/self/status")


def resident(field: str) -> float:
    """`VmRSS` (now) or `VmHWM` (the highest since it was set back), in MB."""
    return int(re.search(rf"{field}:\s+(\d+) kB", STATUS.read_text()).group(1)) / 1e3


def growth(run: Callable[[], object]) -> float:
    """MB by which the process grows while `run` runs, at most."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark, back to now
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tokens", type=int, default=512)
    options = parser.parse_args()
    torch.set_num_threads(1)
    subject = demo()
    subject.ids = torch.arange(1000, 1000 + options.tokens)[None]
    variants = save_all(subject)
    # nnsight leaves autograd as it finds it, and a graph holds every activation.
    variants["nnsight, under no_grad"] = torch.no_grad()(variants["nnsight"])
    grown: dict[str, list[float]] = {name: [] for name in variants}
    for number in range(options.rounds + 1):
        for name, run in variants.items():
            megabytes = growth(run)
            if number:  # the first round warms up
                grown[name].append(megabytes)
    saved = len(subject.blocks) * options.tokens * subject.hf.config.hidden_size * 4 / 1e6
    print(
        f"\n## Peak memory, demo model, {options.tokens} tokens, all blocks: {saved:.0f} MB saved\n"
    )
    print("| | peak growth (MB) | beyond plain (MB) |\n|---|---|---|")
    base = statistics.median(grown["plain"])
    for name, megabytes in grown.items():
        peak = statistics.median(megabytes)
        print(f"| {name} | {peak:.0f} | {peak - base:+.0f} |")


if __name__ == "__main__":
    main()
