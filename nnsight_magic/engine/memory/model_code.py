"""The code that a model runs, as far as names tell: it may be changed between two forwards.

In a notebook a model's own class is edited in place (`%autoreload`), a method of a library's
class is replaced, a function is defined anew under the name that a `forward` calls it by, another
attention is registered under the same name. None of that shows in the modules themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from itertools import chain
from operator import attrgetter, call, is_
from types import CodeType, FunctionType, ModuleType
from typing import Any

from torch import nn

from nnsight_magic.engine.memory.comparable import Same, lasts

_code, _content = attrgetter("__code__"), attrgetter("cell_contents")
_WITHIN = {
    staticmethod: "__func__",
    classmethod: "__func__",
    property: "fget",
    cached_property: "func",
}


def code_of(classes: Iterable[type]) -> list[Any]:
    """What these module classes run, to be compared: one object for the code, as long as all of it
    is what it was, and with it what can change in itself, such as a registry of attentions.

    Functions of a method's own file are followed, those of other files are named alone.
    """
    key = tuple(classes)
    known = _followed.get(key)
    if known is None or not known.holds():
        if len(_followed) >= _MOST:
            _followed.clear()
        known = _followed[key] = _Followed(key)
    return [known, *known.changing]


_got: Any = call  # to a checker it takes a function of any parameters, which `map` cannot fill
_MOST = 64  # sets of classes that are remembered
_followed: dict[tuple[type, ...], _Followed] = {}


class _Followed(Same):
    """The code of some classes, with every place that was looked at on the way to it.

    Following names takes long; whether the same things are in the same places is soon seen.

    Attributes:
        changing: what was found that can change in itself.
    """

    def __init__(self, classes: tuple[type, ...]):
        self.changing: list[Any] = []
        # Places are a mapping's `get` and a name: hundreds are looked at in one call of `map`.
        self._getters: list[Callable[[str], Any]] = []
        self._names: list[str] = []
        self._there: list[Any] = []
        self._functions: list[FunctionType] = []
        self._codes: list[CodeType] = []
        self._cells: list[Any] = []
        self._held: list[Any] = []
        self._owns: list[Mapping[str, Any]] = []
        seen: set[FunctionType] = set()
        for base in dict.fromkeys(base for cls in classes for base in cls.__mro__):
            # What has no forward (the base of all models, mixins) has a hundred methods that load
            # and save; torch's own are nobody's to edit.
            own = vars(base)
            if "forward" not in own or base is nn.Module:
                continue
            self._owns.append(own)
            for name in own:
                method = _method(self._at(own, name))
                if method is not None and method.__name__ != "__init__":
                    self._follow(method, seen)
        self._sizes = [*map(len, self._owns)]

    def holds(self) -> bool:
        """Whether all of it is where it was."""
        try:
            return (
                all(map(is_, map(_got, self._getters, self._names), self._there))
                and all(map(is_, map(_code, self._functions), self._codes))
                and all(map(is_, map(_content, self._cells), self._held))
                and [*map(len, self._owns)] == self._sizes
            )
        except ValueError:  # a cell was emptied
            return False

    def _at(self, place: Mapping[str, Any], name: str) -> Any:
        value = place.get(name)
        self._getters.append(place.get)
        self._names.append(name)
        self._there.append(value)
        return value

    def _follow(self, function: FunctionType, seen: set[FunctionType]) -> None:
        if function in seen:
            return
        seen.add(function)
        code, around = function.__code__, function.__globals__
        self._functions.append(function)
        self._codes.append(code)
        inside = self._in_closures(function)
        for inner in inside:
            self._follow(inner, seen)
        # What a library's decorator made of a function (transformers' `deprecate_kwarg`, torch's
        # `no_grad`) uses the names of the library's file, which are nobody's to edit.
        if any(inner.__globals__ is not around for inner in inside):
            return
        names = _names(code)
        for name in names:
            value = self._at(around, name)
            kind = type(value)
            if kind is FunctionType and value.__module__ == function.__module__:
                self._follow(value, seen)
            elif kind is ModuleType:
                self._note(self._used_of(value, names))
            else:
                self._note([value])

    def _note(self, values: list[Any]) -> None:
        self.changing += (each for each in values if not lasts(each))

    def _used_of(self, module: ModuleType, names: Iterable[str]) -> list[Any]:
        """What a module has by these names; see `replaced` for what torch has."""
        if module.__name__.partition(".")[0] == "torch":
            return []
        own = vars(module)
        used = [self._at(own, name) for name in names]
        return [each for each in used if each is not None and type(each) is not ModuleType]

    def _in_closures(self, function: FunctionType) -> list[FunctionType]:
        """The functions that this one has from those around it, and those that they have."""
        found: list[FunctionType] = []
        waiting = [function] if function.__closure__ else []
        while waiting:
            for cell in waiting.pop().__closure__ or ():
                try:
                    held = cell.cell_contents
                except ValueError:  # not given yet
                    continue
                if type(held) is FunctionType and held not in found:
                    self._cells.append(cell)
                    self._held.append(held)
                    found.append(held)
                    waiting.append(held)
        return found


def _method(value: Any) -> FunctionType | None:
    kind = type(value)
    if kind in _WITHIN:
        value = getattr(value, _WITHIN[kind])
    return value if type(value) is FunctionType else None


def _names(code: CodeType) -> Iterable[str]:
    """The names that code uses, those in its comprehensions and inner functions among them."""
    inner = [each for each in code.co_consts if type(each) is CodeType]
    if not inner:
        return code.co_names
    return dict.fromkeys(chain(code.co_names, *map(_names, inner)))
