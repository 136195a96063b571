"""What a model computes with besides its arguments, in a form that two moments can be compared by.

That is identity, address and version of every tensor that a module holds, the modules' classes
and their code, and the plain attributes of the modules and of their configurations: an attention's
`scaling`, a norm's epsilon, the switch of an adapter.

It is taken before every forward that may start from remembered blocks, of a model with hundreds
of modules: hence the flat list of modules, and the loops left to `map`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import chain
from operator import attrgetter, itemgetter
from types import CodeType, FunctionType, MethodType
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.bypass import own_forward
from nnsight_magic.engine.model_code import code_of
from nnsight_magic.engine.torch_insides import any_global_hook

_TORCHS_OWN = [*vars(nn.Module())]  # what torch keeps in every module
_LAST = len(_TORCHS_OWN) - 1
_PLAIN = frozenset({bool, int, float, complex, str, type(None), torch.dtype, torch.device})
_CONTAINERS = (dict, list, tuple, set)
_COMPARED = 256  # items of a container; longer ones are labels and vocabularies

_hooks = itemgetter("_forward_hooks", "_forward_pre_hooks")
_of_tensor = attrgetter("_version", "dtype")


class Fingerprint:
    """Takes the fingerprint of one model, again and again.

    What it names by identity lives until the next one is taken: nothing else can come to stand
    at the same address meanwhile.
    """

    def __init__(self, root: nn.Module):
        self.root = root
        self._modules: list[nn.Module] = []
        self._children: list[nn.Module | None] | None = None
        self._alive: list[Any] = []

    def take(self, ours: type) -> tuple | None:
        """The fingerprint; `None` where foreign code has a say, or chance (training mode).

        Hooks that are methods of `ours` are not foreign.
        """
        if any_global_hook():
            return None
        owns = self._walk()
        if any(own.get("training") for own in owns):  # torch.compile's module has none of its own
            return None
        hooks = chain.from_iterable(map(_hooks, owns))
        if not all(_are_all_of(ours, some) for some in hooks if some):
            return None
        held = chain(map(itemgetter("_parameters"), owns), map(itemgetter("_buffers"), owns))
        tensors = [t for some in held for t in some.values() if t is not None]
        types = [*map(type, self._modules)]
        state: list = [
            *types,
            *map(id, tensors),
            *map(torch.Tensor.data_ptr, tensors),
            *map(_of_tensor, tensors),
        ]
        attributes = [value for own in owns for value in _attributes(own)]
        alive: list = [tensors]
        _add_comparable(attributes, state, alive)
        _add_comparable(code_of(dict.fromkeys(types)), state, alive)
        configs = {id(own["config"]): own["config"] for own in owns if "config" in own}
        for config in configs.values():
            _add_comparable(getattr(config, "__dict__", {}).values(), state, alive)
        self._alive = alive
        return tuple(state)

    def _walk(self) -> list[dict[str, Any]]:
        """The attributes of every module; the tree is walked only when it has changed."""
        owns = [*map(vars, self._modules)]
        if _children(owns) != self._children:
            self._modules = [*self.root.modules()]
            owns = [*map(vars, self._modules)]
            self._children = _children(owns)
        return owns


def _children(owns: list[dict[str, Any]]) -> list[nn.Module | None]:
    return [*chain.from_iterable(map(dict.values, map(itemgetter("_modules"), owns)))]


def _are_all_of(ours: type, hooks: dict[int, Any]) -> bool:
    return all(type(getattr(hook, "__self__", None)) is ours for hook in hooks.values())


def _attributes(own: dict[str, Any]) -> list[Any]:
    """The attributes that a module's author gave it."""
    if "forward" in own:
        own = dict(own, forward=own_forward(own["forward"]))
        if own["forward"] is None:
            del own["forward"]
    values = [*own.values()]
    # torch's own stand first, unless the author set some before torch's __init__.
    if len(values) > _LAST and values[_LAST] is own[_TORCHS_OWN[_LAST]]:
        return values[_LAST + 1 :]
    return [value for name, value in own.items() if name not in _TORCHS_OWN]


def _add_comparable(values: Iterable[Any], state: list, alive: list, nested: bool = False) -> None:
    """Add what can be compared of these values; what is named by identity goes to `alive` too.

    Other objects are passed over: a model that makes some anew in each forward could never be
    resumed.
    """
    for value in values:
        kind = type(value)  # isinstance() would go through a configuration's own __getattribute__
        if kind in _PLAIN:
            state.append(value)
        elif kind is FunctionType or kind is CodeType or kind is type:
            state.append(id(value))
            alive.append(value)
        elif kind is MethodType:
            state += (id(value.__func__), id(value.__self__))
            alive.append(value)
        elif issubclass(kind, _CONTAINERS):
            if not nested:
                state.append(len(value))
                if len(value) <= _COMPARED:
                    _add_comparable(value, state, alive, nested=True)
                    if isinstance(value, dict):
                        _add_comparable(value.values(), state, alive, nested=True)
        elif issubclass(kind, torch.Tensor):
            state += (id(value), value.data_ptr(), _of_tensor(value))
            alive.append(value)
        elif callable(value):
            state.append(id(value))
            alive.append(value)
        elif not nested and issubclass(kind, Mapping):  # such as transformers' attentions by name
            _add_comparable(value.values(), state, alive, nested=True)
