"""The way from the residual stream to the logits, taken apart: final norm, unembedding, scale, cap.

At one position, with the statistics of the norm frozen at the run's own, the way is linear:

    h = s · w ⊙ (x - mean(x)) + b          the norm; RMSNorm has no mean
    logits = cap(k · (W_U h + b_U))        k: Cohere, Granite, T5; cap: Gemma-2

What the norm multiplies by is asked of the norm itself, with a vector of known statistics, and
each part of the formula is held against the model's own numbers before it is used: a norm or an
unembedding of another form is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nnsight_magic.errors import WrongValueError

TOLERANCE = 1e-4  # relative, for float32; coarser numbers get what their own precision allows


@dataclass(frozen=True)
class NormShape:
    """What a norm does besides dividing by its statistics.

    Attributes:
        weight: `(hidden,)`, what it multiplies by.
        bias: `(hidden,)`.
        centred: whether the mean is taken off first (LayerNorm).
    """

    weight: torch.Tensor
    bias: torch.Tensor
    centred: bool

    def unscaled(self, part: torch.Tensor) -> torch.Tensor:
        """A part `(…, hidden)` of the norm's input, before the statistics and the bias."""
        if self.centred:
            part = part - part.mean(-1, keepdim=True)
        return part * self.weight.to(part.dtype)

    def scale(self, before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
        """1/σ, or 1/rms, of a run: `(…, 1)`, float32.

        Args:
            before, after: `(…, hidden)`, what the norm was given and what it gave.

        Raises:
            WrongValueError: it did something else.
        """
        plain, wanted = self.unscaled(before.float()), after.float() - self.bias
        squares = plain.square().sum(-1, keepdim=True).clamp(min=1e-30)
        scale = (plain * wanted).sum(-1, keepdim=True) / squares
        if not _close(plain * scale, wanted, before.dtype):
            raise WrongValueError(
                "A norm is neither a LayerNorm nor an RMSNorm by its numbers, so its statistics "
                "cannot be held constant."
            )
        return scale


def norm_shape(norm: nn.Module, hidden: int, like: torch.Tensor) -> NormShape:
    """A norm's weight and bias, asked of the norm itself with a vector of known statistics.

    Args:
        norm: the module; Gemma's multiplies by 1 + weight, others by other things.
        hidden: the size of its vectors.
        like: a tensor of the dtype and device that it is called with.
    """
    probe = _probe(hidden, like)
    with torch.no_grad():
        there, back = (_called(norm, sign * probe, like) for sign in (1, -1))
        bias, half = (there + back) / 2, (there - back) / 2
        shifted = _called(norm, probe + probe.abs().max(), like)
    centred = _close(shifted - bias, half, like.dtype)
    return NormShape(half * probe.square().mean().sqrt() / probe, bias, centred)


@dataclass(frozen=True)
class FrozenNorm:
    """A norm as a linear map of the vectors that are added up in its input.

    Attributes:
        shape: its weight and bias.
        scale: the run's own 1/σ, or 1/rms.
    """

    shape: NormShape
    scale: float

    def pull_back(self, direction: torch.Tensor) -> torch.Tensor:
        """The direction u `(hidden,)` with `u · part = direction · what the part becomes`."""
        pulled = direction * self.shape.weight * self.scale
        return pulled - pulled.mean() if self.shape.centred else pulled


def frozen_norm(norm: nn.Module, before: torch.Tensor, after: torch.Tensor) -> FrozenNorm:
    """The norm at one position of a run, `(hidden,)` before and after.

    Raises:
        WrongValueError: it is no LayerNorm or RMSNorm by its numbers.
    """
    shape = norm_shape(norm, len(before), before)
    return FrozenNorm(shape, float(shape.scale(before, after)))


@dataclass(frozen=True)
class Unembedding:
    """`logits = cap(factor · (weight @ h + bias))`, as one model has it.

    Attributes:
        weight: `(vocabulary, hidden)`, in the model's own dtype.
        bias: `(vocabulary,)` or `None`.
        factor: the logits' scale, 1 in most models.
        cap: the softcap, or `None`.
    """

    weight: torch.Tensor
    bias: torch.Tensor | None
    factor: float
    cap: float | None

    def row(self, token: int) -> torch.Tensor:
        """The direction `(hidden,)` whose product with h is the token's logit before the cap."""
        return self.weight[token].float() * self.factor

    def bias_of(self, token: int) -> float:
        return 0.0 if self.bias is None else float(self.bias[token]) * self.factor


def unembedding(
    module: nn.Module, hidden: torch.Tensor, logits: torch.Tensor, cap: float | None
) -> Unembedding:
    """How one model comes from the normed residual stream to its logits.

    Args:
        module: the unembedding.
        hidden: `(hidden,)`, what it was given at one position.
        logits: `(vocabulary,)`, the model's own at that position.
        cap: the softcap that the configuration names, if any.

    Raises:
        WrongValueError: the logits are not what the formula gives.
    """
    weight, bias = getattr(module, "weight", None), getattr(module, "bias", None)
    dtype = logits.dtype
    if isinstance(weight, torch.Tensor) and weight.shape == (len(logits), len(hidden)):
        with torch.no_grad():
            plain = module(hidden[None, None])[0, 0].float()
            wanted = logits.float()
            if cap:
                wanted = cap * torch.atanh((wanted / cap).clamp(-0.999999, 0.999999))
            factor = float(plain @ wanted / (plain @ plain))
            given = plain * factor
            if abs(factor - 1) < TOLERANCE:
                factor = 1.0
            if _close(cap * torch.tanh(given / cap) if cap else given, logits.float(), dtype):
                return Unembedding(weight.detach(), bias, factor, cap)
    raise WrongValueError(
        f"The logits are not those of a linear unembedding ({type(module).__name__}), scaled or "
        "capped: what each part of the residual stream adds to them is not known."
    )


def _probe(size: int, like: torch.Tensor) -> torch.Tensor:
    """A vector with mean zero and no small number, so long that no epsilon counts."""
    signs = torch.ones(size, device=like.device)
    signs[1::2] = -1
    return 100 * (signs - signs.mean())


def _called(norm: nn.Module, vector: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    return norm(vector.to(like.dtype)[None, None]).detach()[0, 0].float()


def _close(one: torch.Tensor, other: torch.Tensor, dtype: torch.dtype) -> bool:
    tolerance = max(TOLERANCE, 4 * torch.finfo(dtype).eps)
    return bool((one - other).abs().max() <= tolerance * other.abs().max().clamp(min=1e-6))
