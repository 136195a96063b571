"""A heat map as a PNG with its axes, its scale and, where it is alone, its title.

It is drawn at its own size, since what enlarges a picture where a page's styles are lost would
blur it. Around the map it is transparent and its words are grey: on light ground and on dark.
"""

from __future__ import annotations

import functools
import importlib.util
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nnsight_magic.views.data.bars import barred, reach_of
from nnsight_magic.views.data.colouring import places
from nnsight_magic.views.data.seen import Drawn, Seen, axes_of, cut_of, drawn_by
from nnsight_magic.views.data.wire import AxisState
from nnsight_magic.views.data.words import number, visible
from nnsight_magic.views.still.colours import scale
from nnsight_magic.views.still.layout import plot_size, ticks
from nnsight_magic.views.still.palette import MINUS, NAN, PLUS

WIDTH, HEIGHT = 560, 320  # of a map at most
CELLS = 1 << 15  # blocks of a picture at most
LINE = 14  # pixels
BAR = 10
GAP = 26
LONGEST = 14  # characters of a name
# A picture has 256 colours: so many shades of the scale, three marks, nothing, and grey in steps.
SHADES = 240
MINUS_AT, PLUS_AT, NAN_AT, NOTHING = range(SHADES, SHADES + 4)
INKS = 12
INK = (125, 125, 125)
FULL = 255  # the code of ink
BARS_HEIGHT = 130
BELOW, ABOVE, ONE_SIDED = 45, 194, 141  # the shades of bars: well inside of the scale's ends


@dataclass(frozen=True)
class Names:
    """What is beside a plane: the axes' names, and names at places, in values."""

    down: str
    across: str
    rows: list[tuple[int, str]]
    columns: list[tuple[int, str]]
    upright: bool  # the columns' names stand upright


def names_of(seen: Seen, drawn: Drawn, width: float, height: float) -> Names:
    """Tokens where an axis has them, numbers elsewhere, as many as have room."""
    axes, order = axes_of(seen), drawn.cut.order
    down, across = drawn.cut.drawn
    top, bottom, left, right = drawn.window
    columns = range(right) if order is None else order.tolist()
    rows = _words(seen, axes, down, range(top, bottom), height)
    words = _words(seen, axes, across, columns[left:right], width)
    if order is not None:
        words = {at: str(at) for at in columns[left:right]} | words
    upright = any(len(each) > 3 for each in words.values())
    apart = LINE if upright else 16 + 7 * len(str(right - 1))
    at_rows = ticks(top, bottom, height, LINE) if down >= 0 else []
    at_columns = ticks(left, right, width, apart) if across >= 0 else []
    return Names(
        _named(axes, down),
        _named(axes, across) + (", by norm" if order is not None else ""),
        [(at, _label(rows, at)) for at in at_rows],
        [(at, _label(words, columns[at])) for at in at_columns],
        upright,
    )


def _words(
    seen: Seen, axes: Sequence[AxisState], axis: int, places: Sequence[int], pixels: float
) -> dict[int, str]:
    """The words of places along an axis; those of a vocabulary where each place has room for its
    own: between numbers one finds one's way better."""
    if axis < 0:
        return {}
    if axes[axis]["role"] == "vocabulary" and len(places) * LINE <= pixels:
        found = {at: seen.tensor.labels.spelled(at) for at in places}
        return {at: word for at, word in found.items() if word is not None}
    labels = axes[axis]["labels"]
    return {at: labels[at] for at in places if at < len(labels)} if labels else {}


def _named(axes: Sequence[AxisState], axis: int) -> str:
    if axis < 0:
        return ""
    role = axes[axis]["role"]
    return f"axis {axis}" if role == "axis" else role


def _label(words: Mapping[int, str], at: int) -> str:
    text = visible(words[at]) if at in words else str(at)
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def room_for(seen: Seen, cells: int) -> tuple[int, int]:
    """Rows and columns of blocks that a picture of so many may have."""
    top, bottom, left, right = cut_of(seen).window
    width, height = plot_size(WIDTH, HEIGHT, bottom - top, right - left)
    rows, columns = min(height, bottom - top), min(width, right - left)
    excess = max(1.0, (rows * columns / cells) ** 0.5)
    return max(1, int(rows / excess)), max(1, int(columns / excess))


