"""A chart without a kernel: as text, and as a drawing with its numbers in a table below."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from math import isfinite

from nnsight_magic.printable import escape
from nnsight_magic.views.data.chart import Chart, Line
from nnsight_magic.views.data.words import bar
from nnsight_magic.views.still.points import table_text
from nnsight_magic.views.still.style import frame

WIDTH, HEIGHT = 560, 220  # of the drawing, in pixels
LEFT, RIGHT, TOP, BOTTOM = 34, 12, 8, 36
TICKS = 16  # places that are named below the drawing at most
COLOURS = {"main": "#d3621b", "second": "#3a7fc4", "spread": "#808080"}
BAR = 20  # characters of a bar in a console


def text(chart: Chart, width: int = 100) -> str:
    """Title and notes, and for each place its numbers, the first of them as a bar too."""
    head = [chart.title, *chart.notes]
    told = [line for each in head for line in textwrap.wrap(each, max(40, width))]
    told += [f"{level.name} {level.value:.2f}" for level in chart.levels]
    return "\n".join([*told, *table_text(_table(chart, bars=True))])


def _table(chart: Chart, *, bars: bool) -> list[list[str]]:
    rows = [[chart.across, *(line.name for line in chart.lines)] + [""] * bars]
    for at, label in enumerate(chart.labels):
        row = [label, *(line.at(at) for line in chart.lines)]
        value = chart.lines[0].values[at]
        if bars:
            row.append(bar(value, BAR) if isfinite(value) else "")
        rows.append(row)
    return rows


def html(chart: Chart, at: int = -1) -> str:
    """The same as a page.

    Args:
        at: the place that is selected.
    """
    parts = [f"<b>{escape(chart.title)}</b>"]
    parts += [f"<div class='d'>{escape(each)}</div>" for each in chart.notes]
    parts += [_drawing(chart, at), _legend(chart)]
    head, *body = _table(chart, bars=False)
    told = "".join(f"<th>{escape(each)}</th>" for each in head)
    lines = "".join(
        "<tr>" + "".join(f"<td class='n'>{escape(each)}</td>" for each in row) + "</tr>"
        for row in body
    )
    parts.append(
        f"<details><summary>the numbers</summary><table><tr>{told}</tr>{lines}</table></details>"
    )
    return frame("".join(parts))


def _legend(chart: Chart) -> str:
    told = [
        f'<span style="color:{COLOURS[line.role]}">━</span> {escape(_named(line))}'
        for line in chart.lines
    ]
    told += [f"┄ {escape(each.name)} {each.value:.2f}" for each in chart.levels]
    return f"<div>{' &emsp; '.join(told)}</div>"


def _named(line: Line) -> str:
    if line.low is None:
        return line.name
    return f"{line.name} with its {'spread' if line.role == 'spread' else 'interval'}"


def _drawing(chart: Chart, at: int) -> str:
    """The lines, in the colour of the page's text where they have none of their own."""
    parts = [_grid(chart), *(_spread(chart, line) for line in chart.lines if line.role == "spread")]
    for level in chart.levels:
        y = _y(level.value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="currentColor" '
            'stroke-dasharray="2 3" opacity=".7"/>'
        )
    parts += [_line(chart, line) for line in reversed(chart.lines)]
    if at >= 0:
        x = _x(chart, at)
        parts.append(
            f'<line x1="{x}" x2="{x}" y1="{TOP}" y2="{HEIGHT - BOTTOM}" stroke="currentColor"/>'
        )
    words = escape(f"{chart.title}, by {chart.across}", quote=True)
    return (
        f'<svg role="img" aria-label="{words}" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" '
        f'style="max-width:100%;display:block" font-size="11" fill="currentColor">'
        f"{''.join(parts)}</svg>"
    )


def _grid(chart: Chart) -> str:
    parts = []
    for value in (0, 0.25, 0.5, 0.75, 1):
        y = _y(value)
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}" stroke="currentColor" '
            f'opacity=".15"/><text x="{LEFT - 5}" y="{y + 4}" text-anchor="end">{value:g}</text>'
        )
    step = -(-len(chart.labels) // TICKS)
    parts += [
        f'<text x="{_x(chart, at)}" y="{HEIGHT - BOTTOM + 15}" text-anchor="middle">'
        f"{escape(chart.labels[at][:12])}</text>"
        for at in range(0, len(chart.labels), step)
    ]
    middle = (LEFT + WIDTH - RIGHT) // 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 4}" text-anchor="middle">{escape(chart.across)}</text>'
    )
    return "".join(parts)


def _spread(chart: Chart, line: Line) -> str:
    if line.low is None or line.high is None:
        return ""
    places = [(at, _x(chart, at)) for at in range(len(line.values))]
    if len(places) == 1:  # of one place a polygon would have no width
        places = [(0, places[0][1] - 5), (0, places[0][1] + 5)]
    over = [f"{x},{_y(line.high[at])}" for at, x in places]
    under = [f"{x},{_y(line.low[at])}" for at, x in reversed(places)]
    points = " ".join([*over, *under])
    return f'<polygon points="{points}" fill="{COLOURS[line.role]}" opacity=".25"/>'


def _line(chart: Chart, line: Line) -> str:
    colour = COLOURS[line.role]
    parts = []
    for run in _runs(line.values):
        points = " ".join(f"{_x(chart, at)},{_y(line.values[at])}" for at in run)
        dashes = ' stroke-dasharray="5 3"' if line.role == "second" else ""
        thick = 2 if line.role == "main" else 1.3
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{thick}"'
            f"{dashes}/>"
        )
        if line.role != "main" and len(run) > 1:
            continue
        for at in run:
            x = _x(chart, at)
            if line.role == "main" and line.low is not None and line.high is not None:
                parts.append(
                    f'<line x1="{x}" x2="{x}" y1="{_y(line.low[at])}" y2="{_y(line.high[at])}" '
                    f'stroke="{colour}" opacity=".6"/>'
                )
            parts.append(f'<circle cx="{x}" cy="{_y(line.values[at])}" r="3" fill="{colour}"/>')
    return "".join(parts)


def _runs(values: Sequence[float]) -> list[list[int]]:
    """The places of finite values, those that follow each other together."""
    runs: list[list[int]] = [[]]
    for at, value in enumerate(values):
        if isfinite(value):
            runs[-1].append(at)
        elif runs[-1]:
            runs.append([])
    return [run for run in runs if run]


def _x(chart: Chart, at: int) -> float:
    room = WIDTH - LEFT - RIGHT
    return round(LEFT + room * (at + 0.5) / len(chart.labels), 1)


def _y(value: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(1.0, max(0.0, value))), 1)
