"""An approximation held against what it approximates: some of its points, measured exactly.

The largest points, and others at random: the largest alone would say how well the ranking does
among what matters, the random ones alone how well it tells nothing from something.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import torch

from nnsight_magic.errors import BadInputError

CHECKED = 20  # of the largest, and as many at random
Point = tuple[int, ...]


def check_count(count: Any) -> None:
    """Refuses what is no number of points.

    Raises:
        BadInputError: it is none.
    """
    if isinstance(count, bool) or not isinstance(count, int) or count < 0:
        raise BadInputError(
            f"check is how many points are patched exactly, 0 or more; found {count!r}."
        )


def some_of(points: Sequence[Point], scores: torch.Tensor, count: int, seed: int) -> list[Point]:
    """So many of the points whose scores are largest, then as many others at random.

    >>> some_of([(0,), (1,), (2,)], torch.tensor([0.1, -3.0, 0.2]), 1, seed=0)[0]
    (1,)
    """
    ordered = sorted(points, key=lambda point: -abs(float(scores[point])))
    rest = ordered[count:]
    return ordered[:count] + random.Random(seed).sample(rest, min(count, len(rest)))


def told(
    named: Sequence[Sequence[Any]], estimates: Sequence[float], exact: Sequence[float]
) -> dict[str, Any]:
    """For `attrs`: the points with both numbers, and Pearson's correlation where there is one."""
    rows = [[*point, a, b] for point, a, b in zip(named, estimates, exact, strict=True)]
    both = torch.tensor([list(estimates), list(exact)])
    found: dict[str, Any] = {"exact": rows}
    if len(rows) > 2 and bool((both.std(1) > 0).all()):
        found["correlation"] = float(torch.corrcoef(both)[0, 1])
    return found
