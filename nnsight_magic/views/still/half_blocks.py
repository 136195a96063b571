"""Matrices as small maps for a terminal: two rows of numbers in one line of text.

Half a character is about a square, so a map has the matrix's own proportions. What does not fit is
pooled. Colours, limits and what is drawn of a block are those of the views.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from rich.text import Text

import nnsight_magic.terminal as terminal
from nnsight_magic.views.data.colouring import automatic, marks_of, outside, standing_out
from nnsight_magic.views.data.dense import as_tensor
from nnsight_magic.views.data.pooling import pool
from nnsight_magic.views.data.roles import Axis, drawn_axes
from nnsight_magic.views.data.words import visible
from nnsight_magic.views.still.colours import colours_of, scale

ROWS = 40  # of numbers at most: twenty lines
ZOOMED = 40  # a small matrix is drawn larger, up to this many characters across and rows down
FEW = 12  # so few numbers are better read than looked at
EMPTY = 0x70  # grey, of what was not computed
GAP = 2  # characters between matrices
PROMPTS, WORDS = 8, 200  # whose tokens are written, and how many of them


def terminal_map(
    value: Any,
    axes: Sequence[Axis] = (),
    limits: Sequence[float] = (),
    palette: str = "auto",
    empty: str = "",
) -> str | None:
    """A matrix, or several of one size, as a small map in a terminal; `None` for all else.

    Args:
        axes: named below it, with the words that they have.
        limits, palette: of the colours, where they are not the tensor's own.
        empty: what NaN stands for where it is no number that was computed.
    """
    if not hasattr(value, "untyped_storage") or not terminal.in_terminal():
        return None
    width = terminal.width()
    drawn = text_of(value, width, axes, limits, palette, empty)
    return None if drawn is None else terminal.printed(drawn, width, colour=True)


def text_of(
    tensor: Any,
    width: int,
    axes: Sequence[Axis] = (),
    limits: Sequence[float] = (),
    palette: str = "auto",
    empty: str = "",
) -> Text | None:
    """A real tensor as a map: of rank 1 as one line, of rank 3 as several maps, beside each other
    where they are narrow, else below each other; axes of size 1 aside.

    `None` for all else, and where there are few numbers.
    """
    if tensor.is_nested or tensor.is_meta or tensor.numel() <= FEW or tensor.is_complex():
        return None
    tensor = as_tensor(tensor)
    shape = [size for size in tensor.shape if size != 1]
    if len(shape) not in (1, 2, 3):
        return None
    shape = [1] * (len(shape) == 1) + shape
    planes = tensor.detach().reshape(-1, *shape[-2:])
    down, across = -(-shape[-2] // ROWS), -(-shape[-1] // width)
    columns = -(-shape[-1] // across)
    fit = max(1, (width + GAP) // (columns + GAP))
    shown = fit if fit > 1 else max(1, ROWS * down // shape[-2])
    pairs = [pool(plane, down, across)[:2] for plane in planes[:shown]]
    low, high = (np.stack(each) for each in zip(*pairs, strict=True))
    fitted = _limits(low, high, pooled=down * across > 1)
    ends = (float(limits[0]), float(limits[1])) if len(limits) == 2 else fitted[0]
    scale_of = ends, fitted[1] if palette == "auto" else palette
    small = standing_out(low, high, *scale_of)
    drawn = [_colours(_zoomed(each, len(planes)), *scale_of, empty) for each in small]
    text = _head(tensor, low, high, scale_of, empty)
    if down * across > 1:
        text.append(f"   a square: {down} × {across}", style="dim")
    text.append("\n")
    for begin in range(0, len(drawn), fit):
        text.append("\n" * bool(begin))
        for top in range(0, len(drawn[0]), 2):
            for place, colours in enumerate(drawn[begin : begin + fit]):
                text.append(" " * GAP * bool(place))
                _line(text, colours[top], colours[top + 1] if top + 1 < len(colours) else None)
            text.append("\n")
    if len(planes) > len(drawn):
        text.append(f"{len(drawn)} of {len(planes)} are shown\n", style="dim")
    for line in _words(axes):
        text.append(f"{line}\n", style="dim")
    return text


def _words(axes: Sequence[Axis]) -> Iterator[str]:
    """The names of the axes that are drawn, and the words along them."""
    down, across = drawn_axes(axes)
    if across < 0 or all(axis.role == "axis" for axis in axes):
        return
    arrows = ((down, "↓"), (across, "→"))
    names = [
        f"{f'axis {k}' if axes[k].role == 'axis' else axes[k].role} {arrow}"
        for k, arrow in arrows
        if k >= 0
    ]
    yield "  ".join(names)
    for axis in dict.fromkeys(axes[k].rows or (axes[k].labels,) for k, _ in arrows if k >= 0):
        for row in axis[:PROMPTS]:
            if row:
                yield "|".join(map(visible, row[:WORDS])) + " …" * (len(row) > WORDS)
        if len(axis) > PROMPTS:
            yield f"… and {len(axis) - PROMPTS} more prompts"


def _limits(low: np.ndarray, high: np.ndarray, pooled: bool) -> tuple[tuple[float, float], str]:
    """Of what is shown: the full range, where every value can be seen."""
    finite = np.concatenate([each[np.isfinite(each)] for each in (low, high)]).astype(np.float64)
    if not finite.size:
        return automatic({}, (1, 1))
    stats: dict[str, Any] = {"min": finite.min(), "max": finite.max()}
    if not pooled:
        return automatic(stats, (1, 1))
    stats["drawn"] = marks_of(standing_out(low, high, *automatic(stats, (1, 1))))
    return automatic(stats, (np.inf, np.inf))


def _zoomed(values: np.ndarray, planes: int) -> np.ndarray:
    """A small matrix larger: each number two or more squares a side, a vector two high."""
    if values.shape[0] == 1:
        return values.repeat(2, 0)
    times = max(1, min(4, ZOOMED // max(values.shape))) if planes == 1 else 1
    return values.repeat(times, 0).repeat(times, 1)


def _colours(
    values: np.ndarray, limits: tuple[float, float], palette: str, empty: str
) -> list[list[str]]:
    channels = colours_of(values, limits, palette)
    if empty:
        channels = np.where(np.isnan(values)[..., None], EMPTY, channels)
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
    low: np.ndarray,
    high: np.ndarray,
    scale_of: tuple[tuple[float, float], str],
    empty: str,
) -> Text:
    """`(9, 576) from -11.8 to 14.4` and the scale, marked where values lie outside."""
    limits, palette = scale_of
    finite = np.concatenate([each[np.isfinite(each)] for each in (low, high)])
    text = Text(f"{tuple(tensor.shape)} ")
    if finite.size:
        text.append(f"from {finite.min():.3g} to {finite.max():.3g}")
    below, above = outside(finite, limits)
    text.append(f"   {'≤ ' * below}{limits[0]:.3g} ", style="dim")
    for colour in scale(palette)[:: 256 // 12][:12].tolist():
        text.append("█", style="#" + "".join(f"{c:02x}" for c in colour))
    text.append(f" {'≥ ' * above}{limits[1]:.3g}", style="dim")
    nan = f"grey: {empty}" if empty else "NaN"
    for marked, name in (
        (np.isnan(low), nan),
        (np.isinf(low) | np.isinf(high), "±∞"),
    ):
        if marked.any():
            text.append(f"   with {name}", style="dim")
    return text
