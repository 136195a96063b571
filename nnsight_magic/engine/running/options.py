"""Options that nobody would read: a misspelt one is refused before anything runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from torch import nn

from nnsight_magic.engine.insides import torch_insides, transformers_insides
from nnsight_magic.errors import UnknownOptionError
from nnsight_magic.near import asked_sentence


def check_options(call: str, own: Iterable[str], given: Iterable[str], module: nn.Module) -> None:
    """Refuse what neither the call nor the module's `forward` takes.

    A module of transformers hands what its own forward does not name to the modules in it: their
    names count too. Where any other forward takes `**kwargs`, only what looks misspelt is refused.

    Raises:
        UnknownOptionError: an option that is unknown.
    """
    given = set(given).difference(own, _parameters(type(module).forward)[0])
    if not given:
        return
    forward, is_open = _taken_by(module)
    _refuse(call, given, set(own), forward, is_open, type(module).__name__)


def check_generation(own: Iterable[str], given: Iterable[str], module: Any) -> None:
    """The same for `generate`: what it, its configuration and the model's forward take."""
    given = set(given)
    if not given:
        return
    forward, is_open = _taken_by(module)
    known = {*transformers_insides.TAKEN_BY_GENERATE, *vars(module.generation_config)}
    # A model may have another one inside generate for it.
    for kind in {type(each) for each in module.modules() if hasattr(type(each), "generate")}:
        for name in transformers_insides.METHODS_OF_GENERATE:
            method = getattr(kind, name, None)
            known |= _parameters(method)[0] if method is not None else set()
    _refuse("generate", given, {*own, *known}, forward, is_open, type(module).__name__)


def _refuse(
    call: str, given: set[str], own: set[str], forward: frozenset[str], is_open: bool, kind: str
) -> None:
    for name in sorted(given - own - forward):
        hint = asked_sentence(name, [*own, *forward], 0.75)
        if is_open and not hint:
            continue
        shown = sorted(each for each in own if not each.startswith("_"))[:8]
        raise UnknownOptionError(
            f"{call}() has no option {name!r}.{hint}\n"
            f"It takes {', '.join(shown)} and what {kind}'s forward takes: "
            f"{', '.join(sorted(forward)[:16])}."
        )


def _taken_by(module: nn.Module) -> tuple[frozenset[str], bool]:
    """The names that a module's forward takes, and whether it may take others."""
    module = module._modules.get(torch_insides.COMPILED) or module  # what torch.compile gives
    names, is_open = _parameters(type(module).forward)
    if not is_open or not hasattr(module, "config"):
        return frozenset(names), is_open
    kinds = {type(each) for each in module.modules()}
    inside = [_parameters(kind.forward) for kind in kinds]
    passed_on = frozenset().union(
        names, transformers_insides.TAKEN_INSIDE, *(each for each, _ in inside)
    )
    return passed_on, not type(module).__module__.startswith("transformers.")


def takes(module: nn.Module, name: str) -> bool:
    """Whether a module's forward names this argument."""
    if "forward" in vars(module):
        return name in inspect.signature(module.forward).parameters
    return name in _parameters(type(module).forward)[0]


@lru_cache(maxsize=1024)
def _parameters(function: Any) -> tuple[frozenset[str], bool]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return frozenset(), True
    named = (
        each for each in parameters if each.kind not in (each.VAR_KEYWORD, each.VAR_POSITIONAL)
    )
    earlier, others = transformers_insides.earlier_names(function)
    is_open = others or any(each.kind is each.VAR_KEYWORD for each in parameters)
    return earlier.union(each.name for each in named if each.name != "self"), is_open
