"""Numbers as bytes: each value becomes the number of the nearest of a few hundred levels.

The levels are chosen from the values themselves: half of them by rank, so that the bulk keeps its
detail when a few values are a thousand times larger, as in a residual stream; half spread evenly
on a signed logarithmic scale, so that the large ones are told apart too. The browser colours a
level, not a value: another scale or other limits recolour an image without any new data. Bytes
sort as their values do, so the browser may also pool them.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np

LEVELS = 253
MINUS_INFINITY, PLUS_INFINITY, NAN = 253, 254, 255
SAMPLE = 1 << 14


@dataclass(frozen=True)
class Coded:
    """Arrays as levels.

    Attributes:
        levels: the values, ascending, at most `LEVELS` of them, float64.
        codes: one byte a value; 253, 254 and 255 stand for -inf, inf and NaN.
    """

    levels: np.ndarray
    codes: np.ndarray

    @property
    def values(self) -> np.ndarray:
        """The values as the browser knows them, float64."""
        table = np.full(256, np.nan)
        table[: len(self.levels)] = self.levels
        table[MINUS_INFINITY], table[PLUS_INFINITY] = -np.inf, np.inf
        return table[self.codes]


def encode(values: np.ndarray) -> Coded:
    """Codes of the same shape as `values`."""
    flat = np.asarray(values).ravel()
    if flat.dtype == bool:
        flat = flat.view(np.uint8)
    finite = flat if flat.dtype.kind in "iu" else flat[np.isfinite(flat)]
    levels = choose_levels(finite)
    if not len(levels):
        codes = np.zeros(flat.shape, np.uint8)
    else:
        codes = _nearest(levels[1:] / 2 + levels[:-1] / 2, flat)
    if flat.dtype.kind == "f" and len(finite) < len(flat):
        codes[np.isnan(flat)] = NAN
        codes[flat == np.inf] = PLUS_INFINITY
        codes[flat == -np.inf] = MINUS_INFINITY
    return Coded(levels, codes.reshape(np.shape(values)))


def _nearest(borders: np.ndarray, flat: np.ndarray) -> np.ndarray:
    """Between which borders each value lies, as `searchsorted` finds it.

    Single precision is looked up by a value's upper 16 bits, which mostly settle it: a third of
    the time.
    """
    if flat.dtype.kind == "f":
        borders = borders.astype(flat.dtype, copy=False)  # compared as they are, fast
    if flat.dtype != np.float32 or len(flat) < 1 << 12:
        return np.searchsorted(borders, flat).astype(np.uint8)
    upper = (flat.view(np.uint32) >> 16).astype(np.uint16)
    found = np.flatnonzero(np.bincount(upper, minlength=1 << 16)).astype(np.uint32)
    first = np.searchsorted(borders, (found << 16).view(np.float32))
    last = np.searchsorted(borders, (found << 16 | 0xFFFF).view(np.float32))
    table, open_ = np.zeros(1 << 16, np.uint8), np.zeros(1 << 16, bool)
    table[found], open_[found] = first, first != last
    codes, unsettled = table[upper], open_[upper]
    codes[unsettled] = np.searchsorted(borders, flat[unsettled])
    return codes


def choose_levels(finite: np.ndarray) -> np.ndarray:
    """At most `LEVELS` ascending values near to the given ones."""
    if not len(finite):
        return np.empty(0)
    sample = np.sort(finite[:: max(1, len(finite) // SAMPLE)]).astype(np.float64)
    ends = np.array([finite.min(), finite.max()], np.float64)
    inside = sample[1:][sample[1:] != sample[:-1]]
    distinct = np.unique([*ends, sample[0], *inside]) if len(inside) <= LEVELS else inside
    if len(distinct) <= LEVELS and (len(finite) <= SAMPLE or finite.dtype.kind in "iu"):
        return distinct
    if ends[0] == ends[1]:
        return ends[:1]
    if np.abs(ends).max() > 1e300:  # beyond which differences are no numbers
        return np.clip(choose_levels(finite / 1e10) * 1e10, *ends)
    half = LEVELS // 2
    by_rank = np.interp(np.linspace(0, 1, half), np.linspace(0, 1, len(sample)), sample)
    largest = np.abs(ends).max()
    unit = max((np.abs(sample) / largest).mean() * largest, largest * 1e-9)
    low, high = np.arcsinh(ends / unit)
    with np.errstate(over="ignore"):  # at the ends themselves, which are known
        even = np.sinh(np.linspace(low, high, LEVELS - half - 1)) * unit
    zero = [0.0] if ends[0] < 0 < ends[1] else []
    inner = np.concatenate([by_rank, even[1:-1], zero])
    if largest < 1e38:
        inner = inner.astype(np.float32).astype(np.float64)  # deflates to half the size
    return np.unique(np.clip(np.concatenate([ends, inner]), *ends))


def pack(values: np.ndarray) -> bytes:
    """Codes or levels as they are stored: rows one after another, deflated."""
    return zlib.compress(np.ascontiguousarray(values).tobytes(), 6)
