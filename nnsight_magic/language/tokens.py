"""Tokens as text in a cell: `layers[3].output[:, "Tower"]`, `logits[0, -1, " Paris"]`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from nnsight_magic.engine.tracing.token_texts import (
    PromptRow,
    Spelled,
    Texts,
    joined,
    position,
    prompt_rows,
    token_id,
    token_texts,
    vocabulary_size,
)

__all__ = [
    "ByText",
    "PromptRow",
    "Spelled",
    "Texts",
    "joined",
    "position",
    "prompt_rows",
    "token_id",
    "token_texts",
    "vocabulary_size",
]


class ByText:
    """A tensor whose index may address positions, or the vocabulary, by a token's text.

    Reads and writes go to the tensor itself, with each text replaced by its position.
    """

    __slots__ = ("_tensor", "_texts")

    def __init__(self, tensor: Any, rows: Sequence[PromptRow], model: Any = None) -> None:
        self._tensor, self._texts = tensor, Texts(rows, model)

    def __getitem__(self, index: Any) -> Any:
        return self._tensor[self._texts.numbers(index, self._tensor)]

    def __setitem__(self, index: Any, new: Any) -> None:
        self._tensor[self._texts.numbers(index, self._tensor)] = new
