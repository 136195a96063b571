"""Text for standard output: coloured and as wide as the terminal where there is one, else plain."""

from __future__ import annotations

import io
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment, Segments
from rich.table import Table
from rich.text import Text

from nnsight_magic.front_end import shows_views
from nnsight_magic.printable import printable

PLAIN_WIDTH = 100


def in_terminal() -> bool:
    """Whether standard output is a terminal and the shell in it wants colours."""
    shell = sys.modules["IPython"].get_ipython() if "IPython" in sys.modules else None
    if hasattr(shell, "kernel"):
        seen = not shows_views(shell)
    else:
        seen = hasattr(sys.stdout, "isatty") and sys.stdout.isatty()
    return seen and (shell is None or shell.colors.lower() != "nocolor")


def _console(file: io.StringIO, width: int, colour: bool) -> Console:
    return Console(
        file=file,
        width=width,
        force_terminal=colour,
        force_jupyter=False,
        color_system=_colours() if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )


def _colours() -> Literal["256", "auto"]:
    """As many as the terminal has: the environment tells, but not a kernel's, which has its own."""
    kernel = os.environ.get("TERM") == "xterm-color" and "JPY_PARENT_PID" in os.environ
    return "256" if kernel and "COLORTERM" not in os.environ else "auto"


def printed(renderable: Any, width: int, colour: bool) -> str:
    """A renderable of rich as text; what would act on a terminal is shown as signs."""
    file = io.StringIO()
    console = _console(file, width, colour)
    shown = [
        Segment(printable(segment.text), segment.style)
        for segment in console.render(renderable)
        if not segment.control
    ]
    console.print(Segments(shown))
    lines = file.getvalue().rstrip("\n").split("\n")
    return "\n".join(line.rstrip() for line in lines)


def rendered(renderable: Any) -> str:
    """A renderable of rich as standard output takes it."""
    return printed(renderable, shown_width(), in_terminal())


def shown_width() -> int:
    """Characters of a line: the terminal's, where there is one."""
    return width() if in_terminal() else PLAIN_WIDTH


def width() -> int:
    """The terminal's characters."""
    return max(40, shutil.get_terminal_size((PLAIN_WIDTH, 24)).columns)


def table_of(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> Table:
    """A plain table for the list magics."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*map(Text, row))
    return table


def one_line_rows(
    columns: Sequence[str], rows: Sequence[Sequence[str]], giving_way: Mapping[str, int]
) -> str:
    """A table with one line for each row: where it is too wide, columns in `giving_way` are cut,
    the widest first; below the width that they have there only when all others are as narrow."""
    room = shown_width()
    widths = [max(map(cell_len, column)) for column in zip(columns, *rows, strict=True)]
    cut = [k for k, column in enumerate(columns) if column in giving_way]
    while sum(widths) + 2 * (len(widths) - 1) > room:
        roomy = [k for k in cut if widths[k] > giving_way[columns[k]]]
        widest = max(roomy or cut, key=widths.__getitem__)
        if widths[widest] <= len(columns[widest]):
            break
        widths[widest] -= 1
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column, size in zip(columns, widths, strict=True):
        table.add_column(column, width=size, no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*map(Text, row))
    return rendered(table)


def fitted(text: str) -> str:
    """Lines that are too long for the terminal broken between words."""
    if not in_terminal():
        return text
    room = width()
    lines = []
    for line in text.split("\n"):
        indent = " " * (len(line) - len(line.lstrip()) + 2)
        lines += textwrap.wrap(
            line, room, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
        ) or [""]
    return "\n".join(lines)
