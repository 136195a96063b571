"""The gradient of a part of a value: `layers[1].output[:, -1].grad`, `attn.heads[4].grad`.

What flows on is the whole, of which a part is a view. Autograd takes the view for a step beside the
way, whose gradient torch gives as None. The gradient at the part is the same part of the whole's.
"""

from __future__ import annotations

import torch

from nnsight_magic.engine.values.plainly import TENSOR, plainly


def whole_of(part: torch.Tensor) -> torch.Tensor | None:
    """The tensor that `part` is a view of, None where it has memory of its own."""
    return plainly(TENSOR._base.__get__, part)


def same_part(gradient: torch.Tensor, whole: torch.Tensor, part: torch.Tensor) -> torch.Tensor:
    """What of a gradient of `whole` belongs to `part`; it shares memory with it where both
    lie in memory alike.

    Args:
        gradient: as large as `whole`.
        part: a view of `whole`.

    >>> whole = torch.arange(6.0).reshape(2, 3)
    >>> same_part(10 * whole, whole, whole[:, -1])
    tensor([20., 50.])
    """
    if gradient.stride() != whole.stride():
        laid_out = torch.empty_strided(
            whole.size(), whole.stride(), dtype=gradient.dtype, device=gradient.device
        )
        gradient = laid_out.copy_(gradient)
    begin = part.storage_offset() - whole.storage_offset() + gradient.storage_offset()
    return gradient.as_strided(part.size(), part.stride(), begin)
