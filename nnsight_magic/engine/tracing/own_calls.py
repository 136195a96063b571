"""Modules that the user has attached to the tree, and calls in a trace.

They are no part of the forward: one runs where the user calls it, and what it and its submodules
were given and gave there can be read afterwards in the same trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.running.hooks import take_away
from nnsight_magic.engine.running.interrupt import uninterrupted
from nnsight_magic.engine.sites.site import Site, Touch
from nnsight_magic.engine.values.gradients import retain_grad
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import Value
from nnsight_magic.errors import NeverRanError


class OwnCalls:
    """What the attached modules that a trace called were given and gave."""

    def __init__(self) -> None:
        self._calls: dict[tuple[nn.Module, str, int], list[Any]] = {}
        self._pauses: dict[Site, Pause] = {}
        self._hooked: list[tuple[nn.Module, Callable, Callable]] = []

    def run(self, module: nn.Module, step: int, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Call a module and note what flows through it and its submodules."""

        def given(inner: nn.Module, args: tuple, kwargs: dict[str, Any]) -> None:
            self._calls.setdefault((inner, "input", step), []).append((args, kwargs))

        def gave(inner: nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> None:
            if isinstance(output, torch.Tensor) and output.requires_grad:
                retain_grad(output)
            self._calls.setdefault((inner, "output", step), []).append(output)

        self._hooked.append((module, given, gave))
        try:
            _hook_all(module, given, gave)
            return module(*args, **kwargs)
        finally:
            _unhook(module, given, gave)
            self._hooked.pop()

    def pause(self, touch: Touch) -> Pause:
        """What a touch of an attached module reads.

        Raises:
            NeverRanError: it was not called in this trace.
        """
        site = touch.site
        pause = self._pauses.get(site)
        if pause is not None:
            return pause
        calls = self._calls.get((site.module, site.kind, site.step), [])
        if site.call >= len(calls):
            at = f" at step {site.step}" if site.step else ""
            raise NeverRanError(
                f"{touch.name} has no {touch.kind} yet: you attached it, and it runs where you "
                f"call it.\nFound: {len(calls)} calls of it in this trace{at}.\n"
                f"Call it first: y = {touch.name}(x), or the attached module that it is part of."
            )
        pause = self._pauses[site] = _CalledPause(site, calls[site.call])
        pause.touch = pause.passer = touch
        return pause

    def close(self) -> None:
        for hooked in self._hooked:  # where an exception kept `run` from doing it
            _unhook(*hooked)
        self._hooked.clear()
        for pause in self._pauses.values():
            pause.close()
        self._pauses.clear()
        self._calls.clear()


class _CalledPause(Pause):
    """A value of a call that is over: it can be read, and no write could change anything."""

    def __init__(self, site: Site, raw: Any):
        super().__init__(site, raw, _late_write, grad=False)

    def take(self, path: tuple, cls: type[Value] = Value) -> Any:
        value = super().take(path, cls)
        if isinstance(value, Value):
            value._source = self.part(path)  # which flows on in the user's code
        return value

    def _fold(self) -> None:
        """Nothing flows on from here."""


def _late_write(pause: Pause) -> str:
    name = "the module" if pause.touch is None else pause.touch.name
    return (
        f"{pause.describe()} cannot be written: {name} runs in your own code, and has run.\n"
        f"Change what it gave you: y = {name}(x); y[…] = 0. Or what you give it."
    )


@uninterrupted
def _hook_all(module: nn.Module, given: Callable, gave: Callable) -> None:
    for inner in module.modules():
        inner.register_forward_pre_hook(given, with_kwargs=True)
        inner.register_forward_hook(gave, with_kwargs=True)


@uninterrupted
def _unhook(module: nn.Module, given: Callable, gave: Callable) -> None:
    for inner in module.modules():
        take_away(inner, given)
        take_away(inner, gave)
