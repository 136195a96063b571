"""Texts by strength without a kernel: as text, and as a table for each prompt."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from nnsight_magic.printable import escape, printable
from nnsight_magic.views.data.words import number
from nnsight_magic.views.data.written import Piece, Text, Written
from nnsight_magic.views.still.style import frame


def text(written: Written, width: int = 100) -> str:
    """Title and notes, and of each prompt a line for each strength."""
    lines = [line for each in (written.title, *written.notes) for line in _filled(each, width)]
    for k, prompt in enumerate(written.prompts):
        lines += ["", *_filled(repr(prompt), width)]
        for strength in written.strengths:
            lines += _told(number(strength), written.said[strength][k], width)
            if strength and strength in written.control:
                lines += _told("random", written.control[strength][k], width)
    return "\n".join(lines)


def _filled(words: str, width: int) -> list[str]:
    return textwrap.wrap(words, max(40, width))


def _told(name: str, said: Text, width: int) -> list[str]:
    head = f"{name:>8}  loss {_loss(said):>5}  "
    shown = printable(said.text.replace("\n", "⏎"))
    return textwrap.wrap(
        shown or "∅", max(width, len(head) + 30), initial_indent=head,
        subsequent_indent=" " * len(head), drop_whitespace=True,
    )  # fmt: skip


def _loss(said: Text) -> str:
    return "–" if said.loss != said.loss else f"{said.loss:.2f}"


def html(written: Written) -> str:
    """The same as a page: of each prompt a table, what differs from the text without it marked."""
    parts = [f"<b>{escape(written.title)}</b>"]
    parts += [f"<div class='d'>{escape(each)}</div>" for each in written.notes]
    for k, prompt in enumerate(written.prompts):
        rows = []
        for strength in written.strengths:
            said = written.said[strength][k]
            rows.append(_row(number(strength), said, written.pieces(said, k)))
            if strength and strength in written.control:
                other = written.control[strength][k]
                rows.append(_row("random", other, written.pieces(other, k), dim=True))
        head = "<tr><th>strength</th><th>loss</th><th>text; what differs is bold</th></tr>"
        parts.append(
            f"<div><code>{escape(prompt)}</code></div><table>{head}{''.join(rows)}</table>"
        )
    return frame("".join(parts))


def _row(name: str, said: Text, pieces: Sequence[Piece], *, dim: bool = False) -> str:
    words = "".join(f"<b>{escape(w)}</b>" if differs else escape(w) for w, differs in pieces)
    mark = " d" if dim else ""
    return (
        f"<tr><td class='n{mark}'>{escape(name)}</td><td class='n{mark}'>{_loss(said)}</td>"
        f"<td class='w{mark}'>{words or '∅'}</td></tr>"
    )
