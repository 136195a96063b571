"""A grid of measured numbers without a kernel: its map, and a table of the points by rank."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnsight_magic.printable import escape
from nnsight_magic.views.data.points import Points
from nnsight_magic.views.data.words import bar
from nnsight_magic.views.still.style import frame, instead

LARGEST = 5  # points that a text tells
TABLE = 10  # points of a still table
LINES = 80  # of bars in a console
BAR = 8  # characters, where colours are taken out
PIXELS = 72


def text(points: Points, title: str) -> str:
    """Title, size and note, and the largest points in words."""
    sizes = ", ".join(
        f"{axis.name} {size}" for axis, size in zip(points.axes, points.values.shape, strict=True)
    )
    told = list(points.told(LARGEST))
    width = max((len(words) for words, _ in told), default=0)
    lines = [f"{title} ({sizes})", points.note]
    lines += [f"{words:<{width}}  {value}" for words, value in told]
    return "\n".join(line for line in lines if line)


def bars_text(points: Points, width: int) -> list[str]:
    """Numbers along one axis as lines with bars, in their order; none where there are too many.

    Args:
        width: characters that a line may have.
    """
    if len(points.axes) != 1 or len(points.values) > LINES:
        return []
    labels = [points.axes[0].label(k) for k in range(len(points.values))]
    numbers = [points.number_at([k]) for k in range(len(points.values))]
    sizes = np.abs(np.nan_to_num(points.values.astype(np.float64), posinf=0, neginf=0))
    left, right = max(map(len, labels)), max(map(len, numbers))
    room = min(40, width - left - right - 4)
    if room < BAR:
        return []
    most = float(sizes.max()) or 1.0
    return [
        f"{label:<{left}}  {value:>{right}}  {bar(float(size) / most, room).rstrip()}".rstrip()
        for label, value, size in zip(labels, numbers, sizes, strict=True)
    ]


def table_text(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows of words and numbers in columns, the first of them the head."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            each.ljust(width) if not k else each.rjust(width)
            for k, (each, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def html_table(rows: Sequence[Sequence[str]]) -> str:
    """The same as HTML."""
    head, *body = rows
    told = "".join(f"<th>{escape(each)}</th>" for each in head)
    lines = [
        f"<tr><td>{escape(words)}</td>"
        + "".join(f"<td class='n'>{escape(each)}</td>" for each in numbers)
        + "</tr>"
        for words, *numbers in body
    ]
    return frame(f"<table><tr>{told}</tr>{''.join(lines)}</table>")


def html(points: Points, drawn: str, at: Sequence[int] = ()) -> str:
    """The map with the table beside it, where there is room.

    Args:
        drawn: the map as HTML.
        at: the point that is selected.
    """
    note = f'<div class="d">{escape(points.note)}</div>' if points.note else ""
    beside = 'style="display:flex;flex-wrap:wrap;gap:0 20px;align-items:flex-start"'
    left = f'<div style="max-width:600px">{drawn}</div>'
    return f"<div {beside}>{left}<div>{frame(note + _table(points, at))}</div></div>"


def _table(points: Points, at: Sequence[int]) -> str:
    ranked = points.ranked(TABLE)
    if not ranked:
        return ""
    values = [abs(float(points.values[each])) for each in ranked]
    most = max(values) or 1.0
    rows = []
    for each, size in zip(ranked, values, strict=True):
        words = escape(points.in_words(each))
        words = f"<b>{words}</b>" if list(each) == list(at) else words
        colour = "#d3621b" if points.values[each] > 0 else "#2a6fbb"
        pixels = round(PIXELS * size / most)
        strip = (
            f'<div style="width:{pixels}px;height:8px;background:{colour};border-radius:2px"></div>'
        )
        blocks = instead(bar(size / most, BAR).rstrip())
        number = escape(points.number_at(each))
        rows.append(f"<tr><td>{words}</td><td class='n'>{number}</td><td>{strip}{blocks}</td></tr>")
    return f"<table><tr><th>point</th><th>value</th></tr>{''.join(rows)}</table>"
