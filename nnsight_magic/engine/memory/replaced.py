"""torch functions that a program has replaced: `F.silu = mine` changes what every model computes.

What a `forward` calls by a name of its own file is followed there, see `model_code`. What it calls
as `F.linear`, `torch.rsqrt` or `x.softmax()` is the same for all models, and compared at once with
what stood there when the first forward was remembered.
"""

from __future__ import annotations

from collections.abc import Hashable
from functools import cache
from types import FunctionType
from typing import Any

import torch


class _Names:
    """The functions under the names of one module or class, as they were at first."""

    def __init__(self, place: Any):
        self._held = vars(place)
        self._first = {name: value for name, value in self._held.items() if _is_function(value)}
        self._seen: list[Any] = [*self._held.values()]
        self._found: list[Hashable] = []  # in what was seen last: mostly nothing has changed

    def replacements(self) -> list[Hashable]:
        now = [*self._held.values()]
        if now != self._seen:
            self._seen, self._found = now, self._find()
        return self._found

    def _find(self) -> list[Hashable]:
        held, first = self._held, self._first
        new = [
            name
            for name, value in held.items()
            if name not in first and type(value) is FunctionType  # a base class had it before
        ]
        changed = [name for name, value in first.items() if held.get(name) is not value]
        return [(name, _Same(held.get(name))) for name in (*changed, *new)]


class _Same:
    """Equal to what holds the same object, and keeps it alive."""

    def __init__(self, value: Any):
        self._value = value

    def __eq__(self, other: object) -> bool:
        return type(other) is _Same and self._value is other._value

    def __hash__(self) -> int:
        return id(self._value)


def _is_function(value: Any) -> bool:
    return callable(value) and not isinstance(value, type)


@cache
def _places() -> list[_Names]:
    return [*map(_Names, (torch, torch.nn.functional, torch.Tensor))]


def replacements() -> tuple[Hashable, ...]:
    """The functions of torch that are others than when this was asked first, with their names."""
    return tuple(each for place in _places() for each in place.replacements())
