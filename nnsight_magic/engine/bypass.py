"""Modules that a forward does not run: skipped by the user, or known from an earlier forward.

A hook cannot keep a module from running. While a trace lasts, the instance attribute `forward`
of such a module asks first whether the calling forward wants it to run; it is taken away with
the trace's hooks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet
from torch import nn

from nnsight_magic.engine.interrupt import uninterrupted

Produce = Callable[[tuple, dict[str, Any]], Any]


class Bypasses:
    """The bypassed modules of one trace, by the greenlet of the forward that they concern."""

    def __init__(self) -> None:
        self._produce: dict[tuple[greenlet, nn.Module], Produce] = {}
        self._originals: dict[nn.Module, Any] = {}

    def add(self, running: greenlet, module: nn.Module, produce: Produce) -> None:
        """Let calls of `module` out of `running` give what `produce(args, kwargs)` gives."""
        self.watch(module)
        self._produce[running, module] = produce

    @uninterrupted
    def watch(self, module: nn.Module) -> None:
        """Make the module ask: a call that has begun before cannot be bypassed any more."""
        if module in self._originals:
            return
        original = module.forward
        self._originals[module] = module.__dict__.get("forward")

        def forward(*args: Any, **kwargs: Any) -> Any:
            produce = self._produce.get((getcurrent(), module))
            return original(*args, **kwargs) if produce is None else produce(args, kwargs)

        module.__dict__["forward"] = forward

    def remove(self, running: greenlet, module: nn.Module) -> None:
        self._produce.pop((running, module), None)

    def forget(self, running: greenlet | None) -> None:
        """The forward has ended."""
        for key in [key for key in self._produce if key[0] is running]:
            del self._produce[key]

    def close(self) -> None:
        """Give every module its own `forward` back."""
        for module, original in self._originals.items():
            if original is None:
                module.__dict__.pop("forward", None)
            else:
                module.__dict__["forward"] = original
        self._originals.clear()
        self._produce.clear()


def hidden_of(args: tuple, kwargs: dict[str, Any]) -> Any:
    """The hidden states that a block is called with: its first argument."""
    return args[0] if args else next(iter(kwargs.values()))
