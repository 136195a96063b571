"""What a prompt is for a model: its tokens, each with its position, its id and its text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from nnsight_magic.engine.tracing.token_texts import PromptRow, position


class Token(NamedTuple):
    """One token of a prompt.

    Attributes:
        position: counted from 0, padding left out.
        id: its number in the vocabulary.
        text: its own text, a leading space included.
    """

    position: int
    id: int
    text: str


class Tokens(tuple[Token, ...]):
    """The tokens of a prompt, in their order.

    >>> tokens = Tokens([Token(0, 464, "The"), Token(1, 8765, " Tower")])
    >>> tokens
    0 'The' 464
    1 ' Tower' 8765
    >>> tokens.position("Tower"), tokens.texts
    (1, ['The', ' Tower'])
    """

    __slots__ = ()

    @property
    def ids(self) -> torch.Tensor:
        """Their numbers, `(1, tokens)`: what a trace can be run on."""
        return torch.tensor([[token.id for token in self]], dtype=torch.long)

    @property
    def texts(self) -> list[str]:
        """Their texts; put together they are the prompt."""
        return [token.text for token in self]

    def position(self, text: str) -> int:
        """The position of the token that reads `text`, leading and trailing spaces aside.

        Raises:
            TokenTextError: no token does, or several do.
        """
        return position(text, PromptRow(0, 0, len(self), tuple(self.texts)))

    def __repr__(self) -> str:
        width = len(str(len(self) - 1))
        return "\n".join(f"{at:>{width}} {text!r} {number}" for at, number, text in self)


def tokens_of(ids: Sequence[int], texts: Sequence[str]) -> Tokens:
    """Tokens from ids and texts in the same order."""
    numbered = enumerate(zip(ids, texts, strict=True))
    return Tokens(Token(at, int(number), text) for at, (number, text) in numbered)
