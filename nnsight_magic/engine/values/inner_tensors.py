"""The tensors whose memory a tensor really is in.

Most tensors are their own. One of a subclass with a `__torch_dispatch__` of its own, such as
quantised weights of torchao or a shard of a distributed model, has a shape and a dtype and no
memory: its numbers are those of tensors that it holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from nnsight_magic.engine.values.plainly import plainly

_OWN_MEMORY = frozenset({torch.Tensor, torch.nn.Parameter})
_TENSOR: Any = torch.Tensor
_PLAIN_DISPATCH = _TENSOR.__torch_dispatch__


def are_plain(tensors: list[torch.Tensor]) -> bool:
    """Whether each of these is its own memory; fast, and sometimes too careful."""
    return _OWN_MEMORY.issuperset(map(type, tensors))


def is_wrapper(tensor: torch.Tensor) -> bool:
    """Whether torch asks the tensor's class about every operation.

    >>> is_wrapper(torch.ones(2)), is_wrapper(torch.nn.Parameter(torch.ones(2)))
    (False, False)
    """
    kind: Any = type(tensor)
    return kind.__torch_dispatch__ is not _PLAIN_DISPATCH


def inner_tensors(tensor: torch.Tensor) -> list[torch.Tensor]:
    """The tensors that hold this one's numbers: itself, or those that it wraps at any depth.

    Empty where they cannot be found, as of a wrapper that keeps them in another object.

    >>> weight = torch.ones(2)
    >>> [each is weight for each in inner_tensors(weight)]
    [True]
    """
    found: list[torch.Tensor] = []
    seen, ahead = {id(tensor)}, [tensor]
    while ahead:
        each = ahead.pop()
        if not is_wrapper(each) or has_memory(each):
            found.append(each)
        inside = [held for held in _held_by(each) if id(held) not in seen]
        seen.update(map(id, inside))
        ahead += inside
    return found


def has_memory(tensor: torch.Tensor) -> bool:
    """Whether a wrapper has numbers of its own."""
    try:
        return plainly(torch.Tensor.data_ptr, tensor) != 0
    except RuntimeError:  # no storage at all
        return False


def plain_alias(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor's memory without its class, which would be asked about every look at it."""
    if not is_wrapper(tensor):
        return tensor
    kind = _TENSOR
    dtype, device = plainly(kind.dtype.__get__, tensor), plainly(kind.device.__get__, tensor)
    storage, first = plainly(kind.untyped_storage, tensor), plainly(kind.storage_offset, tensor)
    shape, strides = plainly(kind.shape.__get__, tensor), plainly(kind.stride, tensor)
    return torch.empty(0, dtype=dtype, device=device).set_(storage, first, shape, strides)


def _held_by(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The tensors that a wrapper holds; none for any other."""
    if not is_wrapper(tensor):
        return
    flatten = getattr(tensor, "__tensor_flatten__", None)
    if flatten is not None:
        values: Any = [getattr(tensor, name) for name in flatten()[0]]
    else:
        slots = (vars(kind).get("__slots__", ()) for kind in type(tensor).__mro__)
        names = [name for each in slots for name in ([each] if isinstance(each, str) else each)]
        values = [*getattr(tensor, "__dict__", {}).values()]
        values += [getattr(tensor, name, None) for name in names]
    for value in values:
        several = value.values() if isinstance(value, dict) else value
        for each in several if isinstance(value, list | tuple | dict) else [value]:
            if isinstance(each, torch.Tensor):
                yield each
