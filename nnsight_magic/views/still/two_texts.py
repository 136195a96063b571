"""Two texts token over token, as static HTML and as lines of a terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.cells import cell_len

from nnsight_magic.printable import escape
from nnsight_magic.views.data.two_texts import Column, TwoTexts
from nnsight_magic.views.data.words import visible

MOST = 8  # pairs of texts that are shown
DIFFERS = "rgba(232,132,20,.34)"
SAME = "rgba(128,128,128,.14)"


def html(texts: TwoTexts) -> str:
    """Columns that go on in the next line where there is no room.

    They are ruby text, which stands in pairs also where a page takes styles out; there what differs
    is marked by the page's own means.
    """
    name = f"<b>{escape(texts.name)}</b> " if texts.name else ""
    heads = [f"<span class='d' style='display:block'>{escape(head)}</span>" for head in texts.heads]
    columns = "".join(_pair(_cells(column)) for column in texts.columns)
    return f"<div>{name}{_pair(heads, room=8)} {columns}</div>"


def _pair(cells: Iterable[str], room: int = 2) -> str:
    upper, lower = cells
    box = f"display:inline-block;vertical-align:top;margin:2px {room}px 2px 0;line-height:1.6"
    below = "display:block;font-size:inherit;line-height:inherit;text-align:left"
    return f"<ruby style='{box}'>{upper}<rt style='{below}'>{lower}</rt></ruby>"


def _cells(column: Column) -> Iterator[str]:
    """Both tokens of a column; `mark` is what pages without styles have for what stands out."""
    same = column[0] == column[1]
    tag, colour = ("span", SAME) if same else ("mark", DIFFERS)
    line = "" if same else ";box-shadow:inset 0 -2px rgb(214,110,10);color:inherit"
    for token in column:
        if token is None:
            yield "<span class='t m' style='display:block'>&nbsp;</span>"
            continue
        style = f"display:block;background:{colour}{line}"
        yield f"<{tag} class='t m' style='{style}'>{escape(visible(token))}</{tag}>"


def lines(texts: TwoTexts, width: int) -> Iterable[tuple[str, str, str]]:
    """Three lines at a time of at most `width`: both texts, and `^` under what differs."""
    margin = max(map(len, texts.heads)) + 2
    heads = [head.ljust(margin) for head in texts.heads]
    rows, used = [*heads, " " * margin], margin
    for column in texts.columns:
        shown = ["" if token is None else visible(token) for token in column]
        size = max(map(cell_len, shown))
        if used > margin and used + size + 1 > width:
            yield _stripped(rows)
            rows, used = [" " * margin] * 3, margin
        same = column[0] == column[1]
        cells = [*shown, "" if same else "^" * size]
        rows = [
            row + cell + " " * (size - cell_len(cell)) + "|"[: k < 2] + " " * (k == 2)
            for k, (row, cell) in enumerate(zip(rows, cells, strict=True))
        ]
        used += size + 1
    yield _stripped(rows)


def _stripped(rows: list[str]) -> tuple[str, str, str]:
    first, second, marks = (row.rstrip() for row in rows)
    return first, second, marks
