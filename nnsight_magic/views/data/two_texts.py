"""Two texts below each other, token over token, with what differs marked.

A token that one of them has alone stands over, or under, an empty place, so that what is the same
in both stays in line behind it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from rich.cells import cell_len

from nnsight_magic.printable import escape
from nnsight_magic.views.data.words import visible

HEADS = ("with the writes", "without the writes")
MOST = 8  # pairs of texts that a still shows
DIFFERS = "rgba(232,132,20,.34)"
SAME = "rgba(128,128,128,.14)"

Column = tuple[str | None, str | None]


@dataclass(frozen=True)
class TwoTexts:
    """Two texts as columns of tokens; `None` where one of them has no token.

    >>> two_texts(["a", " b", " c"], ["a", " c"]).columns
    (('a', 'a'), (' b', None), (' c', ' c'))
    """

    columns: tuple[Column, ...]
    name: str = ""
    heads: tuple[str, str] = HEADS

    def packed(self) -> dict[str, object]:
        return {"name": self.name, "heads": list(self.heads), "columns": list(self.columns)}


def two_texts(
    first: Sequence[str], second: Sequence[str], name: str = "", heads: tuple[str, str] = HEADS
) -> TwoTexts:
    """Puts two texts in line."""
    columns: list[Column] = []
    for kind, a, b, c, d in SequenceMatcher(None, first, second, autojunk=False).get_opcodes():
        above, below = list(first[a:b]), list(second[c:d])
        if kind != "equal":
            longer = max(len(above), len(below))
            above += [None] * (longer - len(above))
            below += [None] * (longer - len(below))
        columns += zip(above, below, strict=True)
    return TwoTexts(tuple(columns), name, heads)


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
