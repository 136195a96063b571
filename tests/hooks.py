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


def hook_count(root: nn.Module) -> int:
    """How many forward hooks there are in a model."""
    return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in root.modules())
