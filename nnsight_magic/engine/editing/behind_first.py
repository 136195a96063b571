"""The index of all tokens behind the first: in each row its own, and in each step of a generation.

A slice cannot say it. `[:, 1:]` counts columns, so of a row with padding on the left it takes the
first token too; and a generation with a cache hands each new token over alone, at column 0. So
where tokens stand is read off what the model is called with at each step: its attention mask, and
how much its cache holds already.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.values.words import describe
from nnsight_magic.errors import EditError


@dataclass(frozen=True)
class BehindFirst:
    """Every token but each row's first one, in an edit's brackets: `[BEHIND_FIRST]`.

    Of a value `(batch, tokens, …)`. The first token's vector is of another length than all others
    in many models, and no direction means there what it means elsewhere (Sun et al. 2024,
    arXiv:2402.17762). Padding is left alone. Tokens that are generated are behind the first.
    """

    def __repr__(self) -> str:
        return "BEHIND_FIRST"


BEHIND_FIRST = BehindFirst()


class Columns:
    """Where the tokens of each row stand, in the step that a forward is at."""

    def __init__(self, two_sided: bool) -> None:
        """
        Args:
            two_sided: the model is an encoder with a decoder, whose mask is another argument.
        """
        self._mask_name = "decoder_attention_mask" if two_sided else "attention_mask"
        self._mask: torch.Tensor | None = None
        self._before = 0  # tokens that the cache holds

    def note(self, raw: Any, step: int, call: int) -> Any:
        """Looks at what the model is called with, and leaves it as it is."""
        _, kwargs = raw
        mask = kwargs.get(self._mask_name)
        self._mask = mask if isinstance(mask, torch.Tensor) and mask.ndim == 2 else None
        cache = kwargs.get("past_key_values")
        length = getattr(cache, "get_seq_length", None)
        self._before = int(length()) if length is not None else 0
        return raw

    def behind_first(self, value: Any) -> torch.Tensor:
        """Which tokens of a value are behind the first of their row, `(batch, tokens)`.

        Raises:
            EditError: the value has no row and column for each token.
        """
        if not isinstance(value, torch.Tensor) or value.ndim < 3:
            raise EditError(
                f"What stands there is {describe(value)}; the tokens behind the first are of a "
                "value (batch, tokens, …)."
            )
        rows, count = value.shape[:2]
        mask, before = self._mask, self._before
        if mask is None:
            places = before + torch.arange(count, device=value.device)
            return (places > 0).expand(rows, count)
        width = mask.shape[1]
        if mask.shape[0] != rows or width < count:
            raise EditError(
                f"What stands there is {describe(value)}, and the attention mask is "
                f"{tuple(mask.shape)}: they do not say which tokens are whose."
            )
        # Without a cache that tells, the value's tokens are the last of those that the mask is of.
        end = before + count if before and before + count <= width else width
        own = mask.to(value.device) != 0
        # A row without any token (all of it is padding) has none behind its first.
        behind = own & (own.long().cumsum(1) > 1)
        return behind[:, end - count : end]
