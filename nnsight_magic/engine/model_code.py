"""The code that a model runs, as far as names tell: it may be changed between two forwards.

In a notebook a model's own class is edited in place (`%autoreload`), a method of a library's
class is replaced, a function is defined anew under the name that a `forward` calls it by, another
attention is registered under the same name. None of that shows in the modules themselves.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import FunctionType, ModuleType
from typing import Any

from torch import nn


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
            if type(value) is FunctionType and value.__name__ != "__init__":
                _follow(value, seen, found)
    return found


def _follow(function: FunctionType, seen: set[FunctionType], found: list[Any]) -> None:
    if function in seen:
        return
    seen.add(function)
    code, around = function.__code__, function.__globals__
    found += (function, code)
    for name in code.co_names:
        value = around.get(name)
        kind = type(value)
        if kind is FunctionType and value.__globals__ is around:
            _follow(value, seen, found)
        elif kind is not ModuleType and value is not None:
            found.append(value)
