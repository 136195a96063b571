"""The scores and the softmax of attention, also where it runs fused.

Most models compute attention as one operation, `scaled_dot_product_attention`, which never gives
its pattern. Where the softmax in it is asked for, it is computed beside the fused operation, whose
result flows on all the same: looking changes no number. Once something is written to the scores
or to the pattern, the steps' result flows on.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.running.head_counts import head_count
from nnsight_magic.errors import WrongValueError

FUSED = "scaled_dot_product_attention"
# A head's own weight for "nothing": one column more in the softmax, for which there is no key.
_SINKS = ("sinks", "attention_sink_bias")


def has_sink(module: nn.Module) -> bool:
    """Whether the heads of an attention have a weight for "nothing", as gpt-oss has."""
    return any(getattr(module, name, None) is not None for name in _SINKS)


def by_heads(module: nn.Module, root: nn.Module, softmax: torch.Tensor) -> torch.Tensor:
    """What an attention's softmax gives, as `(batch, heads, queries, keys)`; the same memory.

    Some merge batch and heads into one dimension. Where heads have a sink, its column is left
    out: what a row lacks to 1 is what the head gives to it.

    Raises:
        WrongValueError: it is laid out in no way that is known.
    """
    heads = head_count(module, root)
    found = softmax
    if found.ndim == 3 and heads and found.shape[0] % heads == 0:
        found = found.view(-1, heads, *found.shape[1:])
    if has_sink(module):
        found = found[..., :-1]
    if found.ndim != 4 or found.shape[1] != heads:
        raise WrongValueError(
            f"The softmax of {type(module).__name__} gives {tuple(softmax.shape)}, in which its "
            f"{heads} heads are not to be found: pattern would be (batch, heads, queries, keys).\n"
            "Use it as it is: .ops.softmax[0].output of the attention."
        )
    return found


def put_by_heads(softmax: torch.Tensor, old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    """The softmax with a pattern `old`, as `by_heads` gave it, replaced by `new`."""
    if softmax.ndim == 3:
        new = new.reshape(-1, *new.shape[2:])
    if old.shape[-1] < softmax.shape[-1]:
        new = torch.cat([new, softmax[..., old.shape[-1] :]], -1)
    return new.reshape(softmax.shape)


def in_steps(
    fused: Callable,
    args: tuple,
    kwargs: dict,
    arrive: Callable[[str, Any], Any],
    heads: int | None = None,
) -> Any:
    """`fused(*args, **kwargs)`, with its softmax shown to `arrive(kind, value)` on the way.

    The steps are those that torch documents for `scaled_dot_product_attention`; as transformers
    does, the softmax is taken in single precision at least. Where the one query of a generation's
    step came packed by key-value heads, `(batch, key-value heads, queries of each, keys)`, the
    softmax is shown as that of `heads` heads.
    """
    scores, value, dropout = _scores(*args, **kwargs)
    packed = scores.shape
    if heads is not None and _is_packed(packed, heads):
        scores = scores.reshape(packed[0], heads, 1, packed[3])
    dtype = torch.promote_types(scores.dtype, torch.float32)
    given = ((scores,), {"dim": -1, "dtype": dtype})
    positional, named = arrive("input", given)
    pattern = _softmax(*positional, **named)
    new = arrive("output", pattern)
    if new is pattern and positional is given[0] and named is given[1]:
        return fused(*args, **kwargs)
    new = new.reshape(packed)
    return torch.dropout(new.to(value.dtype), dropout, train=dropout > 0) @ value


def _is_packed(shape: torch.Size, heads: int | None) -> bool:
    return len(shape) == 4 and shape[1] != heads and shape[1] * shape[2] == heads


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
    # In place where nobody has the tensor yet: of 2,000 tokens each copy is 16 MB a head.
    scores = (query @ key.transpose(-2, -1)).mul_(scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        fits = torch.broadcast_shapes(scores.shape, attn_mask.shape) == scores.shape
        filled = scores.masked_fill_ if fits else scores.masked_fill
        scores = filled(~attn_mask, -math.inf)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return scores, value, dropout_p


def _softmax(scores: torch.Tensor, dim: int, dtype: torch.dtype) -> torch.Tensor:
    """A query that may look at nothing (padding) gets zeros, as in the fused operation."""
    pattern = scores.softmax(dim, dtype)
    nothing = scores.amax(dim, keepdim=True) == -math.inf
    # On shapes alone nobody can tell whether there is such a query.
    return pattern.masked_fill(nothing, 0) if _is_abstract(scores) or nothing.any() else pattern


def _is_abstract(tensor: torch.Tensor) -> bool:
    return tensor.is_meta or type(tensor) not in (torch.Tensor, nn.Parameter)
