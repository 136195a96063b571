"""What heads write to the residual stream, and whether their sum is what their attention adds.

A head's write is z W_O of it: what its part of the output projection makes of what it gives, times
the block's multiplier (Granite). Where a norm stands behind the attention (Gemma-2, OLMo-2, GLM-4)
what arrives is no such sum, and no head has a write of its own.
"""

from __future__ import annotations

from typing import Any

import torch

from nnsight_magic.errors import WrongValueError

TOLERANCE = 1e-3  # of the largest number; coarser dtypes get what their own precision allows


def residual_factor(model: Any) -> float:
    """What a block multiplies by what its halves give (Granite)."""
    return float(getattr(model.module.config.get_text_config(), "residual_multiplier", 1.0))


def head_writes(model: Any, block: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """What the heads of a block write, in a trace, and what its attention adds, float32.

    Returns:
        `(heads, tokens, hidden)` and `(tokens, hidden)`, of the one prompt.
    """
    heads = block.attn.result[0].value.detach().float().transpose(0, 1) * residual_factor(model)
    return heads, block.attn.added[0].value.detach().float()


def check_heads(layer: int, heads: torch.Tensor, attention: torch.Tensor, dtype: Any) -> None:
    """Between two runs the heads' changes make up that of the attention; a bias is in neither.

    Args:
        heads: `(heads, tokens, hidden)`, the change of each head's write.
        attention: `(tokens, hidden)`, that of what the attention adds.
        dtype: the model's own.

    Raises:
        WrongValueError: they do not.
    """
    if apart(heads.sum(0), attention, dtype):
        raise WrongValueError(
            f"What the attention of layers[{layer}] adds is not the sum of its heads' writes: a "
            "norm behind it, or something else, stands in between, so no head has a write of its "
            "own in this model."
        )


def apart(found: torch.Tensor, expected: torch.Tensor, dtype: Any) -> bool:
    """Whether two tensors differ by more than rounding does."""
    tolerance = max(TOLERANCE, 32 * torch.finfo(dtype).eps)
    return bool((found - expected).abs().max() > tolerance * expected.abs().max().clamp(min=1e-6))
