"""Hooks found on a module by what they call.

The handle that torch gives for a hook may never be kept: an exception can rise between the
registration and the note of it.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def take_away(module: nn.Module, act: Callable) -> None:
    """Remove every forward hook and pre-hook of `module` that calls `act`."""
    for hooks, with_kwargs in (
        (module._forward_pre_hooks, module._forward_pre_hooks_with_kwargs),
        (module._forward_hooks, module._forward_hooks_with_kwargs),
    ):
        for key in [key for key, each in hooks.items() if each == act]:
            with_kwargs.pop(key, None)
            hooks.pop(key, None)
