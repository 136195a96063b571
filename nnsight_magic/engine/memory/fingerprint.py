"""What a model computes with besides its arguments, in a form that two moments can be compared by.

That is identity, address and version of every tensor that a module holds, the modules' classes
and their code, and the plain attributes of the modules and of their configurations: an attention's
`scaling`, a norm's epsilon, the switch of an adapter.

It is taken before every forward that may start from remembered blocks, of a model with hundreds
of modules: hence the flat list of modules, and the loops left to `map`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import StrEnum
from itertools import chain
from operator import is_, itemgetter
from types import FunctionType
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.memory.comparable import (
    add_comparable,
    address_of,
    lasts,
    of_any_tensor,
    of_tensor,
)
from nnsight_magic.engine.memory.model_code import code_of
from nnsight_magic.engine.places.standard_names import blocks_at
from nnsight_magic.engine.running.bypass import own_forward
from nnsight_magic.engine.values.inner_tensors import are_plain, inner_tensors

_hooks = itemgetter("_forward_hooks", "_forward_pre_hooks")


class Obstacle(StrEnum):
    """Why it is not known whether a model is what it was before; each member says it in words.

    >>> print(Obstacle.TRAINS)
    a module is in training mode, where chance has a say; model.eval() leaves it
    """

    UNKNOWN_TORCH = "this version of torch keeps modules in another way than is known here"
    GLOBAL_HOOK = "a hook of other code is registered for all modules"
    HOOK = "a module has a hook of other code"
    TRAINS = "a module is in training mode, where chance has a say; model.eval() leaves it"
    HIDDEN_NUMBERS = "a weight keeps its numbers where they cannot be looked at"


class Fingerprint:
    """Takes the fingerprint of one model, again and again.

    It has parts, one for each block and before them one for all that is in none: so it can be
    taken anew of the blocks alone that are about to run.

    What it compares by identity lives until the same part is taken again: meanwhile no other
    object can get its address.

    Args:
        root: the model.
        layers: the path of the list of its blocks, if it has one.
    """

    def __init__(self, root: nn.Module, layers: str | None = None):
        self.root = root
        self._layers = layers
        self._parts: list[_Part] = []

    def take(self, ours: type) -> tuple | Obstacle:
        """The fingerprint, or why there is none: foreign code or chance has a say.

        Hooks that are methods of `ours` are not foreign.
        """
        if not torch_insides.modules_are_as_known():
            return Obstacle.UNKNOWN_TORCH
        if torch_insides.any_global_hook():
            return Obstacle.GLOBAL_HOOK
        if not self._parts or not all(part.is_whole() for part in self._parts):
            self._parts = _parts_of(self.root, self._layers)
        known: dict[Any, tuple[list, list]] = {}  # what several parts share
        taken = []
        for part in self._parts:
            state = part.state(ours, known)
            if isinstance(state, Obstacle):
                return state
            taken.append((state, part.code(known)))
        return tuple(taken)

    def still(self, taken: tuple, ours: type, blocks: range, code: bool) -> bool:
        """Whether these blocks, and all that is in none, are as they were when `taken` was.

        Args:
            taken: what `take` gave of them.
            code: look at the code of their classes too.
        """
        parts = [self._parts[0], *self._parts[blocks.start + 1 : blocks.stop + 1]]
        known: dict[Any, tuple[list, list]] = {}
        return not torch_insides.any_global_hook() and all(
            part.is_whole()
            and part.state(ours, known) == state
            and (not code or part.code(known) == its_code)
            for part, (state, its_code) in zip(parts, taken, strict=True)
        )

    def modules(self, part: int) -> list[nn.Module]:
        """The modules of a part: 0 for those in no block, k + 1 for those of block k."""
        return self._parts[part].modules


class _Part:
    """Some modules of a model, with all that they compute with.

    Most of what their attributes hold cannot change in itself: it is looked at once, and again
    where an attribute holds another object.
    """

    def __init__(self, modules: list[nn.Module]):
        self.modules = modules
        self._owns = [*map(vars, modules)]
        self._children = _children(self._owns)
        self._types = tuple(map(type, modules))
        self._values: list[Any] = []
        self._alive: list[Any] = []
        self._code_alive: list[Any] = []

    def is_whole(self) -> bool:
        """Whether the modules still have the children that they had."""
        return _children(self._owns) == self._children

    def code(self, known: dict[Any, tuple[list, list]]) -> tuple:
        """What the modules' classes run."""
        state: list = []
        self._code_alive, types = [], self._types
        _add_known(types, lambda: code_of(dict.fromkeys(types)), state, self._code_alive, known)
        return tuple(state)

    def state(self, ours: type, known: dict[Any, tuple[list, list]]) -> tuple | Obstacle:
        """What the modules hold, or why that does not tell what they compute."""
        values = [*chain.from_iterable(map(dict.values, self._owns))]
        if len(values) != len(self._values) or not all(map(is_, values, self._values)):
            self._sort_out(values)
        if self._trains:
            return Obstacle.TRAINS
        if not all(_are_all_of(ours, hooks) for hooks in self._hooks if hooks):
            return Obstacle.HOOK
        tensors = [t for t in chain.from_iterable(map(dict.values, self._held)) if t is not None]
        address, version = torch.Tensor.data_ptr, of_tensor
        if not are_plain(tensors):
            held = [*map(inner_tensors, tensors)]
            if not all(held):
                return Obstacle.HIDDEN_NUMBERS
            tensors += chain.from_iterable(held)
            address, version = address_of, of_any_tensor
        state: list = [
            self._lasting,
            *map(type, self.modules),
            *map(id, tensors),
            *map(address, tensors),
            *map(version, tensors),
        ]
        alive: list = [tensors]
        add_comparable(self._changing, state, alive)
        for each, config in self._configs.items():
            _add_known(each, getattr(config, "__dict__", {}).values, state, alive, known)
        self._alive = alive
        return tuple(state)

    def _sort_out(self, values: list[Any]) -> None:
        """Tell what can change in itself from what cannot."""
        owns = self._owns
        # torch.compile's module has no `training` of its own.
        self._trains = any(own.get("training") for own in owns)
        self._hooks = [*chain.from_iterable(map(_hooks, owns))]
        self._held = [each for own in owns for each in (own["_parameters"], own["_buffers"])]
        self._configs = {id(own["config"]): own["config"] for own in owns if "config" in own}
        given = [v for own in owns for v in _attributes(own) if id(v) not in self._configs]
        lasting: list = []
        add_comparable([value for value in given if lasts(value)], lasting, [])
        self._lasting = tuple(lasting)
        self._changing = [value for value in given if not lasts(value)]
        self._values = values  # at the end: an exception may rise in between


