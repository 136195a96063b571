"""A tensor as a still picture, and as a matplotlib figure."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsight_magic.views.array import Plane
from nnsight_magic.views.levels import NAN
from nnsight_magic.views.pooling import numbers
from nnsight_magic.views.still.colours import lookup, robust
from nnsight_magic.views.still.style import frame, image
from nnsight_magic.views.words import number, size_text

if TYPE_CHECKING:
    from nnsight_magic.views.tensor import TensorView

PIXELS = (128, 256)  # at most, down and across
WIDTH, HEIGHT = 560, 320  # of the picture on a page
LARGEST = 24_000  # bytes of an enlarged picture


def html(view: TensorView) -> str:
    """Name, shape, statistics and the picture."""
    array = view.array
    shape = tuple(array.shape)
    head = (
        f"<b>{escape(view.title or 'tensor')}</b> <code>{shape}</code> "
        f'<span class="d">{array.dtype} · {array.device} · {size_text(array.bytes)}</span>'
    )
    stats = view.stats
    facts = [f"{k} {number(stats[k])}" for k in ("min", "mean", "max") if k in stats]
    facts += [f"{stats[k]} {name}" for k, name in (("nan", "NaN"), ("inf", "±∞")) if stats.get(k)]
    below = f'<div class="d">{where(view)} {" · ".join(facts)}</div>'
    picture = first_picture(view)
    if picture is None:
        below_none = "no values" if not array.size else below
        return frame(f"<div>{head}</div>{below_none}")
    codes, levels, shown = picture
    width, height = on_page(*shown)
    drawn = image(sharp(view, codes, levels, width), width, height, f"heat map of {view.text()}")
    return frame(f"<div>{head}</div>{drawn}{below}")


def where(view: TensorView) -> str:
    """Which axes are drawn and where on the others the picture is."""
    names = [
        f"{axis['role']} {k}" if axis["role"] == "axis" else axis["role"]
        for k, axis in enumerate(view.axes)
    ]
    down, across = view.drawn
    if across < 0:
        return ""
    words = f"{names[down]} ↓ {names[across]} →" if down >= 0 else f"{names[across]} →"
    fixed = [
        f"{name} {view.index[k]} (of 0 to {view.array.shape[k] - 1})"
        for k, name in enumerate(names)
        if k not in (down, across) and view.array.shape[k] > 1
    ]
    return escape("; ".join([words, *fixed])) + " · "


def first_picture(view: TensorView) -> tuple[np.ndarray, np.ndarray, tuple[int, int]] | None:
    """Codes, levels, and how many values down and across they show; from what was stored."""
    form = view.stored.get("form")
    if form in ("empty", "none"):
        return None
    low, high = view._first
    if form == "whole":
        plane = _cut(low.codes, view)
        return _pooled(plane, plane), low.levels, plane.shape
    codes = low.codes if high is None else _salient(low.codes, high.codes, low.levels)
    window = view.stored["window"]
    down, across = (max(1, -(-n // most)) for n, most in zip(codes.shape, PIXELS, strict=True))
    return codes[::down, ::across], low.levels, (window[1] - window[0], window[3] - window[2])


def _cut(codes: np.ndarray, view: TensorView) -> np.ndarray:
    if codes.ndim == 0:
        return codes.reshape(1, 1)
    down, across = view.drawn
    place = tuple(slice(None) if k in (down, across) else at for k, at in enumerate(view.index))
    plane = codes[place]
    if plane.ndim == 1:
        return plane[None]
    return plane.T if down > across else plane


def _pooled(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """At most `PIXELS` of the codes: of each block its greatest, NaN above all."""
    down, across = (max(1, -(-n // most)) for n, most in zip(low.shape, PIXELS, strict=True))
    if down == across == 1:
        return low
    rows = np.maximum.reduceat(high, np.arange(0, high.shape[0], down), axis=0)
    return np.maximum.reduceat(rows, np.arange(0, high.shape[1], across), axis=1)


def _salient(low: np.ndarray, high: np.ndarray, levels: np.ndarray) -> np.ndarray:
    """Of each block the end that is further from zero."""
    distance = np.full(256, np.inf)
    distance[: len(levels)] = np.abs(levels)
    return np.where((distance[low] > distance[high]) | (low == NAN), low, high)


def on_page(rows: int, columns: int) -> tuple[int, int]:
    """Width and height of a picture of so many values."""
    cell = min(WIDTH / columns, HEIGHT / rows, 22.0)
    if 1 / 3 < rows / columns < 4:
        return max(8, round(columns * cell)), max(8, round(rows * cell))
    if rows > columns:
        return max(24, round(min(WIDTH, columns * 22))), HEIGHT
    return max(8, round(min(WIDTH, columns * 22))), max(16, round(min(HEIGHT, rows * 14)))


def paint(view: TensorView, codes: np.ndarray, levels: np.ndarray, scale: int = 1) -> bytes:
    """A PNG of `scale` pixels a side for a code, with the view's colours."""
    from PIL import Image

    limits, palette = colouring(view)
    codes = np.repeat(np.repeat(codes, scale, axis=0), scale, axis=1)
    picture = Image.fromarray(np.ascontiguousarray(codes))
    picture.putpalette(lookup(levels, limits, palette).tobytes())
    file = io.BytesIO()
    picture.save(file, "PNG", optimize=False)
    return file.getvalue()


