"""Reads pictures back into numbers: pixels to values through the colour scale."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image
from rich.color import Color
from rich.console import Console

from nnsight_magic.views.data.seen import Drawn
from nnsight_magic.views.still.colours import scale
from nnsight_magic.views.still.half_blocks import text_of
from nnsight_magic.views.still.palette import MINUS, NAN, PLUS
from nnsight_magic.views.still.picture import picture

_CONSOLE = Console()


def values_of(
    colours: np.ndarray, limits: tuple[float, float], palette: str, dark: bool = False
) -> np.ndarray:
    """The value that each colour `(…, 3)` stands for, by the nearest of the scale and the marks."""
    shades = scale(palette, dark).astype(int)
    known = np.concatenate([shades, [NAN, PLUS, MINUS]])
    low, high = limits
    share = np.linspace(0, 1, 256)
    values = np.concatenate([low * (1 - share) + high * share, [np.nan, np.inf, -np.inf]])
    packed, back = np.unique(colours.astype(int) @ (1 << 16, 1 << 8, 1), return_inverse=True)
    distinct = np.stack([packed >> 16, packed >> 8 & 255, packed & 255], 1)
    distance = ((distinct[:, None] - known[None]) ** 2).sum(-1)
    assert distance.min(axis=1).max() <= 30, "a colour that is none of the scale"
    return values[distance.argmin(axis=1)][back.reshape(colours.shape[:-1])]


def still_values(view: Any) -> np.ndarray:
    """The blocks of the still picture, read from the centres of its cells."""
    found = picture(view.seen)
    assert found is not None
    pixels = np.asarray(Image.open(io.BytesIO(found.png)).convert("RGBA"))[..., :3]
    left, top, width, height = found.plot
    plot = pixels[top : top + height, left : left + width]
    return blocks_of(values_of(plot, found.drawn.limits, found.drawn.palette), found.drawn)


def blocks_of(values: np.ndarray, drawn: Drawn) -> np.ndarray:
    """One value a block, from a plot of the whole window."""
    picked = []
    for axis in (0, 1):
        begin, end = drawn.window[2 * axis : 2 * axis + 2]
        pixels, block = values.shape[axis], drawn.block[axis]
        centres = (np.arange(drawn.values.shape[axis]) + 0.5) * block * pixels / (end - begin)
        picked.append(np.minimum(centres.astype(int), pixels - 1))
    return values[np.ix_(*picked)]


def figure_pixels(figure: Any, dpi: int = 100) -> np.ndarray:
    """The plane of a view's figure as it is saved, in colours."""
    file = io.BytesIO()
    figure.savefig(file, dpi=dpi)
    pixels = np.asarray(Image.open(file).convert("RGB"))
    left, bottom, width, height = figure.axes[0].get_position().bounds
    tall, wide = pixels.shape[:2]
    rows = slice(round((1 - bottom - height) * tall), round((1 - bottom) * tall))
    columns = slice(round(left * wide), round((left + width) * wide))
    return pixels[rows, columns]


def figure_values(view: Any, dpi: int = 100) -> np.ndarray:
    """The figure's plane as it is saved, one value a block."""
    figure = view.figure()
    shown = figure.axes[0].images[0]
    palette = _palette_of(shown.cmap(np.linspace(0, 1, 256))[:, :3])
    values = values_of(figure_pixels(figure, dpi), shown.get_clim(), palette)
    picked = [
        ((np.arange(n) + 0.5) * pixel / n).astype(int)
        for n, pixel in zip(shown.get_array().shape, values.shape, strict=True)
    ]
    return values[np.ix_(*picked)]


def _palette_of(colours: np.ndarray) -> str:
    return next(
        name
        for name in ("diverging", "sequential", "grey")
        if np.abs(scale(name) / 255 - colours).max() < 0.01
    )


def console_values(tensor: Any, width: int = 80, scale_too: bool = False) -> Any:
    """The squares of the console's map of a matrix, or of the first of several; with `scale_too`
    the limits and the palette as well."""
    text = text_of(tensor, width)
    assert text is not None
    head, *lines = text.split("\n")
    ends = [float(part.replace("≤ ", "").replace("≥ ", "")) for part in _ends(head.plain)]
    palette = "diverging" if ends[0] < 0 else "sequential"
    rows = []
    for line in lines:
        pairs = [str(line.get_style_at_offset(_CONSOLE, k)) for k in range(len(line.plain))]
        if "▀" not in line.plain:
            if rows:
                break  # another matrix
            continue
        pairs = pairs[: line.plain.find(" ")] if " " in line.plain else pairs
        rows += [[_rgb(pair.split(" on ")[place]) for pair in pairs] for place in (0, -1)]
    limits = ends[0], ends[1]
    values = values_of(np.array(rows, np.uint8), limits, palette)
    return (values, limits, palette) if scale_too else values


def _ends(head: str) -> list[str]:
    """`… from 0 to 1   ≤ 0 ███ ≥ 1   a square: 2 × 3`: what stands beside the scale."""
    before, after = head.split("█" * 12)
    return [before.split("   ")[-1].strip(), after.split("   ")[0].strip()]


def _rgb(name: str) -> tuple[int, int, int]:
    colour = Color.parse(name).get_truecolor()
    return colour.red, colour.green, colour.blue