def _parts_of(root: nn.Module, layers: str | None) -> list[_Part]:
    blocks = [] if layers is None else [*blocks_at(root, layers)]
    inside = [[*block.modules()] for block in blocks]
    in_a_block = {module for modules in inside for module in modules}
    outside = [module for module in root.modules() if module not in in_a_block]
    return [*map(_Part, [outside, *inside])]


def _add_known(
    key: Any,
    values: Callable[[], Iterable[Any]],
    state: list,
    alive: list,
    known: dict[Any, tuple[list, list]],
) -> None:
    """Add what can be compared of these values, which are the same for several parts."""
    found = known.get(key)
    if found is None:
        found = known[key] = ([], [])
        add_comparable(values(), *found)
    state.append(tuple(found[0]))
    alive.append(found[1])


def _children(owns: list[dict[str, Any]]) -> list[nn.Module | None]:
    return [*chain.from_iterable(map(dict.values, map(itemgetter("_modules"), owns)))]


def _are_all_of(ours: type, hooks: dict[int, Any]) -> bool:
    return all(type(getattr(hook, "__self__", None)) is ours for hook in hooks.values())


def _attributes(own: dict[str, Any]) -> list[Any]:
    """The attributes that a module's author gave it."""
    if "forward" in own:
        forward = own_forward(own["forward"])
        # What wraps it (accelerate's, nnsight's) may hold the whole program: compared by identity.
        told = forward if isinstance(forward, FunctionType | None) else id(forward)
        own = dict(own, forward=told)
        if told is None:
            del own["forward"]
    # Names with two underscores are the bookkeeping of other libraries, such as nnsight's.
    return [
        value
        for name, value in own.items()
        if name not in torch_insides.KEPT_IN_A_MODULE and name[:2] != "__"
    ]
