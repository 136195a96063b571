"""Two texts token over token, as static HTML and as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterable

from rich.cells import cell_len

from nnsight_magic.printable import escape
from nnsight_magic.views.data.two_texts import Column, TwoTexts
from nnsight_magic.views.data.words import visible

MOST = 8  # pairs of texts that are shown
DIFFERS = "rgba(232,132,20,.34)"
SAME = "rgba(128,128,128,.14)"


def html(texts: TwoTexts) -> str:
    """Columns that go on in the next line where there is no room."""
    name = f"<b>{escape(texts.name)}</b> " if texts.name else ""
    heads = "".join(f"<div class='d'>{escape(head)}</div>" for head in texts.heads)
    box = "display:inline-block;vertical-align:top;margin:2px 2px 2px 0;line-height:1.6"
    columns = "".join(f"<div style='{box}'>{_cells(column)}</div>" for column in texts.columns)
    return f"<div>{name}<div style='{box};margin-right:8px'>{heads}</div>{columns}</div>"


def _cells(column: Column) -> str:
    colour = SAME if column[0] == column[1] else DIFFERS
    mark = "" if column[0] == column[1] else ";box-shadow:inset 0 -2px rgb(214,110,10)"
    cells = []
    for token in column:
        shown = "&nbsp;" if token is None else escape(visible(token))
        style = "" if token is None else f"background:{colour}{mark}"
        cells.append(f"<div class='t m' style='{style}'>{shown}</div>")
    return "".join(cells)


def lines(texts: TwoTexts, width: int) -> Iterable[tuple[str, str, str]]:
    """Three lines at a time of at most `width`: both texts, and `^` under what differs."""
    margin = max(map(len, texts.heads)) + 2
    heads = [head.ljust(margin) for head in texts.heads]
    rows, used = [*heads, " " * margin], margin
    for column in texts.columns:
        shown = ["" if token is None else visible(token) for token in column]
        size = max(map(cell_len, shown))
        if used > margin and used + size + 1 > width:
            yield tuple(row.rstrip() for row in rows)
            rows, used = [" " * margin] * 3, margin
        same = column[0] == column[1]
        cells = [*shown, "" if same else "^" * size]
        rows = [
            row + cell + " " * (size - cell_len(cell)) + "|"[: k < 2] + " " * (k == 2)
            for k, (row, cell) in enumerate(zip(rows, cells, strict=True))
        ]
        used += size + 1
    yield tuple(row.rstrip() for row in rows)
