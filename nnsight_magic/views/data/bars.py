"""A row of numbers as bars: which rows are drawn so, and from where to where bars reach.

The front end's `tensor/bars.ts` does the same; both are tested on the cases of
`tests/views/bars.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

MOST = 512  # bars; of more places a strip of colours is drawn


def barred(drawn: Sequence[int], size: Sequence[int]) -> bool:
    """Whether one axis alone is drawn, of so few places that each has a bar of its own.

    Args:
        drawn: the axis down and the one across, -1 for none.
        size: rows and columns of what is drawn.
    """
    return drawn[0] < 0 <= drawn[1] and 1 < size[1] <= MOST


def reach_of(stats: Mapping[str, Any], limits: Sequence[float] = ()) -> tuple[float, float]:
    """The values at the lower and the upper edge; 0 is among them, unless others were chosen.

    Args:
        stats: `min` and `max` of the numbers, with what they may be off.
        limits: those that were chosen, or none.

    >>> reach_of({"min": 1.0, "max": 3.0})
    (0.0, 3.0)
    """
    if len(limits) == 2 and limits[0] < limits[1]:
        return float(limits[0]), float(limits[1])
    low, high = min(0.0, float(stats.get("min", 0.0))), max(0.0, float(stats.get("max", 0.0)))
    return (low, high) if low < high else (0.0, 1.0)
