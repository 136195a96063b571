"""Hooks found on a module by what they call, and their order.

The handle that torch gives for a hook may never be kept: an exception can rise between the
registration and the note of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from nnsight_magic.engine.insides import transformers_insides


def take_away(module: nn.Module, act: Callable) -> None:
    """Remove every forward hook and pre-hook of `module` that calls `act`."""
    for hooks, with_kwargs in (
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
        (module._forward_hooks, module._forward_hooks_with_kwargs),
    ):
        for key in [key for key, each in hooks.items() if each == act]:
            with_kwargs.pop(key, None)
            hooks.pop(key, None)


def captures_behind(module: nn.Module) -> list[int]:
    """Move the hooks that note outputs behind all others, so that they see what those wrote.

    Returns:
        The order in which the hooks were, empty if it was left; see `put_in_order`.
    """
    hooks: Any = module._forward_hooks  # an OrderedDict
    captures = [key for key, each in hooks.items() if transformers_insides.captures(each)]
    order = [*hooks] if captures else []
    for key in captures:
        hooks.move_to_end(key)
    return order


def put_in_order(module: nn.Module, order: list[int]) -> None:
    """Put a module's hooks in the order in which they were; new ones come after them."""
    hooks: Any = module._forward_hooks
    new = [key for key in hooks if key not in order]
    for key in (*order, *new):
        if key in hooks:
            hooks.move_to_end(key)
