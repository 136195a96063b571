"""Two texts below each other, token over token, with what differs marked.

A token that one of them has alone stands over, or under, an empty place, so that what is the same
in both stays in line behind it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

from nnsight_magic.views.data.wire import TextsForm

HEADS = ("with the writes", "without the writes")

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

    def packed(self) -> TextsForm:
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
