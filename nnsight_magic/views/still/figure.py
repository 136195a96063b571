"""What a tensor view shows, as a matplotlib figure."""

from __future__ import annotations

import functools
import io
from typing import Any

import numpy as np

from nnsight_magic.views.data.seen import Drawn, Seen, cut_of, drawn_by
from nnsight_magic.views.data.words import number
from nnsight_magic.views.still.colour_maps import COLOUR_MAPS
from nnsight_magic.views.still.layout import plot_size
from nnsight_magic.views.still.palette import MINUS, NAN, PLUS
from nnsight_magic.views.still.picture import Names, names_of
from nnsight_magic.views.still.tensor import heading

WIDTH, HEIGHT = 560, 400  # pixels of the plane at most
DPI = 100
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
    marked = not np.isfinite(drawn.values).all()
    sheet, axes, bar = _sheet(names, width, height, _plain(heading(seen)), marked)
    shown = _draw(axes, drawn)
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


def _sheet(names: Names, width: int, height: int, title: str, marked: bool) -> tuple[Any, Any, Any]:
    """The figure, the axes of the plane, of that many pixels, and those of the scale."""
    row = max((len(text) for _, text in names.rows), default=0) * LETTER
    column = max((len(text) for _, text in names.columns), default=1) * LETTER
    left = round(row + (LINE + 8) * bool(names.down) + 14)
    right = 110 + 50 * marked
    below = round((column if names.upright else LINE) + (LINE + 4) * bool(names.across) + 10)
    tall = max(height, 60)
    total_width, total_height = (
        max(left + width + right, round(20 + len(title) * LETTER)),
        below + tall + 34,
    )
    sheet = _figure()(figsize=(total_width / DPI, total_height / DPI), dpi=DPI)
    sheet.text(8 / total_width, 1 - 8 / total_height, title, fontsize=10, va="top")
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


def _draw(axes: Any, drawn: Drawn) -> Any:
    """The values, and over them the marks of what is no number."""
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
    shown = axes.imshow(values, cmap=colours, vmin=low, vmax=high, **options)
    kinds = ((np.isnan(values), NAN, "NaN"), (values == np.inf, PLUS, "∞"))
    kinds += ((values == -np.inf, MINUS, "−∞"),)
    marks = np.zeros((*values.shape, 4), np.uint8)
    legend = []
    for marked, colour, name in kinds:
        if marked.any():
            marks[marked] = (*colour, 255)
            red, green, blue = (each / 255 for each in colour)
            legend.append(Patch(color=(red, green, blue), label=name))
    if legend:
        axes.imshow(marks, **options)
        axes.figure.legend(
            handles=legend, loc="upper right", fontsize=8, frameon=False, handlelength=1
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
