"""The queries and keys that attention multiplies, whichever operation it does it by."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from nnsight_magic.engine.running.fused import FUSED

PRODUCTS = ("matmul", FUSED)


class Multiplied(NamedTuple):
    """What one operation multiplies.

    Attributes:
        query: `(batch, heads, queries, size)`.
        key: `(batch, heads, keys, size)`.
        put: the operation's arguments with others in their place.
    """

    query: torch.Tensor
    key: torch.Tensor
    put: Callable[[torch.Tensor, torch.Tensor], tuple[tuple, dict[str, Any]]]


def multiplied(name: str, args: tuple, kwargs: dict[str, Any]) -> Multiplied | None:
    """The queries and keys of an operation; `None` for one that multiplies none."""
    if name not in PRODUCTS or len(args) < 2:
        return None
    query, key = args[:2]
    if not all(isinstance(each, torch.Tensor) and each.ndim == 4 for each in (query, key)):
        return None
    if name == FUSED:
        return Multiplied(query, key, lambda q, k: ((q, k, *args[2:]), kwargs))
    turned = key.transpose(-1, -2)
    return Multiplied(query, turned, lambda q, k: ((q, k.transpose(-1, -2), *args[2:]), kwargs))
