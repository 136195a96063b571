"""Matrices as small maps for a terminal: two rows of numbers in one line of text.

Half a character is about a square, so a map has the matrix's own proportions. What does not fit is
pooled, each block by its value of greatest magnitude, so that no spike is lost. Colours are those
of the views.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from rich.text import Text

from nnsight_magic.views.pooling import pool
from nnsight_magic.views.still.colours import NAN, robust, scale

ROWS = 40  # of numbers at most: twenty lines
ZOOMED = 40  # a small matrix is drawn larger, up to this many characters across and rows down
FEW = 12  # so few numbers are better read than looked at
GAP = 2  # characters between matrices
MARKS = (0.005, 0.995)  # colours leave out what lies outside, as in the views


def text_of(tensor: Any, width: int) -> Text | None:
    """A real tensor as a map, of rank 3 as several, beside each other where they are narrow, else
    below each other; axes of size 1 aside.

    `None` for all else, and where there are few numbers.
    """
    shape = [size for size in tensor.shape if size != 1]
    if len(shape) not in (2, 3) or tensor.numel() <= FEW or tensor.is_complex():
        return None
    planes = tensor.detach().reshape(-1, *shape[-2:])
    down, across = -(-shape[-2] // ROWS), -(-shape[-1] // width)
    columns = -(-shape[-1] // across)
    fit = max(1, (width + GAP) // (columns + GAP))
    shown = fit if fit > 1 else max(1, ROWS * down // shape[-2])
    small = [_pooled(plane, down, across) for plane in planes[:shown]]
    limits, palette = _limits(np.stack(small))
    drawn = [_colours(_zoomed(each, len(planes)), limits, palette) for each in small]
    text = _head(tensor, small, down, across, limits, palette)
    for begin in range(0, len(drawn), fit):
        text.append("\n" * bool(begin))
        for top in range(0, len(drawn[0]), 2):
            for place, colours in enumerate(drawn[begin : begin + fit]):
                text.append(" " * GAP * bool(place))
                _line(text, colours[top], colours[top + 1] if top + 1 < len(colours) else None)
            text.append("\n")
    if len(planes) > len(drawn):
        text.append(f"{len(drawn)} of {len(planes)} are shown\n", style="dim")
    return text


def _pooled(plane: Any, down: int, across: int) -> np.ndarray:
    low, high, _ = pool(plane, down, across)
    low, high = low.astype(float), high.astype(float)
    return np.where(np.abs(low) > np.abs(high), low, high)


def _zoomed(values: np.ndarray, planes: int) -> np.ndarray:
    """A small matrix larger: each number two or more squares a side."""
    times = max(1, min(4, ZOOMED // max(values.shape))) if planes == 1 else 1
    return values.repeat(times, 0).repeat(times, 1)


def _limits(values: np.ndarray) -> tuple[tuple[float, float], str]:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return (0.0, 1.0), "sequential"
    marks = np.quantile(finite, MARKS).tolist()
    return robust({"min": float(finite.min()), "max": float(finite.max()), "marks": marks})


def _colours(values: np.ndarray, limits: tuple[float, float], palette: str) -> list[list[str]]:
    low, high = limits
    span = (high - low) or 1.0
    share = np.clip(np.nan_to_num((values - low) / span, nan=0.0), 0, 1)
    channels = scale(palette)[(share * 255).round().astype(int)]
    channels[np.isnan(values)] = NAN
    return [["#" + "".join(f"{c:02x}" for c in pixel) for pixel in row] for row in channels]


def _line(text: Text, upper: list[str], lower: list[str] | None) -> None:
    """One line of text; neighbours of one colour are one stretch."""
    styles = [f"{top} on {below}" for top, below in zip(upper, lower or upper, strict=True)]
    if lower is None:
        styles = upper
    begin = 0
    for at in range(1, len(styles) + 1):
        if at == len(styles) or styles[at] != styles[begin]:
            text.append("▀" * (at - begin), style=styles[begin])
            begin = at


def _head(
    tensor: Any,
    small: list[np.ndarray],
    down: int,
    across: int,
    limits: tuple[float, float],
    palette: str,
) -> Text:
    """`(9, 576) from -11.8 to 14.4`, the scale, and what one square stands for."""
    values = np.stack(small)
    finite = values[np.isfinite(values)]
    text = Text(f"{tuple(tensor.shape)} ")
    if finite.size:
        text.append(f"from {finite.min():.3g} to {finite.max():.3g}")
    text.append(f"   {limits[0]:.3g} ", style="dim")
    for colour in scale(palette)[:: 256 // 12][:12].tolist():
        text.append("█", style="#" + "".join(f"{c:02x}" for c in colour))
    text.append(f" {limits[1]:.3g}", style="dim")
    if down * across > 1:
        text.append(f"   a square: {down} × {across}", style="dim")
    return text.append("\n")
