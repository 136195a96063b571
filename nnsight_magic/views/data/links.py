"""What a token attends to and what attends to it, of one head or the mean of several."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.array import Array
from nnsight_magic.views.data.pooling import numbers


class Links:
    """Rows and columns of patterns `(blocks, heads, from, to)`.

    Of several heads the mean pattern is kept until others are asked for: it may take a run of the
    model for each block.
    """

    def __init__(self, patterns: Array) -> None:
        self._patterns = patterns
        self._mean: tuple[tuple[tuple[int, int], ...], np.ndarray] | None = None

    def of(self, heads: Sequence[tuple[int, int]], token: int) -> tuple[np.ndarray, np.ndarray]:
        """A token's row `(to,)` and its column `(from,)`, float32.

        Args:
            heads: block and head of each.
            token: its place among those that attend.

        Raises:
            BadInputError: there is no such token.
        """
        if not 0 <= token < self._patterns.shape[2]:
            raise BadInputError(f"no token {token} among {self._patterns.shape[2]}")
        mean = self.mean(heads)
        return np.ascontiguousarray(mean[token]), np.ascontiguousarray(mean[:, token])

    def mean(self, heads: Sequence[tuple[int, int]]) -> np.ndarray:
        """The mean pattern `(from, to)` of the heads, float32."""
        key = tuple(sorted(heads))
        if len(key) == 1:
            return self._head(*key[0])
        if self._mean is None or self._mean[0] != key:
            self._mean = None
            total = np.zeros(self._patterns.shape[2:], np.float64)
            for block, head in key:
                total += self._head(block, head)
            self._mean = key, (total / len(key)).astype(np.float32)
        return self._mean[1]

    def _head(self, block: int, head: int) -> np.ndarray:
        return numbers(self._patterns.slice([2, 3], [block, head, 0, 0])).astype(
            np.float32, copy=False
        )