@dataclass(frozen=True)
class Still:
    """A picture: its PNG and its size, what it shows, and where in it the map lies, as left, top,
    width and height."""

    png: bytes
    size: tuple[int, int]
    drawn: Drawn
    plot: tuple[int, int, int, int]


def picture(seen: Seen, title: str = "", most: int = CELLS) -> Still | None:
    """What the view shows now, in at most so many blocks; `None` where there is nothing to show."""
    cells = min(seen.tensor.cells, most)
    drawn = drawn_by(seen, room_for(seen, cells)) if seen.tensor.array.size and cells else None
    if drawn is None:
        return None
    top, bottom, left, right = drawn.window
    bars = bars_of(seen, drawn)
    size = plot_size(WIDTH, HEIGHT, bottom - top, right - left)
    if bars is not None:
        size = (min(WIDTH, max(16 * (right - left), 220)), BARS_HEIGHT)
    width, height = (max(px, n) for px, n in zip(size, drawn.values.shape[::-1], strict=True))
    names = names_of(seen, drawn, width, height)
    sheet = _Sheet(drawn, names, (width, height), title, bars, seen.empty)
    return Still(sheet.png(), sheet.size, drawn, (round(sheet.left), sheet.top, width, height))


@dataclass(frozen=True)
class Bars:
    """A row that is drawn as bars.

    Attributes:
        reach: the values at the lower and the upper edge.
        spread: of each place of the axis how far its bar may be off; none where that is not known.
    """

    reach: tuple[float, float]
    spread: tuple[float, ...]

    def pixel(self, value: float, height: int) -> int:
        """How far below the upper edge a value is, in pixels."""
        low, high = self.reach
        return round((high - min(high, max(low, value))) / (high - low) * height)


def bars_of(seen: Seen, drawn: Drawn) -> Bars | None:
    """The bars that a row is drawn as; `None` where it is a map."""
    if not barred(drawn.cut.drawn, drawn.cut.size) or seen.tensor.array.complex:
        return None
    return Bars(reach_of(seen.scale or seen.tensor.stats, seen.limits), seen.spread)


def codes_of(values: np.ndarray, drawn: Drawn) -> np.ndarray:
    """Which of the picture's colours each value has."""
    codes = places(values, drawn.limits, SHADES)
    for marked, code in (
        (np.isnan(values), NAN_AT),
        (values == np.inf, PLUS_AT),
        (values == -np.inf, MINUS_AT),
    ):
        codes[marked] = code
    return codes.astype(np.uint8)


