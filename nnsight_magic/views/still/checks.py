"""Checks without a kernel: as text, and as a table."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nnsight_magic.printable import escape
from nnsight_magic.views.data.checks import MARKS, Check, Checked
from nnsight_magic.views.still.style import frame

# Attributes, which remain where a page takes rules out; the marks say it without colours.
COLOURS = {"holds": "#2e8b57", "warns": "#b8860b", "fails": "#c0392b", "none": "GrayText"}
WIDTH = 100


def text(
    title: str, groups: Sequence[Checked], notices: Sequence[str] = (), width: int = WIDTH
) -> str:
    """Title, and under each thing that was checked its checks, a mark before each.

    Args:
        width: characters of a line.
    """
    lines = [title, *(f"note: {each}" for each in notices)]
    names = max((len(c.name) for group in groups for c in group.checks), default=0)
    for group in groups:
        lines.append(group.title)
        lines += [_line(check, names, width) for check in group.checks]
    return "\n".join(lines)


def _line(check: Check, names: int, width: int) -> str:
    head = f"  {MARKS[check.state]} {check.name:<{names}}  "
    indent = " " * len(head)
    return textwrap.fill(
        check.words, max(width, len(head) + 20), initial_indent=head, subsequent_indent=indent
    )


def html(title: str, groups: Sequence[Checked], notices: Sequence[str], drawn: str) -> str:
    """The same as a page, with the map behind it.

    Args:
        drawn: the map as HTML; empty for none.
    """
    parts = [f"<b>{escape(title)}</b>"]
    parts += [f"<div class='d'>{escape(each)}</div>" for each in notices]
    for group in groups:
        rows = "".join(map(_row, group.checks))
        parts.append(f"<div><code>{escape(group.title)}</code></div><table>{rows}</table>")
    return frame("".join(parts)) + drawn


def _row(check: Check) -> str:
    mark = f'<span style="color:{COLOURS[check.state]}">{MARKS[check.state]}</span>'
    return (
        f"<tr><td>{mark}</td><td>{escape(check.name)}</td>"
        f"<td class='w'>{escape(check.words)}</td></tr>"
    )
