"""Names of ours that the model uses too: its own children come first.

A model may have a child or parameter called `ops`, `generator` or `names`. On the handle of the
module that has it, `handle.ops` is then that child, as it is in torch. What this package calls so
is at `handle._own.ops`, as everything of ours is on every handle, and this package's own code goes
on reading its own names. Such a handle is of a class made for the names that it hides; all others
know nothing of this.

Four names keep our meaning, for they are what the package is about: `output`, `input`, `inputs`,
and `logits` of a language model. A child of such a name is reached as `handle["output"]`.
"""

from __future__ import annotations

import inspect
import sys
from functools import cache
from typing import Any

from torch import nn

from nnsight_magic.engine.sites.caller import PACKAGE
from nnsight_magic.errors import NoSuchModuleError

VALUES = frozenset({"output", "_output", "input", "inputs", "logits"})


class Hidden:
    """A name of ours under which the user's own code finds the model's child."""

    def __init__(self, name: str, ours: Any):
        self.name, self.ours = name, ours
        self.__doc__ = getattr(ours, "__doc__", None)

    def __get__(self, handle: Any, owner: type) -> Any:
        if handle is None:
            return self.ours
        if sys._getframe(1).f_code.co_filename.startswith(PACKAGE):
            return self.of_ours(handle)
        return handle.__getattr__(self.name)

    def __set__(self, handle: Any, new: Any) -> None:
        where = f"{handle.name}.{self.name}" if handle.name else self.name
        raise NoSuchModuleError(
            f"{where} cannot be assigned: here it is the model's own {self.name!r}, which stays as "
            f"it is.\nWhat this package calls so: {handle.name or 'model'}._own.{self.name}."
        )

    def of_ours(self, handle: Any) -> Any:
        """What this package means by the name."""
        held = getattr(handle, "__dict__", {})
        if self.name in held:
            return held[self.name]
        return self.ours.__get__(handle, type(handle))

    def assign(self, handle: Any, new: Any) -> None:
        """Assign to what this package means by the name."""
        if self.name in getattr(handle, "__dict__", {}):
            handle.__dict__[self.name] = new
        else:
            self.ours.__set__(handle, new)


class Own:
    """`handle._own`: every name of this package, whatever the model calls its children.

    Standard names (`layers`, `mlp`) among them.
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Any):
        object.__setattr__(self, "_handle", handle)

    def __getattr__(self, name: str) -> Any:
        handle = self._handle
        standard = handle._standard(name, handle.ancestors()[-1])
        if standard is not None:
            return handle._model._handles.at(standard)
        if name not in names_of_ours(handle) | VALUES:
            raise AttributeError(f"this package has no {name!r}; it has {', '.join(dir(self))}")
        return getattr(handle, name)  # asked for by our own code

    def __setattr__(self, name: str, new: Any) -> None:
        hidden = vars(type(self._handle)).get(name)
        if isinstance(hidden, Hidden):
            hidden.assign(self._handle, new)
        else:
            setattr(self._handle, name, new)

    def __dir__(self) -> list[str]:
        return sorted(names_of_ours(self._handle))


def hide_names(handle: Any, module: nn.Module) -> None:
    """Let the children and parameters of the handle's module come before names of ours."""
    ours = names_of_ours(handle) - VALUES
    theirs = {*module._modules, *module._parameters, *module._buffers, *_renamed(handle, ours)}
    # A child that torch itself hides, by a method of the module's, is no attribute there either.
    clash = {name for name in ours & theirs if not hasattr(type(module), name)}
    if clash:
        hiding = _hiding(class_of(handle), frozenset(clash))
        object.__setattr__(handle, "__class__", hiding)


def class_of(handle: Any) -> type:
    """The handle's class, without what it hides."""
    return next(kind for kind in type(handle).__mro__ if not vars(kind).get("_hides"))


def of_user(handle: Any, name: str) -> Any:
    """What `handle.name` means to the user."""
    return handle.__getattr__(name) if name in handle._hides else getattr(handle, name)


def names_of_ours(handle: Any) -> frozenset[str]:
    """The public names of a handle, those of its module not among them."""
    held = (name for name in getattr(handle, "__dict__", ()) if name[0] != "_")
    return _public(class_of(handle)).union(held)


def _renamed(handle: Any, ours: frozenset[str]) -> set[str]:
    """The names that the user has given."""
    if not handle._model._handles.rename:
        return set()
    return {name for name in ours if handle._renamed(name) is not None}


@cache
def _public(kind: type) -> frozenset[str]:
    return frozenset(name for name in dir(kind) if name[0] != "_")


@cache
def _hiding(kind: type, names: frozenset[str]) -> type:
    hidden = {name: Hidden(name, inspect.getattr_static(kind, name, None)) for name in names}
    said = {
        "__slots__": (),
        "_hides": names,
        "__module__": kind.__module__,
        "__doc__": kind.__doc__,
    }
    return type(kind)(kind.__name__, (kind,), {**hidden, **said})
