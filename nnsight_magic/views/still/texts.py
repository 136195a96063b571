"""Texts of points as a table: the point, its text, and what differs from the baseline's marked."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import SequenceMatcher
from itertools import pairwise

from nnsight_magic.printable import escape
from nnsight_magic.views.still.style import frame, whole

# Attributes, which remain where a page takes rules out; underlined, so that colour is not all.
_MARK = "background: rgba(255, 170, 0, 0.28); text-decoration: underline"
OPENS, CLOSES = "‹", "›"  # around what differs, where there are no colours

Row = tuple[str, str]  # a point in words, and its text


def differing(text: str, baseline: str) -> list[tuple[str, bool]]:
    """A text in pieces, each with whether the baseline has something else there.

    >>> differing("Paris, which is old", "Paris, which is new")
    [('Paris, which is ', False), ('old', True)]
    """
    mine, other = _words(text), _words(baseline)
    pieces: list[tuple[str, bool]] = []
    for kind, a, b, _, _ in SequenceMatcher(None, mine, other, autojunk=False).get_opcodes():
        piece = "".join(mine[a:b])
        word = piece if kind == "equal" else piece.lstrip()
        space = piece[: len(piece) - len(word)]
        if space and pieces and not pieces[-1][1]:
            pieces[-1] = (pieces[-1][0] + space, False)
        elif space:
            pieces.append((space, False))
        if word:
            pieces.append((word, kind != "equal"))
    return pieces


def _words(text: str) -> list[str]:
    """Words, each with the spaces before it, and letters one by one where there are no spaces."""
    starts = [0, *(k for k in range(1, len(text)) if text[k].isspace() > text[k - 1].isspace())]
    words = [text[a:b] for a, b in pairwise([*starts, len(text)])]
    return [part for word in words for part in (word if len(word) > 40 else [word])]


def text(title: str, rows: Sequence[Row], baseline: str | None, more: int = 0) -> str:
    """The table for a console.

    Args:
        title: what the texts are.
        rows: points and their texts.
        baseline: the text without the writes; `None` where there are several, or none.
        more: texts that are left out.
    """
    width = max((len(point) for point, _ in rows), default=0)
    known = baseline is not None
    width = max(width, len("baseline")) if known else width
    lines = [f"{'baseline':<{width}}  {baseline!r}"] if known else []
    for point, each in rows:
        lines.append(f"{point:<{width}}  {_marked(each, baseline)}")
    return "\n".join([title, *lines, *([f"… and {more} more"] if more else [])])


def _marked(each: str, baseline: str | None) -> str:
    if baseline is None or each == baseline:
        return repr(each) if baseline is None else "the same"
    pieces = differing(each, baseline)
    # With both kinds of quotes before it, a piece is written as between single ones.
    quoted = [(repr("\"'" + piece)[4:-1], differs) for piece, differs in pieces]
    shown = (f"{OPENS}{piece}{CLOSES}" if differs else piece for piece, differs in quoted)
    return f"'{''.join(shown)}'"


def html(title: str, rows: Sequence[Row], baseline: str | None, more: int = 0) -> str:
    """The same table as a page."""
    shown = [] if baseline is None else [_row("baseline", escape(baseline))]
    for point, each in rows:
        if baseline is not None and each == baseline:
            shown.append(_row(point, "<span class='d'>the same</span>"))
            continue
        pieces = [(each, False)] if baseline is None else differing(each, baseline)
        parts = (
            f"<span style='{_MARK}'>{escape(piece)}</span>" if differs else escape(piece)
            for piece, differs in pieces
        )
        shown.append(_row(point, "".join(parts)))
    last = f"<div class='d'>… and {more} more</div>" if more else ""
    return whole(frame(f"<b>{escape(title)}</b><table>{''.join(shown)}</table>{last}"), "")


def _row(point: str, words: str) -> str:
    cell = f"<td class='w' style='white-space: pre-wrap'>{words}</td>"
    return f"<tr style='vertical-align: top'><th>{escape(point)}</th>{cell}</tr>"
