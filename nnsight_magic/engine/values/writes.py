"""Which of its arguments a torch function writes into, and which functions lend memory out.

By name where names tell (`add_`, `__setitem__`), by the schema where there is one (`torch.ops`,
`torch._foreach_mul_`), by `out=` and `inplace=True` everywhere. Memory that was lent to numpy or
another library is written without torch's counting it: such values are compared instead.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any

import torch

from nnsight_magic.engine.insides import torch_insides

_IN_PLACE_OPERATORS = frozenset(
    f"__{name}__"
    for name in (
        "setitem", "iadd", "isub", "imul", "itruediv", "ifloordiv", "imod", "ipow",
        "iand", "ior", "ixor", "ilshift", "irshift",
    )
)  # fmt: skip
# End in an underscore and leave the numbers alone.
_HARMLESS = frozenset({"requires_grad_", "share_memory_", "rename_", "detach_"})
_LENDING = frozenset({"numpy", "__array__", "__dlpack__", "untyped_storage", "storage", "data_ptr"})
_FIRST = (0, ("input", "self", "tensor"))  # a position, or one of these keywords

_mutates: dict[Any, bool] = {}
_places: dict[Any, tuple] = {}


def mutates(func: Any) -> bool:
    """Whether a torch function writes into an argument whatever it is given."""
    known = _mutates.get(func)
    if known is None:
        name = getattr(func, "__name__", "").partition(".")[0]
        known = name in _IN_PLACE_OPERATORS or (
            name.endswith("_") and not name.endswith("__") and name not in _HARMLESS
        )
        known = _mutates[func] = known or bool(_of_schema(func))
    return known


def lends(func: Any) -> bool:
    """Whether a torch function gives the memory of its first argument to somebody else."""
    return getattr(func, "__name__", "") in _LENDING


def tensors_written(func: Any, args: tuple, kwargs: dict[str, Any]) -> Iterator[torch.Tensor]:
    """The tensors that a call writes into."""
    if "out" in kwargs:
        yield from _tensors(kwargs["out"])
    if mutates(func) or kwargs.get("inplace"):
        places = _places.get(func)
        if places is None:
            places = _places[func] = _of_schema(func) or (_FIRST,)
        for position, names in places:
            if position < len(args):
                yield from _tensors(args[position])
            else:
                yield from _tensors(next((kwargs[name] for name in names if name in kwargs), None))


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for item in value:
            yield from _tensors(item)


def _of_schema(func: Any) -> tuple:
    """Positions and names of the arguments that the operator's schema says are written."""
    if isinstance(func, torch_insides.OVERLOAD):
        overloads = [func]
    elif isinstance(func, torch_insides.OPERATOR):
        overloads = [getattr(func, name) for name in func.overloads()]
        # Those with `out` are known by their keyword; the others differ in types alone.
        overloads = [each for each in overloads if not _outs(each)] or overloads
    elif getattr(func, "__name__", "").startswith("_f") and hasattr(torch.ops.aten, func.__name__):
        return _of_schema(getattr(torch.ops.aten, func.__name__))  # _foreach_mul_, _fused_adam_
    else:
        return ()
    places = {
        (position, (argument.name,))
        for overload in overloads
        for position, argument in enumerate(overload._schema.arguments)
        if argument.alias_info is not None and argument.alias_info.is_write
    }
    return tuple(sorted(places))


def _outs(overload: Any) -> bool:
    return any(argument.is_out for argument in overload._schema.arguments)


def checksum(value: torch.Tensor) -> int:
    """Of the bits of a tensor."""
    bits: Any = _bits(value).cpu().numpy()
    return zlib.crc32(bits)


def same_bits(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors of one kind hold the same, not-a-number included."""
    return torch.equal(_bits(one), _bits(other))


def _bits(value: torch.Tensor) -> torch.Tensor:
    plainly = torch_insides.as_plain_tensors
    whole = plainly(torch.Tensor.as_subclass, (), (value, torch.Tensor), {})
    whole = whole.detach().resolve_conj().resolve_neg()
    return whole.contiguous().reshape(-1).view(torch.uint8)
