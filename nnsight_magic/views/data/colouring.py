"""The rule of the pictures: where a colour scale ends, and which value of a block is drawn.

Live views, stills, figures and the console all keep to it. The front end's part of it is in
`core/colour.ts`; both are tested on the cases of `tests/views/colouring.json`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

Limits = tuple[float, float]

# Rows and columns up to which every value of a plane has a place that can be seen.
SEEN = (128, 256)
# Values this many times the usual one leave the others no colour: the scale ends before them.
FAR = 20.0
OUTERMOST = 0.005  # the share that it then leaves out, on each side


def all_seen(size: Sequence[float]) -> bool:
    """Whether each value of a plane of so many rows and columns can be seen by itself."""
    return size[0] <= SEEN[0] and size[1] <= SEEN[1]


def automatic(stats: Mapping[str, Any], size: Sequence[float]) -> tuple[Limits, str]:
    """Limits and palette for a plane of `size` rows and columns.

    The limits are the least and the greatest value, so that no value lies outside. Only where
    values cannot be seen one by one and some lie far above all others, they leave out the last
    half per cent of what is drawn; whoever draws then says that values lie outside.

    `stats` has `min` and `max` of the tensor, and `drawn`: the ends of what is drawn without its
    outermost, and between them the usual magnitude, as `marks_of` finds them.
    """
    if "min" not in stats:
        return (0.0, 1.0), "sequential"
    low, high = float(stats["min"]), float(stats["max"])
    largest = max(-low, high)
    near: tuple[float, float] | None = None
    if not all_seen(size) and stats.get("drawn"):
        least, usual, most = stats["drawn"]
        if largest / FAR > usual > 0:
            near = (least, most)
    if low >= 0:
        if near and near[1] > 0:
            # As in probabilities over a vocabulary: the few shall stand out, and the rest not look
            # as large as they do.
            high = near[1] if high / FAR <= near[1] else (near[1] * high) ** 0.5
        return (0.0, high if high > 0 else 1.0), "sequential"
    if near:
        largest = max(-near[0], near[1]) or largest
    return (-largest, largest), "diverging"


def two_sided(limits: Sequence[float], palette: str) -> bool:
    """Whether 0 is what the scale calls nothing; else its lower end is."""
    return palette == "diverging" or limits[0] < 0 < limits[1]


def standing_out(
    low: np.ndarray, high: np.ndarray, limits: Sequence[float], palette: str
) -> np.ndarray:
    """Of each block's least and greatest value the one farther from nothing.

    On a scale that has 0 inside the one of greater magnitude, on a one-sided scale the greatest,
    wherever the limits lie. NaN counts above infinities, and these above all numbers.
    """
    if low is high:
        return low
    if two_sided(limits, palette):
        drawn = np.where(_magnitude(low) > _magnitude(high), low, high)
    else:
        drawn = np.where((low == -np.inf) & (high != np.inf), low, high)
    return np.where(np.isnan(low), low, drawn)


def _magnitude(values: np.ndarray) -> np.ndarray:
    """As float64, since an integer type's least has no positive counterpart."""
    return np.abs(values.astype(np.float64)) if values.dtype.kind in "iu" else np.abs(values)


def marks_of(drawn: np.ndarray) -> list[float]:
    """Of what is drawn: both ends without the outermost, between them the usual magnitude."""
    values = drawn[np.isfinite(drawn)].astype(np.float64)
    some = np.abs(values[values != 0])
    if not len(some):
        return []
    low, high = np.quantile(values, [OUTERMOST, 1 - OUTERMOST], method="nearest")
    usual = float(np.median(some / 2)) * 2  # of two in the middle it is half of their sum
    return [float(low), usual, float(high)]


def outside(drawn: np.ndarray, limits: Sequence[float]) -> tuple[bool, bool]:
    """Whether finite values that are drawn lie below the limits, and above them."""
    values = drawn[np.isfinite(drawn)]
    return bool((values < limits[0]).any()), bool((values > limits[1]).any())


def places(values: np.ndarray, limits: Sequence[float], shades: int = 256) -> np.ndarray:
    """Where values stand on a scale of so many shades; the middle where the limits are one."""
    low, high = limits
    if not high > low:
        return np.full(np.shape(values), shades // 2)
    wide = np.asarray(values, np.float64)
    low, high = float(low), float(high)
    if not np.isfinite(high - low):  # the span of the largest doubles is none of them
        wide, low, high = wide / 2, low / 2, high / 2
    with np.errstate(over="ignore", invalid="ignore"):
        share = np.nan_to_num(np.clip((wide - low) / (high - low), 0, 1))
    return np.floor(share * (shades - 1) + 0.5).astype(int)
