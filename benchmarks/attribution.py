"""How well attribution agrees with exact patching: every point of four pairs of prompts, by site.

    python -m benchmarks.attribution [--threads N] [--pairs N]

Each place of a site is patched exactly, and estimated by each method; a figure is Pearson's
correlation between both over all points of a pair, the mean of the pairs and the least of them.
Further down, edges against path patching: the 40 largest and 40 random ones of each pair.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch

from nnsight_magic import LanguageModel, analyses

PAIRS = (
    ("The capital of France is the city of", "The capital of Italy is the city of",
     " Paris", " Rome"),
    ("The Eiffel Tower is in the city of", "The Colosseum is in the city of", " Paris", " Rome"),
    ("The Louvre is in the city of", "The Acropolis is in the city of", " Paris", " Athens"),
    ("When Anna and Peter went to the store, Peter gave a drink to",
     "When Anna and Peter went to the store, Anna gave a drink to", " Anna", " Peter"),
)  # fmt: skip
SITES = ("resid_post", "mlp", "attn", "heads")
METHODS = ("grad", "norm", "relp", "ig")
EDGES = ("norm", "grad")


def correlation(one: Any, other: Any) -> float:
    return float(np.corrcoef(np.ravel(one), np.ravel(other))[0, 1])


def of_pair(model: LanguageModel, pair: tuple[str, str, str, str], site: str) -> dict[str, float]:
    """The correlation of each method with the exact patches of one site."""
    options: Any = {"site": site, "align": None, "progress": False}
    clean, corrupt, answer, versus = pair
    exact = analyses.patch(model, clean, corrupt, answer, versus, **options)
    found = {}
    for method in METHODS:
        scores = analyses.attribute(
            model, clean, corrupt, answer, versus, method=method, check=0, **options
        )
        found[method] = correlation(exact.values, scores.values)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=len(PAIRS), help="the first so many")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model, pairs = LanguageModel("demo", dispatch=True), PAIRS[: options.pairs]
    by_site = {site: [of_pair(model, pair, site) for pair in pairs] for site in SITES}
    print(f"| correlation, mean (least) of {len(pairs)} pairs | {' | '.join(SITES)} |")
    print("|---|" + "---|" * len(SITES))
    for method in METHODS:
        columns = [[each[method] for each in by_site[site]] for site in SITES]
        cells = [f"{statistics.mean(each):.2f} ({min(each):.2f})" for each in columns]
        print(f"| {method} | {' | '.join(cells)} |")
    print("\n| edges, correlation with path patching | mean (least) |\n|---|---|")
    for method in EDGES:
        found = [
            analyses.attribute_edges(model, *pair, method=method, check=40, progress=False).attrs[
                "correlation"
            ]
            for pair in pairs
        ]
        print(f"| {method} | {statistics.mean(found):.2f} ({min(found):.2f}) |")


if __name__ == "__main__":
    main()
