"""The colour scales of the live views, for pictures made here."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np

# Blue against orange, light in the middle: the live views' scales on light ground.
SCALES = {
    "diverging": ("08306b", "2a6fbb", "86b8e3", "f7f7f5", "f2b380", "d3621b", "7a2a02"),
    "sequential": ("f7f7f5", "c3ddf2", "7fb2e0", "3a7fc4", "174a92", "081f4d"),
    "grey": ("ffffff", "111111"),
}
NAN, PLUS, MINUS = (217, 70, 176), (92, 184, 46), (28, 122, 92)


@functools.cache
def scale(palette: str) -> np.ndarray:
    """256 colours, `(256, 3)` bytes."""
    points = np.array([[int(c[k : k + 2], 16) for k in (0, 2, 4)] for c in SCALES[palette]])
    at = np.linspace(0, len(points) - 1, 256)
    channels = [np.interp(at, np.arange(len(points)), points[:, c]) for c in range(3)]
    return np.stack(channels, axis=1).round().astype(np.uint8)


def css(share: float, palette: str = "diverging") -> str:
    """The colour at a share of the scale, as `#rrggbb`."""
    place = int(np.clip(np.nan_to_num(share, nan=0.5), 0, 1) * 255)
    return "#" + "".join(f"{channel:02x}" for channel in scale(palette)[place])


def robust(stats: Mapping[str, Any]) -> tuple[tuple[float, float], str]:
    """Limits that leave out the last half per cent on each side, and the palette that fits."""
    if "min" not in stats:
        return (0.0, 1.0), "sequential"
    low, high = stats["marks"][0], stats["marks"][-1]
    if not high > low:
        low, high = stats["min"], stats["max"]
    if stats["min"] < 0 < stats["max"]:
        end = max(-low, high) or max(-stats["min"], stats["max"])
        return (-end, end), "diverging"
    if stats["min"] >= 0:
        if 0 < high < stats["max"] / 20:  # a few values far above all others
            high = (high * stats["max"]) ** 0.5
        return (0.0, high if high > 0 else 1.0), "sequential"
    return (low, -low), "diverging"


def lookup(levels: np.ndarray, limits: tuple[float, float], palette: str) -> np.ndarray:
    """The colour of every code, `(256, 3)` bytes."""
    low, high = limits
    share = (levels - low) / (high - low) if high > low else np.full(len(levels), 0.5)
    table = np.zeros((256, 3), np.uint8)
    table[: len(levels)] = scale(palette)[(np.clip(share, 0, 1) * 255).round().astype(int)]
    table[253], table[254], table[255] = MINUS, PLUS, NAN
    return table
