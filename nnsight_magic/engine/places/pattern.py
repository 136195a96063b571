"""Attention patterns: `layers[3].attn.pattern`, whether or not attention runs fused."""

from __future__ import annotations

from typing import Any

from nnsight_magic.engine.places.heads import attends
from nnsight_magic.engine.places.operations import OperationHandle
from nnsight_magic.engine.running.head_counts import head_count
from nnsight_magic.errors import NoSuchModuleError

# Where an attention module leaves the attention itself to a part of it.
_INNER = ("self", "attention", "SelfAttention")


def pattern_of(attention: Any) -> OperationHandle:
    """The softmax of an attention module, whose output is the pattern.

    Raises:
        NoSuchModuleError: the module is no attention module.
    """
    handle, module = attention, attention.module
    called = f"{attention.name}.pattern" if attention.name else "pattern"
    while inner := next((name for name in _INNER if name in module._modules), None):
        handle, module = handle._child(inner), module._modules[inner]
    if not attends(attention) or head_count(module, attention._model._root) is None:
        raise NoSuchModuleError(
            f"{attention.name or 'The model'} ({type(attention.module).__name__}) is no attention "
            "module with heads that this package knows.\n"
            "Use the attention of a block, such as layers[3].attn."
        )
    return OperationHandle(handle, "pattern", called=called)