class _Sheet:
    """Lays out and draws one picture."""

    def __init__(
        self,
        drawn: Drawn,
        names: Names,
        plot: tuple[int, int],
        title: str,
        bars: Bars | None,
        empty: str,
    ) -> None:
        self.drawn, self.names, self.title = drawn, names, title
        self.width, self.height = plot
        self.bars, self.empty = bars, empty
        row = max((_wide(text) for _, text in names.rows), default=0)
        if bars is not None:
            row = max(_wide(number(each)) for each in bars.reach)
        column = max((_wide(text) for _, text in names.columns), default=0)
        self.left = row + 6 + (LINE + 5) * bool(names.down)
        self.top = 5 + (LINE + 4) * bool(title)
        below = (column if names.upright else LINE) + 5 if names.columns else 2
        self.ends = [_end(drawn, k) for k in (0, 1)]
        bar = GAP + BAR + 5 + max(_wide(text) for text in self.ends) if bars is None else 4
        self.bar_height = max(self.height, 2 * LINE + 8)
        self.marks = _marks(drawn.values, empty)
        total = max(self.height + below + (LINE + 2) * bool(names.across), self.bar_height + 6)
        self.legend = round(self.top + total + 4)
        total += (LINE + 4) * bool(self.marks)
        wide = max(self.left + self.width + bar, _wide(title) + 4)
        self.size = (round(wide) + 2, round(self.top + total))

    def png(self) -> bytes:
        from PIL import Image

        codes = np.full(self.size[::-1], NOTHING, np.uint8)
        ink = self._words()
        inked = (ink.astype(int) * (INKS - 1) + 127) // 255
        codes[inked > 0] = (256 - INKS + inked)[inked > 0]
        left, top = round(self.left), self.top
        plot = codes[top : top + self.height, left : left + self.width]
        if self.bars is not None:
            plot[:] = np.where(plot == NOTHING, self._as_bars(self.bars), plot)
        else:
            plot[:] = self._as_map()
            x = left + self.width + GAP
            bar = np.linspace(SHADES - 1, 0, self.bar_height).round().astype(np.uint8)
            codes[top : top + self.bar_height, x : x + BAR] = bar[:, None]
        for x, (code, _) in self._legend():
            patch = codes[self.legend + 1 : self.legend + 11, x : x + 10]
            patch[:] = _hatched(patch.shape) if code == NOTHING else code
        image = Image.fromarray(codes)
        shades = scale(self.drawn.palette)[np.linspace(0, 255, SHADES).round().astype(int)]
        rest = [MINUS, PLUS, NAN, (255, 255, 255), *[INK] * INKS]
        image.putpalette(np.concatenate([shades, rest]).astype(np.uint8).tobytes())
        alpha = [255] * (SHADES + 3) + [0] + [k * 255 // (INKS - 1) for k in range(INKS)]
        file = io.BytesIO()
        image.save(file, "PNG", transparency=bytes(alpha), compress_level=6)
        return file.getvalue()

    def _as_map(self) -> np.ndarray:
        """The plot's pixels as codes; where nothing was computed, strokes."""
        at = codes_of(self.drawn.values, self.drawn)
        blocks = np.ix_(
            self._blocks(self.height, 0, at.shape[0]), self._blocks(self.width, 1, at.shape[1])
        )
        codes = at[blocks]
        if self.empty:
            codes = np.where(codes == NAN_AT, _hatched(codes.shape), codes)
        return codes

    def _as_bars(self, bars: Bars) -> np.ndarray:
        """The plot as codes: a bar for each value, from 0 on, and how far it may be off."""
        plot = np.full((self.height, self.width), NOTHING, np.uint8)
        values, left = self.drawn.values[0].astype(np.float64), self.drawn.window[2]
        below, above = BELOW, ABOVE
        if self.drawn.palette != "diverging":
            below = above = ONE_SIDED
        zero = bars.pixel(0.0, self.height)
        wide = self.width / len(values)
        gap = min(6.0, 0.18 * wide) if wide > 4 else 0.0
        for k, value in enumerate(values):
            begin, end = round(k * wide + gap / 2), round((k + 1) * wide - gap / 2)
            columns = slice(begin, max(begin + 1, end))
            if np.isnan(value):
                part = plot[:, columns]
                part[:] = _hatched(part.shape) if self.empty else NAN_AT
                continue
            rows = sorted((zero, bars.pixel(value, self.height)))
            plot[rows[0] : max(rows[0] + 1, rows[1]), columns] = above if value >= 0 else below
            off = bars.spread[left + k] if left + k < len(bars.spread) else np.nan
            if np.isfinite(off):
                top, bottom = (bars.pixel(each, self.height) for each in (value + off, value - off))
                middle = round((k + 0.5) * wide)
                plot[top : bottom + 1, middle] = FULL
                for row in (top, min(bottom, self.height - 1)):
                    plot[row, max(0, middle - 2) : middle + 3] = FULL
        row = min(zero, self.height - 1)
        plot[row] = np.where(plot[row] == NOTHING, FULL, plot[row])
        return plot

    def _legend(self) -> Iterator[tuple[int, tuple[int, str]]]:
        """The marks of NaN and infinities, each with its place."""
        x = 2
        for code, text in self.marks:
            yield x, (code, text)
            x += round(_wide(text)) + 28

    def _blocks(self, pixels: int, axis: int, count: int) -> np.ndarray:
        """Of which block each pixel is. The last may stand for fewer values than the others; it
        has a pixel all the same."""
        begin, end = self.drawn.window[2 * axis : 2 * axis + 2]
        values = (np.arange(pixels) + 0.5) * (end - begin) / pixels
        blocks = np.minimum(values // self.drawn.block[axis], count - 1).astype(int)
        blocks[-1] = count - 1
        return blocks

    def _words(self) -> np.ndarray:
        """All text as ink, 0 to 255."""
        from PIL import Image, ImageDraw

        page = Image.new("L", self.size, 0)
        draw = ImageDraw.Draw(page)
        font = _font()

        def write(x: float, y: float, text: str, anchor: str) -> None:
            draw.text((round(x), round(y)), text, 255, font, anchor)

        top, bottom, left, right = self.drawn.window
        if self.title:
            write(2, 2, self.title, "la")
        for at, text in self.names.rows:
            y = self.top + (at - top + 0.5) * self.height / (bottom - top)
            write(self.left - 5, y, text, "rm")
        base = self.top + self.height + 4
        lowest = base + LINE if self.names.columns else base
        for at, text in self.names.columns:
            x = self.left + (at - left + 0.5) * self.width / (right - left)
            if self.names.upright:
                lowest = max(lowest, base + _wide(text))
                _turned(page, text, x - LINE / 2, base)
            else:
                write(x, base, text, "ma")
        write(self.left + self.width / 2, lowest + 1, self.names.across, "ma")
        if self.names.down:
            y = self.top + self.height / 2 - _wide(self.names.down) / 2
            _turned(page, self.names.down, 0, max(0, y))
        if self.bars is None:
            x = self.left + self.width + GAP + BAR + 4
            write(x, self.top, self.ends[1], "la")
            write(x, self.top + self.bar_height, self.ends[0], "ld")
        else:
            for each, anchor in zip(self.bars.reach, ("rd", "ra"), strict=True):
                y = self.top + self.bars.pixel(each, self.height)
                write(self.left - 5, y, number(each), anchor)
        for x, (_, text) in self._legend():
            write(x + 14, self.legend, text, "la")
        return np.asarray(page)


def _hatched(shape: tuple[int, ...]) -> np.ndarray:
    """Thin strokes, for places where nothing was computed."""
    down, across = np.indices(shape)
    return np.where((down + across) % 7 == 0, 256 - INKS + 3, NOTHING).astype(np.uint8)


def _marks(values: np.ndarray, empty: str) -> list[tuple[int, str]]:
    """The kinds of what is no number, with their colours."""
    kinds = (
        (np.isnan(values), NOTHING if empty else NAN_AT, empty or "NaN"),
        (values == np.inf, PLUS_AT, "∞"),
        (values == -np.inf, MINUS_AT, "−∞"),
    )
    return [(code, name) for found, code, name in kinds if found.any()]


def _end(drawn: Drawn, end: int) -> str:
    """An end of the scale, with a mark where values lie outside."""
    text = number(drawn.limits[end])
    return text if not drawn.outside[end] else f"{'≥' if end else '≤'} {text}"


def _turned(page: Any, text: str, x: float, y: float) -> None:
    """Writes upwards; `x` and `y` are the upper left corner."""
    from PIL import Image, ImageDraw

    line = Image.new("L", (round(_wide(text)) + 1, LINE + 2), 0)
    ImageDraw.Draw(line).text((0, 1), text, 255, _font())
    page.paste(line.transpose(Image.Transpose.ROTATE_90), (round(x), round(y)))


@functools.lru_cache(4096)
def _wide(text: str) -> float:
    return _font().getlength(text)


@functools.cache
def _font() -> Any:
    """matplotlib's own font, which has most signs of most alphabets; else the one of Pillow."""
    from PIL import ImageFont

    found = importlib.util.find_spec("matplotlib")
    if found is not None and found.origin:
        path = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf" / "DejaVuSans.ttf"
        if path.exists():
            return ImageFont.truetype(str(path), 11)
    return ImageFont.load_default(11)
