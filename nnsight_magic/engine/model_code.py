"""The code that a model runs, as far as names tell: it may be changed between two forwards.

In a notebook a model's own class is edited in place (`%autoreload`), a method of a library's
class is replaced, a function is defined anew under the name that a `forward` calls it by, another
attention is registered under the same name. None of that shows in the modules themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property
from itertools import chain
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn

_WITHIN = {
    staticmethod: "__func__",
    classmethod: "__func__",
    property: "fget",
    cached_property: "func",
}


def code_of(classes: Iterable[type]) -> list[Any]:
    """The methods of these module classes, and what stands behind the names that they use.

    Functions of a method's own file are followed, those of other files are named alone.
    """
    found: list[Any] = []
    seen: set[FunctionType] = set()
    bases = dict.fromkeys(base for cls in classes for base in cls.__mro__)
    for base in bases:
        # What has no forward (the base of all models, mixins) has a hundred methods that load
        # and save; torch's own are nobody's to edit.
        own = vars(base)
        if "forward" not in own or base is nn.Module:
            continue
        for value in own.values():
            method = _method(value)
            if method is not None and method.__name__ != "__init__":
                _follow(method, seen, found)
    return found


def _method(value: Any) -> FunctionType | None:
    kind = type(value)
    if kind in _WITHIN:
        value = getattr(value, _WITHIN[kind])
    return value if type(value) is FunctionType else None


def _follow(function: FunctionType, seen: set[FunctionType], found: list[Any]) -> None:
    if function in seen:
        return
    seen.add(function)
    code, around = function.__code__, function.__globals__
    found += (function, code)
    inside = _in_closures(function)
    for inner in inside:
        _follow(inner, seen, found)
    # What a library's decorator made of a function (transformers' `deprecate_kwarg`, torch's
    # `no_grad`) uses the names of the library's file, which are nobody's to edit.
    if any(inner.__globals__ is not around for inner in inside):
        return
    names = _names(code)
    for name in names:
        value = around.get(name)
        kind = type(value)
        if kind is FunctionType and value.__module__ == function.__module__:
            _follow(value, seen, found)
        elif kind is ModuleType:
            found += _used_of(value, names)
        elif value is not None:
            found.append(value)


def _used_of(module: ModuleType, names: Iterable[str]) -> list[Any]:
    """What stands in a module under these names; see `replaced` for what stands in torch."""
    if module.__name__.partition(".")[0] == "torch":
        return []
    own = vars(module)
    return [own[name] for name in names if name in own and type(own[name]) is not ModuleType]


def _in_closures(function: FunctionType) -> list[FunctionType]:
    """The functions that this one has from those around it, and those that they have."""
    if not function.__closure__:
        return []
    found: list[FunctionType] = []
    waiting = [function]
    while waiting:
        for cell in waiting.pop().__closure__ or ():
            try:
                held = cell.cell_contents
            except ValueError:  # not given yet
                continue
            if type(held) is FunctionType and held not in found:
                found.append(held)
                waiting.append(held)
    return found


def _names(code: CodeType) -> Iterable[str]:
    """The names that code uses, those in its comprehensions and inner functions among them."""
    inner = [each for each in code.co_consts if type(each) is CodeType]
    if not inner:
        return code.co_names
    return dict.fromkeys(chain(code.co_names, *map(_names, inner)))
