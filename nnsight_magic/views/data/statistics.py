"""Count, ends, moments and histogram of numbers, as a viewer tells them."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from nnsight_magic.views.data.wire import Statistics

RANKED = 1 << 14  # values that the bulk of them is looked up in
BINS = 48
LARGE, HUGE = 1e140, 1e300  # from where squares are summed in another unit, and that unit


def totals(chunks: Iterable[np.ndarray]) -> Statistics:
    """What can be summed up chunk by chunk: ends, mean, deviation, norm, NaN, infinities, zeros."""
    low, high, total, squares = np.inf, -np.inf, 0.0, 0.0
    unit = 1.0
    counts: Statistics = {"nan": 0, "inf": 0, "zero": 0}
    finite = 0
    for chunk in chunks:
        values = chunk
        if chunk.dtype.kind == "f":
            mask = np.isfinite(chunk)
            if not mask.all():
                nan = int(np.isnan(chunk).sum())
                counts["nan"] += nan
                counts["inf"] += int(len(chunk) - mask.sum()) - nan
                values = chunk[mask]
        if not len(values):
            continue
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        wide = values.astype(np.float64)
        if max(-low, high) > LARGE:  # whose squares are no numbers
            total, squares, unit = total / HUGE * unit, squares / HUGE / HUGE * unit**2, HUGE
        wide /= unit
        total += float(wide.sum())
        squares += float(np.dot(wide, wide))
        counts["zero"] += int(len(values) - np.count_nonzero(values))
        finite += len(values)
    if not finite:
        return counts
    mean = total / finite
    deviation = max(0.0, squares / finite - mean * mean) ** 0.5
    found: Statistics = {**counts, "min": low, "max": high}
    sums = (("mean", mean * unit), ("std", deviation * unit), ("norm", squares**0.5 * unit))
    for name, value in sums:
        if np.isfinite(value):
            found[name] = value
    return found


def statistics_of(values: np.ndarray, size: int) -> Statistics:
    """Statistics of `values`, a sample of `size` values; finite numbers only, for JSON."""
    finite = values
    stats: Statistics = {"count": size, "looked_at": len(values)}
    if values.dtype.kind == "f":
        mask = np.isfinite(values)
        if not mask.all():
            stats["nan"] = int(np.isnan(values).sum())
            stats["inf"] = int(len(values) - mask.sum() - stats["nan"])
            finite = values[mask]
    if not len(finite):
        return stats
    wide = finite.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    some = wide[:: max(1, len(wide) // RANKED)]
    # Half a per cent of few values is less than one of them: none is left out.
    bulk = np.percentile(some / 2, [0.5, 99.5]) * 2 if len(some) >= 200 else (low, high)
    bins, counts = histogram(wide, *bulk)
    with np.errstate(over="ignore"):  # a sum, or a norm, may be beyond the largest number
        unit = max(-low, high) or 1.0
        share = wide / unit
        moments = (("mean", float(share.mean()) * unit), ("std", float(share.std()) * unit))
        whole = len(values) == size
        norm = float(np.sqrt((share * share).sum())) * unit if whole else None
    stats |= {"min": low, "max": high}
    for name, value in moments:
        if np.isfinite(value):
            stats[name] = value
    if norm is None or np.isfinite(norm):
        stats["norm"] = norm
    stats |= {"zero": int((wide == 0).sum()), "bins": bins, "histogram": counts}
    return stats


def histogram(values: np.ndarray, low: float, high: float) -> tuple[list[float], list[int]]:
    """Counts in even bins over the bulk of the values; what lies outside is in the end bins."""
    ends = float(values.min()), float(values.max())
    if not np.isfinite(high / 4 - low / 4) or high / 4 - low / 4 > HUGE:
        values, low, high = values / 8, low / 8, high / 8
        bins, counts = histogram(values, low, high)
        return [min(max(each * 8, ends[0]), ends[1]) for each in bins], counts
    margin = (high - low) * 0.1
    low, high = max(low - margin, ends[0]), min(high + margin, ends[1])
    if not high > low:
        return [low, high], [len(values)]
    place = np.clip((values - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)
    return [float(low), float(high)], np.bincount(place, minlength=BINS).tolist()
