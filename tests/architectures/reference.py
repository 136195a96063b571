"""What hand-written hooks see and change: the reference for every architecture."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn


def run(hf: nn.Module, inputs: dict, cache: bool = False) -> Any:
    extra = {"use_cache": cache} if takes_cache(hf) else {}
    with torch.no_grad():
        return hf(**inputs, **extra)


def takes_cache(hf: nn.Module) -> bool:
    return hasattr(hf, "generate") and hasattr(hf.config, "use_cache")


def final(output: Any) -> torch.Tensor:
    """The tensor that tells whether two forwards were the same."""
    for name in ("logits", "logits_per_image"):
        if name in output:
            return output[name]
    return first(output)[1]


def first(value: Any, path: tuple = ()) -> tuple[tuple, torch.Tensor] | None:
    """The first floating tensor of a nested value, and where it stands."""
    if isinstance(value, torch.Tensor):
        return (path, value) if value.is_floating_point() else None
    if isinstance(value, tuple | list):
        items = enumerate(value)
    elif isinstance(value, dict):
        items = value.items()
    else:
        return None
    for key, item in items:
        found = first(item, (*path, key))
        if found is not None:
            return found
    return None


def replaced(value: Any, path: tuple, new: torch.Tensor) -> Any:
    if not path:
        return new
    if isinstance(value, dict):
        other = copy.copy(value)
        other[path[0]] = replaced(value[path[0]], path[1:], new)
        return other
    items = list(value)
    items[path[0]] = replaced(items[path[0]], path[1:], new)
    return type(value)(items)


def outputs(hf: nn.Module, inputs: dict) -> dict[str, tuple[tuple, torch.Tensor]]:
    """The first floating tensor that every module gives at its first call, by path."""
    seen: dict[str, tuple[tuple, torch.Tensor]] = {}
    handles = []
    for path, module in hf.named_modules():

        def keep(module, args, output, path=path):
            found = first(output)
            if path not in seen and found is not None:
                seen[path] = (found[0], found[1].clone())

        handles.append(module.register_forward_hook(keep))
    try:
        run(hf, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return seen


def written(hf: nn.Module, inputs: dict, path: str, call: int = 0) -> torch.Tensor:
    """The final tensor if one call of a module gives half of what it gives, and a bit more."""
    calls = 0

    def change(module, args, output):
        nonlocal calls
        calls += 1
        if calls - 1 != call:
            return None
        where, tensor = first(output)
        return replaced(output, where, tensor * 0.5 + 0.25)

    handle = hf.get_submodule(path).register_forward_hook(change)
    try:
        return final(run(hf, inputs))
    finally:
        handle.remove()
