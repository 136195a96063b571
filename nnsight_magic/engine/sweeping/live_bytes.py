"""How many bytes of tensors a forward has in memory at most, beside the weights."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.weak import WeakIdKeyDictionary

from nnsight_magic.engine.insides import transformers_insides


class LiveBytes(TorchDispatchMode):
    """Blocks whose tensors are counted: those that are made in them, as long as they are there.

    What a fused operation needs inside of itself is not seen.

    Attributes:
        most: bytes that were there at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.most = self._now = 0
        self._known = WeakIdKeyDictionary()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = {id(t.untyped_storage()) for t in tree_leaves((args, kwargs)) if _is_tensor(t)}
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            storage = tensor.untyped_storage() if _is_tensor(tensor) else None
            if storage is not None and storage not in self._known and id(storage) not in given:
                self._known[storage] = size = storage.nbytes()
                self._now += size
                weakref.finalize(storage, self._gone, size)
        self.most = max(self.most, self._now)
        return found

    def _gone(self, size: int) -> None:
        self._now -= size


def _is_tensor(value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.layout is torch.strided


def bytes_of_token(module: nn.Module, kwargs: dict[str, Any], *, keeps: bool) -> int:
    """What one token of a forward takes, its logits left out: the blocks are run on these inputs.

    Args:
        module: the model.
        kwargs: of its forward.
        keeps: whether keys and values of all blocks stay until its end.
    """
    base = getattr(module, "base_model", module)
    taken = ("input_ids", "attention_mask", "position_ids")
    given = {name: kwargs[name] for name in taken if kwargs.get(name) is not None}
    own: dict[str, Any] = {"use_cache": False}
    cache = transformers_insides.cache_argument(module)
    if keeps and cache is not None:
        own = {cache: transformers_insides.new_cache(), "use_cache": True}
    live = LiveBytes()
    with torch.no_grad(), live:
        base(**given, **own)
    return live.most // max(1, given["input_ids"].numel())
