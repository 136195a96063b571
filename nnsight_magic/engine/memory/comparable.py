"""Values of any kind, put into a form that two moments can be compared by.

Numbers and texts are told by what they are, tensors and functions by which they are. Containers
and objects are gone into and told by what they hold: a model that makes some anew in each forward
could never be resumed otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from functools import cache, partial
from logging import Logger
from operator import attrgetter
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any
from zlib import crc32

import numpy
import torch
from torch import nn

from nnsight_magic.engine.values.inner_tensors import inner_tensors
from nnsight_magic.engine.values.plainly import TENSOR, plainly

_COMPARED = 256  # items of a container; longer ones are labels and vocabularies
_DEEP = 5  # containers and objects in one another
_GONE_INTO = 2_000  # of them, all together
_PLAIN = frozenset({bool, int, float, complex, str, type(None), torch.dtype, torch.device})

of_tensor = attrgetter("_version", "dtype")  # of one that is no subclass of torch's


def of_any_tensor(tensor: torch.Tensor) -> tuple:
    """The same of whatever subclass, which is not asked."""
    get = TENSOR._version.__get__, TENSOR.dtype.__get__
    return tuple(plainly(each, tensor) for each in get)


def address_of(tensor: torch.Tensor) -> int:
    """Where the tensor's memory begins; a subclass is not asked."""
    return plainly(torch.Tensor.data_ptr, tensor)


class Same:
    """Something that was looked at already; its number says which it was."""


def add_comparable(values: Iterable[Any], state: list, alive: list) -> None:
    """Add to `state` what can be compared of these values, and to `alive` what is compared by
    identity: as long as that is held, no other object can get its address."""
    _Walk(state, alive).add(values)


def lasts(value: Any) -> bool:
    """Whether a value compares the same for ever, as long as it is the same object."""
    kind = type(value)
    return kind in _PLAIN or _way(kind) in (_identity, _method)


class _Walk:
    def __init__(self, state: list, alive: list):
        self.state, self.alive = state, alive
        self._seen: set[int] = set()
        self.depth = 0

    def add(self, values: Iterable[Any]) -> None:
        for value in values:
            kind = type(value)  # isinstance() would ask a configuration's own __getattribute__
            if kind in _PLAIN:
                self.state.append(value)
            else:
                _way(kind)(value, self)

    def identity(self, value: Any) -> None:
        self.state.append(id(value))
        self.alive.append(value)

    def go_into(self, value: Any, held: Callable[[Any], Iterable[Any]]) -> None:
        """Add what an object holds; once, and only so deep: it may hold the whole program."""
        if self.depth < _DEEP and id(value) not in self._seen and len(self._seen) < _GONE_INTO:
            self._seen.add(id(value))
            self.depth += 1
            inner = held(value)
            self.alive.append(inner)  # it may be made for this, and others come in its place
            self.add(inner)
            self.depth -= 1


@cache
def _way(kind: type) -> Callable[[Any, _Walk], None]:
    """How values of this type are added."""
    found = next((add for base, add in _WAYS if issubclass(kind, base)), None)
    if found is not None:
        return found
    return _callable_object if hasattr(kind, "__call__") else _object  # noqa: B004


def _identity(value: Any, walk: _Walk) -> None:
    walk.identity(value)


def _function(value: Any, walk: _Walk) -> None:
    """By itself and its code, which `%autoreload` replaces, and by the numbers that it has from the
    functions around it; not by the lists and objects: a forward that was replaced in order to
    count or to log has those."""
    walk.identity(value)
    walk.identity(value.__code__)
    for cell in value.__closure__ or ():
        try:
            held = cell.cell_contents
        except ValueError:  # not given yet
            continue
        if type(held) in _PLAIN or isinstance(held, torch.Tensor):
            walk.add([held])


def _method(value: Any, walk: _Walk) -> None:
    walk.state += (id(value.__func__), id(value.__self__))
    walk.alive.append(value)


def _partial(value: Any, walk: _Walk) -> None:
    walk.go_into(value, attrgetter("func", "args", "keywords"))


def _container(value: Any, walk: _Walk) -> None:
    walk.state.append(len(value))
    if 0 < len(value) <= _COMPARED:
        walk.go_into(value, _items)


def _items(value: Any) -> list[Any]:
    return [*value, *value.values()] if isinstance(value, dict) else [*value]


def _mapping(value: Any, walk: _Walk) -> None:
    """Such as transformers' attentions by name; one deeper down may read files to give a value."""
    walk.go_into(value, _held_by if walk.depth else lambda mapping: mapping.values())


def _tensor(value: Any, walk: _Walk) -> None:
    walk.identity(value)
    for each in inner_tensors(value) or [value]:
        walk.identity(each)
        walk.state += (address_of(each), of_any_tensor(each))


def _array(value: Any, walk: _Walk) -> None:
    walk.state += (value.shape, value.dtype.str)
    if value.dtype.hasobject:
        walk.go_into(value, lambda array: array.flatten().tolist()[:_COMPARED])
    else:
        walk.state.append(crc32(numpy.ascontiguousarray(value).tobytes()))


def _number(value: Any, walk: _Walk) -> None:
    walk.state.append(value.tobytes())


def _object(value: Any, walk: _Walk) -> None:
    walk.state.append(type(value).__qualname__)
    walk.go_into(value, _held_by)


def _callable_object(value: Any, walk: _Walk) -> None:
    walk.identity(value)
    walk.go_into(value, _held_by)


def _held_by(value: Any) -> list[Any]:
    """What the attributes of any object hold."""
    held = [*getattr(value, "__dict__", {}).values()]
    held += [getattr(value, name, None) for name in _slots(type(value))]
    return held[:_COMPARED]


@cache
def _slots(kind: type) -> tuple[str, ...]:
    found = (vars(base).get("__slots__", ()) for base in kind.__mro__)
    return tuple(name for each in found for name in ((each,) if isinstance(each, str) else each))


# The first that fits counts.
_WAYS: tuple[tuple[Any, Callable[[Any, _Walk], None]], ...] = (
    (FunctionType, _function),
    (MethodType, _method),
    ((Same, CodeType, type, nn.Module, Enum, ModuleType, BuiltinFunctionType, Logger), _identity),
    (torch.Generator, _identity),
    (partial, _partial),
    ((dict, list, tuple, set), _container),
    (torch.Tensor, _tensor),
    (numpy.ndarray, _array),
    (numpy.generic, _number),
    (Mapping, _mapping),
)
