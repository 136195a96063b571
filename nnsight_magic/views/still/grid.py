"""The lens grid as static HTML and as text."""

from __future__ import annotations

import math

from rich.cells import set_cell_size

from nnsight_magic.printable import escape
from nnsight_magic.terminal import shown_width
from nnsight_magic.views.data.strips import TokenGrid, TokenStrip
from nnsight_magic.views.data.words import number, percent, visible
from nnsight_magic.views.still.colours import shade, shade_rules
from nnsight_magic.views.still.style import frame

ROWS, COLUMNS, CELLS = 100, 40, 2000  # of a grid, at most
CELL = 9  # characters of a token in a grid's text
NUMBER = 8  # characters of a number beside a row


def html(grid: TokenGrid, title: str = "", note: str = "", position: int = -1) -> str:
    """The best token of each place, coloured by its probability; of a large grid the last rows and
    positions, where the model's answer is.

    Args:
        position: whose numbers are beside the rows.
    """
    tokens, strips = grid.tokens, grid.strips[-ROWS:]
    above = len(grid.strips) - len(strips)
    first = max(0, len(tokens) - max(1, min(COLUMNS, CELLS // max(1, len(strips)))))
    position %= max(1, len(tokens))
    names = list(strips[0].named) if strips else []
    head = "".join(f"<th class='m'>{escape(visible(token)[:9])}</th>" for token in tokens[first:])
    head += "".join(f"<th>{escape(name)}</th>" for name in names)
    lines = []
    for row, strip in enumerate(strips, above):
        cells = [_cell(grid, strip, row, at) for at in range(first, len(tokens))]
        cells += [f"<td class='n'>{number(strip.named[name][position])}</td>" for name in names]
        lines.append(f"<tr><th>{escape(strip.name)}</th>{''.join(cells)}</tr>")
    told = [f"<b>{escape(title)}</b>"] if title else []
    told += [f"<span class='d'>{escape(note)}</span>"] if note else []
    below = [legend(grid), *([f"{', '.join(names)}: {_behind(grid, position)}"] if names else [])]
    below.append(_left_out(above, first))
    under = "".join(f"<div class='d'>{escape(line)}</div>" for line in below if line)
    table = f"<table><tr><th></th>{head}</tr>{''.join(lines)}</table>"
    over = f"<div>{' '.join(told)}</div>" if told else ""
    return frame(f"{shade_rules()}{over}{table}{under}")


def _cell(grid: TokenGrid, strip: TokenStrip, row: int, at: int) -> str:
    top = strip.top[at]
    token, p = top[0] if top else ("", 0.0)
    kind, style = shade(p)
    shown = escape(visible(token)[:9]) if top else ""
    if grid.first_at(row, at):
        shown = f"<u><b>{shown}</b></u>"
    if grid.settled and grid.settled[at] == row:
        style += ";border-top:2px solid #d3621b"
        shown = f"┬{shown}"
    return f"<td class='m {kind}' style='{style};padding:0 3px' title='{percent(p)}'>{shown}</td>"


def legend(grid: TokenGrid) -> str:
    """What the marks in the cells mean."""
    parts = [f"underlined: {grid.answer} is the likeliest token"] if grid.answer else []
    parts += ["┬: from here down the model's own token stays the likeliest"] if grid.settled else []
    return "; ".join(parts)


def _behind(grid: TokenGrid, position: int) -> str:
    token = grid.tokens[position] if grid.tokens else ""
    return f"after token {position} {visible(token)}"


def text(grid: TokenGrid, title: str = "") -> str:
    """The best token of each place, of as many of the last positions as a line holds; behind them
    the numbers of the last one."""
    names = [visible(strip.name) for strip in grid.strips]
    width = max(map(len, names), default=0)
    columns = list(grid.strips[0].named) if grid.strips else []
    room = shown_width() - width - sum(max(NUMBER, len(name)) + 1 for name in columns)
    first = max(0, len(grid.tokens) - max(1, room // (CELL + 1)))
    heads = [visible(token) for token in grid.tokens[first:]]
    lines = [_line("", width, heads, [f"{name:>{NUMBER}}" for name in columns])]
    for row, (name, strip) in enumerate(zip(names, grid.strips, strict=True)):
        cells = [_word(grid, strip, row, at) for at in range(first, len(grid.tokens))]
        last = [strip.named[each][-1] for each in columns]
        beside = [
            f"{'–' if not math.isfinite(value) else number(value):>{max(NUMBER, len(each))}}"
            for each, value in zip(columns, last, strict=True)
        ]
        lines.append(_line(name, width, cells, beside))
    told = [_left_out(0, first)]
    if grid.settled:
        told.append("┬: from here down the model's own token stays the likeliest")
    return "\n".join([*([title] if title else []), *lines, *(line for line in told if line)])


def _word(grid: TokenGrid, strip: TokenStrip, row: int, at: int) -> str:
    top = strip.top[at]
    mark = "┬" if grid.settled and grid.settled[at] == row else ""
    return mark + (visible(top[0][0]) if top else "")


def _line(name: str, width: int, cells: list[str], beside: list[str]) -> str:
    shown = (set_cell_size(each, CELL) for each in cells)  # a sign of CJK takes two cells
    return " ".join([f"{name:>{width}}", *shown, *beside]).rstrip()


def _left_out(rows: int, positions: int) -> str:
    """What a grid leaves out, in words."""
    parts = [f"{n} {what}{'s' * (n > 1)}" for n, what in ((rows, "row"), (positions, "position"))]
    told = [part for part, n in zip(parts, (rows, positions), strict=True) if n]
    return f"the first {' and the first '.join(told)} left out" if told else ""
