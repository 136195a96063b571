"""Attention of many heads as a view has it: small pictures, and numbers for each head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.words import brief

SINK = "sink"  # how its column is labelled


@dataclass(frozen=True)
class Heads:
    """Patterns of all heads of several blocks, small, and scores of the heads.

    Attributes:
        small: `(blocks, heads, rows, columns)`, from 0 to 1; a head that is not there is NaN.
        layers: the numbers of the blocks.
        tokens: the prompt's.
        scores: by their name, `(blocks, heads)` each.
        sink: whether the last column of the patterns is the weight on a sink.
    """

    small: np.ndarray
    layers: Sequence[int]
    tokens: Sequence[str]
    scores: Mapping[str, np.ndarray]
    sink: bool = False

    def __post_init__(self) -> None:
        if self.small.ndim != 4 or len(self.small) != len(self.layers):
            raise BadInputError(
                f"{len(self.layers)} blocks for patterns of shape {self.small.shape}; expected "
                "(blocks, heads, rows, columns)"
            )
        for name, values in self.scores.items():
            if values.shape != self.small.shape[:2]:
                raise BadInputError(f"{name} has shape {values.shape}, not {self.small.shape[:2]}")

    @property
    def codes(self) -> np.ndarray:
        """The small patterns as bytes: 255 is all of a token's attention."""
        return (np.nan_to_num(self.small).clip(0, 1) * 255).round().astype(np.uint8)

    @property
    def size(self) -> str:
        """How many there are, in words."""
        blocks, heads = self.small.shape[:2]
        return f"{blocks} block{'s' * (blocks != 1)} of {heads} heads"

    def packed(self) -> dict[str, Any]:
        """JSON: sizes, tokens and scores."""
        return {
            "layers": [int(each) for each in self.layers],
            "heads": self.small.shape[1],
            "size": list(self.small.shape[2:]),
            "tokens": [str(each) for each in self.tokens],
            "sink": self.sink,
            "scores": {
                name: [[brief(value) for value in row] for row in values.tolist()]
                for name, values in self.scores.items()
            },
        }

    def known(self, heads: Any) -> list[tuple[int, int]]:
        """Places of heads, `(block, head)` each, as a page may ask for them.

        Raises:
            BadInputError: there are none, or none such.
        """
        blocks, count = self.small.shape[:2]
        try:
            found = [(int(block), int(head)) for block, head in heads]
        except (TypeError, ValueError):
            raise BadInputError(f"heads are pairs of numbers; found {heads!r}") from None
        if not found or not all(0 <= b < blocks and 0 <= h < count for b, h in found):
            raise BadInputError(f"no heads {heads!r} in {blocks} blocks of {count} heads")
        return found

    def ranked(self, name: str, count: int) -> list[tuple[int, int]]:
        """The heads with the highest scores of that name: places among the blocks, and heads."""
        flat = np.nan_to_num(self.scores[name], nan=-np.inf).ravel()
        order = np.argsort(-flat, kind="stable")[:count]
        return [divmod(int(k), self.small.shape[1]) for k in order if np.isfinite(flat[k])]
