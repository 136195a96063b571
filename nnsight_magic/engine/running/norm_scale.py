"""What a norm multiplies by, `1 / std` or `1 / rms` of each token: also where it runs fused.

Norms that are written in steps take a reciprocal square root, whose result it is. `layer_norm` and
`rms_norm` are one operation each, which never shows it: there it is computed beside the operation,
whose result flows on all the same. Once it is written to, the steps' result flows on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

FUSED_NORMS = frozenset({"layer_norm", "rms_norm"})


def is_reciprocal_root(name: str, args: tuple) -> bool:
    """Whether an operation gives `1 / sqrt(x)`: `rsqrt`, or `pow(x, -0.5)`."""
    return name == "rsqrt" or (name == "pow" and len(args) > 1 and args[1] == -0.5)


def scaled(
    name: str, args: tuple, kwargs: dict[str, Any], result: Any, arrive: Callable[[Any], Any]
) -> Any:
    """What a fused norm gives, with its scale shown to `arrive` on the way.

    The steps are those that torch documents for `layer_norm` (Ba et al. 2016, arXiv:1607.06450)
    and `rms_norm` (Zhang and Sennrich 2019, arXiv:1910.07467); as the fused ones do, they compute
    in single precision at least.
    """
    given = _arguments(name, args, kwargs)
    source = given["input"]
    axes = tuple(range(-len(given["normalized_shape"]), 0))
    x = source.to(torch.promote_types(source.dtype, torch.float32))
    if name == "layer_norm":
        x = x - x.mean(axes, keepdim=True)
    eps = given["eps"]
    if eps is None:
        eps = torch.finfo(source.dtype).eps
    scale = torch.rsqrt(x.square().mean(axes, keepdim=True) + eps)
    new = arrive(scale)
    if new is scale:
        return result
    x = x * new
    for each, act in ((given["weight"], torch.mul), (given["bias"], torch.add)):
        x = x if each is None else act(x, each)
    return x.to(source.dtype)


def _arguments(name: str, args: tuple, kwargs: dict[str, Any]) -> dict[str, Any]:
    """By name, as `torch.nn.functional` calls them."""
    if name == "layer_norm":
        names, defaults = ("input", "normalized_shape", "weight", "bias", "eps"), {"eps": 1e-5}
    else:
        names, defaults = ("input", "normalized_shape", "weight", "eps"), {"eps": None}
    found = {"weight": None, "bias": None, **defaults}
    return {**found, **dict(zip(names, args, strict=False)), **kwargs}
