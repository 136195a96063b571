"""Attention patterns, also where attention runs fused: `layers[3].attn.pattern`.

Most models compute attention as one operation, `scaled_dot_product_attention`, which never gives
its pattern. Where the softmax in it is asked for, it is computed beside the fused operation, whose
result flows on all the same: looking changes no number. Once something is written to the scores
or to the pattern, the steps' result flows on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.heads import head_layout

if TYPE_CHECKING:
    from nnsight_magic.engine.operations import OperationHandle

FUSED = "scaled_dot_product_attention"
# Where an attention module leaves the attention itself to a part of it.
_INNER = ("self", "attention", "SelfAttention")


def pattern_of(attention: Any) -> OperationHandle:
    """The softmax of an attention module, whose output is the pattern.

    Raises:
        NoSuchModuleError: the module is no attention module.
    """
    from nnsight_magic.engine.operations import OperationHandle  # built on handles, as this is

    head_layout(attention)
    handle, module = attention, attention.module
    called = f"{attention.name}.pattern" if attention.name else "pattern"
    while inner := next((name for name in _INNER if name in module._modules), None):
        handle, module = handle._child(inner), module._modules[inner]
    return OperationHandle(handle, "softmax", called=called)


def in_steps(fused: Callable, args: tuple, kwargs: dict, arrive: Callable[[str, Any], Any]) -> Any:
    """`fused(*args, **kwargs)`, with its softmax shown to `arrive(kind, value)` on the way.

    The steps are those that torch documents for `scaled_dot_product_attention`; as transformers
    does, the softmax is taken in single precision at least.
    """
    scores, value, dropout = _scores(*args, **kwargs)
    dtype = torch.promote_types(scores.dtype, torch.float32)
    given = ((scores,), {"dim": -1, "dtype": dtype})
    positional, named = arrive("input", given)
    pattern = _softmax(*positional, **named)
    new = arrive("output", pattern)
    if new is pattern and positional is given[0] and named is given[1]:
        return fused(*args, **kwargs)
    return torch.dropout(new.to(value.dtype), dropout, train=dropout > 0) @ value


def _scores(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """Masked scores `(batch, heads, queries, keys)`, the values of all heads, the dropout."""
    if enable_gqa:
        groups = query.shape[-3] // key.shape[-3]
        key, value = (each.repeat_interleave(groups, -3) for each in (key, value))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else scale
    scores = query @ key.transpose(-2, -1) * scale
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        scores = scores.masked_fill(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores, value, dropout_p


def _softmax(scores: torch.Tensor, dim: int, dtype: torch.dtype) -> torch.Tensor:
    """A query that may look at nothing (padding) gets zeros, as in the fused operation."""
    nothing = (scores == -math.inf).all(dim, keepdim=True)
    return scores.softmax(dim, dtype).masked_fill(nothing, 0)
