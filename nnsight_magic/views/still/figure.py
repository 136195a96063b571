"""What a tensor view shows, as a matplotlib figure."""

from __future__ import annotations

import functools
import io
import textwrap
from typing import Any

import numpy as np

from nnsight_magic.views.data.seen import Drawn, Seen, cut_of, drawn_by
from nnsight_magic.views.data.words import number
from nnsight_magic.views.still.colour_maps import COLOUR_MAPS
from nnsight_magic.views.still.layout import plot_size
from nnsight_magic.views.still.palette import MINUS, NAN, PLUS
from nnsight_magic.views.still.picture import Bars, Names, bars_of, names_of
from nnsight_magic.views.still.tensor import heading, measured

WIDTH, HEIGHT = 560, 400  # pixels of the plane at most
DPI = 100
CELLS = 1 << 13  # values that are drawn as shapes
LETTER = 7.0  # pixels of one, about
LINE = 15


def figure(seen: Seen) -> Any:
    """A figure with axes, title and colour scale; the plane has a pixel for every block.

    Blocks are as many as the plane has pixels at 100 dots an inch, and none is lost at more.
    """
    if not seen.tensor.array.size:
        return _empty(seen)
    top, bottom, left, right = cut_of(seen).window
    width, height = plot_size(WIDTH, HEIGHT, bottom - top, right - left)
    drawn = drawn_by(seen, (height, width))
    if drawn is None:
        return _empty(seen, "the tensor is gone, and no picture of it was stored")
    names = names_of(seen, drawn, width, height)
    bars = bars_of(seen, drawn)
    if bars is not None:
        return _barred(seen, drawn, names, bars)
    marked = not np.isfinite(drawn.values).all()
    sheet, axes, bar = _sheet(names, width, height, _plain(heading(seen)), marked)
    shown = _draw(axes, drawn, seen.empty, cells=measured(seen))
    extend = ("neither", "max", "min", "both")[drawn.outside[1] + 2 * drawn.outside[0]]
    sheet.colorbar(shown, cax=bar, extend=extend)
    if _unit(drawn) > 1:
        ends = np.array(drawn.limits) / _unit(drawn)
        bar.set_yticks(ends, [number(each) for each in drawn.limits])
    axes.set(xlabel=names.across, ylabel=names.down)
    axes.set_yticks([at for at, _ in names.rows], [_plain(text) for _, text in names.rows])
    axes.set_xticks(
        [at for at, _ in names.columns],
        [_plain(text) for _, text in names.columns],
        rotation=90 if names.upright else 0,
    )
    axes.tick_params(labelsize=8, length=0)
    bar.tick_params(labelsize=8)
    # A frame, or a tick's end, would cover a part of the outermost rows and columns.
    for spine in axes.spines.values():
        spine.set_visible(False)
    return sheet


@functools.cache
def _figure() -> type:
    """matplotlib's figure, which a notebook shows as a cell's last line without pyplot, too."""
    from matplotlib.figure import Figure

    class ShownFigure(Figure):
        def _repr_png_(self) -> bytes:
            file = io.BytesIO()
            self.savefig(file, format="png")
            return file.getvalue()

    return ShownFigure


def new_figure(inches: tuple[float, float]) -> Any:
    """An empty figure of that size which lays itself out and shows itself as a cell's last line."""
    return _figure()(figsize=inches, dpi=DPI, layout="constrained")


