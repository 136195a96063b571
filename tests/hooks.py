"""Hand-written hooks, as the plain reference that the engine is compared with."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def hooked(module: nn.Module, change: Callable[[Any], Any]) -> Iterator[None]:
    """While it lasts, the module's output goes through `change` (`None` leaves it alone)."""
    handle = module.register_forward_hook(lambda module, args, output: change(output))
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def hooked_block(block: nn.Module, change: Callable[[Any], Any]) -> Iterator[None]:
    """As `hooked`, by the block's hidden states: before transformers 5 they stand in a tuple."""

    def changed(output: Any) -> Any:
        if not isinstance(output, tuple):
            return change(output)
        hidden = change(output[0])
        return None if hidden is None else (hidden, *output[1:])

    with hooked(block, changed):
        yield


def hook_count(root: nn.Module) -> int:
    """How many forward hooks there are in a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in root.modules())