def sharp(view: TensorView, codes: np.ndarray, levels: np.ndarray, width: int) -> bytes:
    """A PNG about `width` wide: what enlarges a small one would blur it where styles are lost."""
    enlarged = paint(view, codes, levels, max(1, round(width / codes.shape[1])))
    return enlarged if len(enlarged) < LARGEST else paint(view, codes, levels)


def colouring(view: TensorView) -> tuple[tuple[float, float], str]:
    limits, palette = robust(view.scale or view.stats)
    if len(view.limits) == 2:
        limits = tuple(view.limits)
    return limits, palette if view.palette == "auto" else view.palette


def png(view: TensorView) -> bytes | None:
    """The picture alone, large enough to be seen."""
    picture = first_picture(view)
    if picture is None:
        return None
    codes, levels, shown = picture
    return sharp(view, codes, levels, on_page(*shown)[0])


def figure(view: TensorView) -> Any:
    """What the view draws, in full, as a matplotlib figure with a colour bar."""
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure

    limits, palette = colouring(view)
    window = list(view.window) or None
    plane: Plane = view.array.plane(view.drawn, view.index, window, (2048, 2048), view.part)
    values = plane.low.values
    if plane.high is not None:
        values = np.where(np.abs(values) > np.abs(plane.high.values), values, plane.high.values)
    elif plane.low.codes.size <= 1 << 20:
        top, bottom, left, right = plane.window
        exact = view.array.slice(view.drawn, view.index, view.part)[top:bottom, left:right]
        values = numbers(exact)
    width, height = on_page(*values.shape)
    drawn = Figure(figsize=(max(3, width / 80) + 1.2, max(1.5, height / 80) + 0.8))
    axes = drawn.subplots()
    from nnsight_magic.views.still.colours import scale

    top, bottom, left, right = plane.window
    shown = axes.imshow(
        values,
        cmap=ListedColormap(scale(palette) / 255),
        vmin=limits[0],
        vmax=limits[1],
        aspect="auto",
        interpolation="nearest",
        extent=(left - 0.5, right - 0.5, bottom - 0.5, top - 0.5),
    )
    drawn.colorbar(shown, ax=axes)
    names = [axis["role"] for axis in view.axes]
    down, across = view.drawn
    axes.set(xlabel=names[across] if across >= 0 else "", ylabel=names[down] if down >= 0 else "")
    axes.set_title(view.title)
    _ticks(view, axes)
    drawn.tight_layout()
    return drawn


def _ticks(view: TensorView, axes: Any) -> None:
    """Tokens as tick labels, where an axis has them and they fit."""
    for axis, direction in zip(view.drawn, (axes.yaxis, axes.xaxis), strict=True):
        labels = view.axes[axis]["labels"] if axis >= 0 else ()
        if 0 < len(labels) <= 48:
            text = [label.strip() or repr(label) for label in labels]
            text = [label.replace("$", r"\$") for label in text]
            rotation = 90 if direction is axes.xaxis else 0
            direction.set_ticks(range(len(labels)), text, rotation=rotation, fontsize=8)
