"""What each head adds to the residual stream: `z W_O` of its own, without the projection's bias."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.values.laid_out import Layout
from nnsight_magic.errors import WrongValueError

Both = tuple[torch.Tensor, torch.Tensor]  # what a projection is given, and what it gives


@dataclass(frozen=True)
class HeadResults(Layout):
    """The results of heads in what an output projection is given and gives.

    Head j of `heads` owns as many columns of what is given, and as many of the weight:
    `result_j = z_j W_O,j`, as in Elhage et al. 2021, "A Mathematical Framework for Transformer
    Circuits". All of them and the bias, which belongs to no head, sum up to what the projection
    gives. What is written in place of a result is added to that, and the result taken from it.

    Attributes:
        module: the projection.
        head: the one that is meant, `(batch, tokens, hidden)`; `None` for all of them,
            `(batch, tokens, heads, hidden)`.
    """

    module: nn.Module = field(kw_only=True)
    heads: int = field(kw_only=True)
    head: int | None = field(default=None, kw_only=True)

    def take(self, raw: Any) -> torch.Tensor:
        z = raw[0].unflatten(-1, (self.heads, -1))
        weight = self._weight().unflatten(-1, (self.heads, -1)).to(z.dtype)  # hidden, heads, size
        if self.head is not None:
            return z[..., self.head, :] @ weight[:, self.head].transpose(0, 1)
        return torch.einsum("...hs,ohs->...ho", z, weight)

    def put(self, raw: Any, new: torch.Tensor) -> Both:
        given, output = raw
        more = new - self.take(raw)
        return given, output + (more if self.head is not None else more.sum(-2))

    def _weight(self) -> torch.Tensor:
        """The weight as `(output, input)`.

        Raises:
            WrongValueError: it is not at hand: quantised, adapted, or kept elsewhere.
        """
        weight = plain_weight(self.module)
        if weight is None or weight.is_meta:
            raise WrongValueError(
                f"{self.called} needs the weight of the output projection, and that of a "
                f"{type(self.module).__name__} is not at hand here.\n"
                "What the heads give before it is there all the same: heads[j], or z of all."
            )
        return weight


def plain_weight(module: nn.Module) -> torch.Tensor | None:
    """The weight of a linear map as `(output, input)`; `None` where it maps otherwise.

    GPT-2's `Conv1D` keeps it the other way round. Layers that are quantised or have an adapter
    have another weight than the one that they hold.
    """
    weight = module._parameters.get("weight")
    if weight is None or not weight.is_floating_point() or weight.ndim != 2 or module._modules:
        return None
    if hasattr(module, "nf"):
        return weight.transpose(0, 1)
    wide = (getattr(module, "out_features", None), getattr(module, "in_features", None))
    return weight if wide == tuple(weight.shape) else None
