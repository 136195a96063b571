"""With how many heads a module attends."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from nnsight_magic.engine.running.text_config import text_config

if TYPE_CHECKING:
    from torch import nn  # completion asks for heads before torch is there

COUNTS = ("num_heads", "num_attention_heads", "n_head", "n_heads", "num_v_heads")


def head_count(module: nn.Module, root: nn.Module) -> int | None:
    """How many heads a module attends with: it knows, or its configuration, or the model's."""
    return next(counts_of(module, root), None)


def counts_of(module: nn.Module, root: nn.Module) -> Iterator[int]:
    """Every number of heads that a module, its parts or a configuration names."""
    own = getattr(module, "config", None)
    for told in (module, *module._modules.values(), own, text_config(root)):
        for name in COUNTS:
            count = getattr(told, name, None)
            if isinstance(count, int) and count > 0:
                yield count
