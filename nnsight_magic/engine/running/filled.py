"""Caches that the user hands to a model: each forward of a trace works on a copy.

A trace may run several forwards, and end them early. A cache that all of them filled would hold
tokens twice, or of some blocks alone. So each is given a copy of what the user's held when the
trace began; the one that runs to the end leaves in the user's own what a plain call leaves there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import Enum
from functools import cache
from typing import Any

import torch
from torch import nn

_SHARED = (type, nn.Module, Enum)


def is_filled(value: Any) -> bool:
    """Whether a forward leaves keys, values or states in this argument."""
    return _is_cache(type(value))


@cache
def _is_cache(kind: type) -> bool:
    return any("Cache" in cls.__name__ for cls in kind.__mro__)


def filled_among(arguments: Iterable[Any]) -> list[Any]:
    """The caches among the arguments of a call."""
    return [each for each in arguments if is_filled(each)]


class OnCopies:
    """A call whose caches are copied each time.

    Args:
        run: what is called with the arguments.
        fills: leave in the user's own caches what a call that came to its end left in the copies.
    """

    def __init__(
        self, run: Callable[..., Any], args: tuple, kwargs: dict[str, Any], fills: bool = True
    ):
        self._run, self._args, self._kwargs, self._fills = run, args, kwargs, fills
        self._own = {id(each): each for each in filled_among((*args, *kwargs.values()))}
        self._as_given: dict[int, CopyOf] = {}  # of those that were filled since

    def __call__(self, *first: Any) -> Any:
        """Run it once; `first` comes before the other arguments."""
        if not self._own:
            return self._run(*first, *self._args, **self._kwargs)
        made = {key: self._copy_of(key) for key in self._own}

        def given(value: Any) -> Any:
            return made[id(value)].copy if id(value) in made else value

        kwargs = {name: given(each) for name, each in self._kwargs.items()}
        result = self._run(*first, *map(given, self._args), **kwargs)
        for key, own in self._own.items() if self._fills else ():
            if key not in self._as_given:
                self._as_given[key] = CopyOf(own)
            made[key].fill(own)
        return result

    def _copy_of(self, key: int) -> CopyOf:
        before = self._as_given.get(key)
        return CopyOf(self._own[key]) if before is None else CopyOf(before.copy, before)


class CopyOf:
    """A copy of an object and of all that it holds, down to the tensors.

    Modules, configurations and functions are shared.

    Args:
        value: what is copied.
        earlier: the copy that `value` is, if it is one.
    """

    def __init__(self, value: Any, earlier: CopyOf | None = None):
        self._earlier = earlier
        self._copies: dict[int, tuple[Any, Any]] = {}  # original and copy, by the original's id
        self._tensors: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}  # by the copy's id
        self.copy = self._object(value)

    def _of(self, value: Any) -> Any:
        known = self._copies.get(id(value))
        if known is not None:
            return known[1]
        if isinstance(value, torch.Tensor):
            copy = value.clone(memory_format=torch.preserve_format)
            self._tensors[id(copy)] = copy, value
        elif isinstance(value, list | set) or type(value) is tuple:
            copy = type(value)(map(self._of, value))
        elif isinstance(value, dict):
            copy = value.copy()
            copy.update({key: self._of(item) for key, item in value.items()})
        elif self._is_shared(value):
            return value
        else:
            return self._object(value)
        self._copies[id(value)] = value, copy
        return copy

    def _object(self, value: Any) -> Any:
        kind: Any = type(value)
        copy = kind.__new__(kind)
        self._copies[id(value)] = value, copy
        copy.__dict__.update({name: self._of(item) for name, item in vars(value).items()})
        return copy

    @staticmethod
    def _is_shared(value: Any) -> bool:
        return (
            not hasattr(value, "__dict__")
            or isinstance(value, _SHARED)
            or callable(value)
            or hasattr(value, "to_diff_dict")  # a configuration
            or type(value).__module__.startswith("torch")  # a stream
        )

    def original(self, tensor: Any) -> torch.Tensor | None:
        """What a tensor in the copy was copied from, in the object that was copied first."""
        found = self._tensors.get(id(tensor))
        if found is None:
            return None
        return found[1] if self._earlier is None else self._earlier.original(found[1])

    def fill(self, own: Any) -> None:
        """Leave in `own` what is in the copy now; what was written in place, in its place."""
        seen: set[int] = set()

        def merged(mine: Any, theirs: Any) -> Any:
            original = self.original(theirs)
            if original is not None:
                if theirs.is_inference() or theirs._version:
                    with torch.no_grad():
                        original.copy_(theirs)
                return original
            if type(mine) is not type(theirs):
                return theirs
            if isinstance(mine, list) and len(mine) == len(theirs):
                mine[:] = map(merged, mine, theirs)
                return mine
            if isinstance(mine, torch.Tensor | dict) or self._is_shared(mine):
                return theirs
            if id(mine) not in seen:
                seen.add(id(mine))
                held = vars(mine)
                new = {name: merged(held.get(name), item) for name, item in vars(theirs).items()}
                held.clear()
                held.update(new)
            return mine

        merged(own, self.copy)