def _sheet(names: Names, width: int, height: int, title: str, marked: bool) -> tuple[Any, Any, Any]:
    """The figure, the axes of the plane, of that many pixels, and those of the scale."""
    row = max((len(text) for _, text in names.rows), default=0) * LETTER
    column = max((len(text) for _, text in names.columns), default=1) * LETTER
    left = round(row + (LINE + 8) * bool(names.down) + 14)
    right = 110 + 50 * marked
    below = round((column if names.upright else LINE) + (LINE + 4) * bool(names.across) + 10)
    tall = max(height, 60)
    total_width = left + width + right
    lines = textwrap.wrap(title, max(24, int((total_width - 16) / LETTER)))
    total_height = below + tall + 20 + 14 * max(1, len(lines))
    sheet = _figure()(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    head = "\n".join(lines)
    sheet.text(8 / total_width, 1 - 8 / total_height, head, fontsize=10, va="top")
    low = (below + tall - height) / total_height
    wide = 1 / total_width
    axes = sheet.add_axes((left * wide, low, width * wide, height / total_height), label="plane")
    bar = sheet.add_axes(
        (
            (left + width + 28) * wide,
            below / total_height,
            12 * wide,
            tall / total_height,
        ),
        label="scale",
    )
    return sheet, axes, bar


def _barred(seen: Seen, drawn: Drawn, names: Names, bars: Bars) -> Any:
    """Bars instead of a map, on axes with numbers."""
    count = len(drawn.values[0])
    wide = min(WIDTH, max(16 * count, 220)) + 100
    sheet = _figure()(figsize=(wide / DPI, 3.0), dpi=DPI, layout="constrained")
    axes = sheet.subplots()
    palette = "diverging" if drawn.palette == "diverging" else drawn.palette
    colours = COLOUR_MAPS[f"nnsight_magic.{palette}"]
    values = drawn.values[0].astype(np.float64)
    ends = (0.19, 0.81) if palette == "diverging" else (0.59, 0.59)
    left = drawn.window[2]
    places = np.arange(left, left + count)
    off = np.array(bars.spread[left : left + count]) if bars.spread else None
    axes.bar(
        places,
        values,
        0.8,
        color=[colours(ends[int(value >= 0)]) for value in np.nan_to_num(values)],
        yerr=off,
        error_kw={"elinewidth": 0.8, "capsize": 2},
    )
    axes.axhline(0, color="0.4", linewidth=0.6)
    room = 0.04 * (bars.reach[1] - bars.reach[0])
    ends_of_y = [end + room * np.sign(end) for end in bars.reach]
    axes.set(xlabel=names.across, ylim=ends_of_y, xlim=(left - 0.6, left + count - 0.4))
    axes.set_title(_plain(heading(seen)), fontsize=10, loc="left", wrap=True)
    axes.set_xticks(
        [at for at, _ in names.columns],
        [_plain(text) for _, text in names.columns],
        rotation=90 if names.upright else 0,
    )
    axes.tick_params(labelsize=8)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    return sheet


def _draw(axes: Any, drawn: Drawn, empty: str, *, cells: bool) -> Any:
    """The values, and over them the marks of what is no number.

    Args:
        empty: what NaN stands for where it is no number that was computed.
        cells: draw each value as a shape of its own, which no reader of PDF blurs.
    """
    from matplotlib.patches import Patch

    values = drawn.values.astype(np.float64) / _unit(drawn)
    low, high = np.array(drawn.limits) / _unit(drawn)
    top, _, left, _ = drawn.window
    # The last block may stand for fewer values than the others; it is as wide all the same.
    bottom, right = (
        begin + count * block
        for begin, count, block in zip((top, left), values.shape, drawn.block, strict=True)
    )
    extent = (left - 0.5, right - 0.5, bottom - 0.5, top - 0.5)
    colours = COLOUR_MAPS[f"nnsight_magic.{drawn.palette}"]
    options = {"aspect": "auto", "interpolation": "nearest", "extent": extent}
    if empty:  # what was not computed is hatched ground
        colours = colours.with_extremes(bad=(1, 1, 1, 0))
        axes.patch.set(facecolor="white", hatch="////", edgecolor="0.8", linewidth=0)
    shown = axes.imshow(values, cmap=colours, vmin=low, vmax=high, **options)
    if cells and values.size <= CELLS:
        edges = [
            np.linspace(begin - 0.5, end - 0.5, count + 1)
            for begin, end, count in zip((top, left), (bottom, right), values.shape, strict=True)
        ]
        # Over the image, which some readers of PDF blur; it shows through the hairlines between
        # shapes that others leave.
        axes.pcolormesh(
            *(edges[1], edges[0], np.ma.masked_invalid(values)),
            cmap=colours,
            vmin=low,
            vmax=high,
            antialiased=False,
        )
        axes.set(xlim=(left - 0.5, right - 0.5), ylim=(bottom - 0.5, top - 0.5))
    kinds = ((np.isnan(values), NAN, "NaN"), (values == np.inf, PLUS, "∞"))
    kinds += ((values == -np.inf, MINUS, "−∞"),)
    marks = np.zeros((*values.shape, 4), np.uint8)
    legend = []
    for marked, colour, name in kinds:
        if name == "NaN" and empty and marked.any():
            legend.append(Patch(facecolor="white", edgecolor="0.8", hatch="////", label=empty))
        elif marked.any():
            marks[marked] = (*colour, 255)
            red, green, blue = (each / 255 for each in colour)
            legend.append(Patch(color=(red, green, blue), label=name))
    if legend:
        axes.imshow(marks, **options)
        axes.figure.legend(
            handles=legend, loc="lower right", fontsize=8, frameon=False, handlelength=1
        )
    return shown


def _unit(drawn: Drawn) -> float:
    """By what values are divided whose differences are no numbers."""
    return 1.0 if np.isfinite(drawn.limits[1] - drawn.limits[0]) else 4.0


def _plain(text: str) -> str:
    """Text that matplotlib takes for text."""
    return text.replace("$", r"\$")


def _empty(seen: Seen, words: str = "no values: an axis of it has length 0") -> Any:
    sheet = _figure()(figsize=(4, 1), dpi=DPI)
    sheet.text(0.02, 0.7, _plain(heading(seen)), fontsize=10)
    sheet.text(0.02, 0.3, words, fontsize=9)
    return sheet
