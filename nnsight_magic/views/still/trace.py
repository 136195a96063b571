"""A result as static HTML: its facts above, its parts below each other."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from nnsight_magic.printable import escape
from nnsight_magic.views.still.style import frame

WROTE = 4  # names; the number of the others is said


def html(
    title: str,
    facts: Iterable[str],
    wrote: Sequence[str] = (),
    notices: Iterable[str] = (),
    parts: Iterable[str] = (),
) -> str:
    """`parts` are still views already, in the order in which the live view has them."""
    head = f"<b>{escape(title)}</b> <span class='d'>{' · '.join(map(escape, facts))}</span>"
    if wrote:
        more = f" and {len(wrote) - WROTE} more" if len(wrote) > WROTE else ""
        head += (
            f" <span class='d'>· wrote</span> <code>{escape(', '.join(wrote[:WROTE]))}</code>{more}"
        )
    told = "".join(f"<div class='d'>{escape(each)}</div>" for each in notices)
    return frame(f"<div>{head}</div>{told}") + "".join(parts)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table; the first column stands out, the last may be long."""
    head = "".join(f"<th>{escape(column)}</th>" for column in columns)
    body = "".join(
        "<tr>"
        + f"<td><b class='m'>{escape(first)}</b></td>"
        + "".join(f"<td>{escape(each)}</td>" for each in middle)
        + f"<td class='w'><code>{escape(last)}</code></td></tr>"
        for first, *middle, last in rows
    )
    return frame(f"<table><tr>{head}</tr>{body}</table>")
