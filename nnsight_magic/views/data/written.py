"""Texts that were written at several strengths of something, beside the one without it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from itertools import pairwise

from nnsight_magic.printable import printable
from nnsight_magic.views.data.wire import TextForm, WrittenForm
from nnsight_magic.views.data.words import brief

_WORDS = re.compile(r"\s*\S+|\s+$")

Piece = tuple[str, bool]


@dataclass(frozen=True)
class Text:
    """What was written behind one prompt.

    Attributes:
        text: what it says.
        loss: of its tokens, in nats; NaN of none.
    """

    text: str
    loss: float


@dataclass(frozen=True)
class Written:
    """Texts by strength; that of strength 0 is without.

    Attributes:
        title: what was done.
        prompts: what each text goes on with.
        said: by strength a text for each prompt.
        control: the same, with nothing but chance added; may be empty.
        notes: what is said above them.
    """

    title: str
    prompts: Sequence[str]
    said: Mapping[float, Sequence[Text]]
    control: Mapping[float, Sequence[Text]] = field(default_factory=dict)
    notes: Sequence[str] = ()

    @property
    def strengths(self) -> list[float]:
        return sorted(self.said)

    def pieces(self, text: Text, prompt: int) -> list[Piece]:
        """A text in pieces, each with whether it differs from the text without."""
        return differing(self.said[0.0][prompt].text if 0.0 in self.said else text.text, text.text)

    def packed(self) -> WrittenForm:
        """JSON for the front end."""

        def forms(said: Mapping[float, Sequence[Text]], strength: float) -> list[TextForm]:
            return [
                (
                    [(printable(piece), differs) for piece, differs in self.pieces(text, k)],
                    brief(text.loss),
                )
                for k, text in enumerate(said.get(strength, ()))
            ]

        return {
            "prompts": [printable(each) for each in self.prompts],
            "strengths": self.strengths,
            "said": [forms(self.said, each) for each in self.strengths],
            "control": [forms(self.control, each) for each in self.strengths],
        }


def differing(plain: str, text: str) -> list[Piece]:
    """The words of a text, those together that are in another one and those that are not.

    >>> differing(" I was a good boy", " I was THE boy")
    [(' I was', False), (' THE', True), (' boy', False)]
    """
    before, after = _WORDS.findall(plain), _WORDS.findall(text)
    matcher = SequenceMatcher(None, before, after, autojunk=False)
    ends = [0]
    pieces: list[Piece] = []
    for block in matcher.get_matching_blocks():
        ends += [block.b, block.b + block.size]
    for number, (begin, end) in enumerate(pairwise(ends)):
        if begin < end:
            pieces.append(("".join(after[begin:end]), number % 2 == 0))
    return pieces
