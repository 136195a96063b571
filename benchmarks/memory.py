"""Peak memory of saving the output of every block.

    python -m benchmarks.memory [--tokens N]

One process, variants in turn: by how much the resident set grew beyond what it was before the
run, at its highest; see `resident`.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from benchmarks.engine import demo, save_all
from benchmarks.resident import growth


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
