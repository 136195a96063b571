"""Modules that the user hangs onto the wrapped tree, and calls of modules out of the user's code.

    model.layers[5].sae = SAE()                      # the user's model itself stays as it is
    with model.trace(prompt):
        block = model.layers[5]
        block.output = block.sae(block.output)       # runs here and now, on real tensors
        features = block.sae.encoder.output

An attached module is no part of the forward: it runs where the user calls it, and what it and
its submodules were given and gave there can be read afterwards in the same trace.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnsight_magic.engine.running.hooks import take_away
from nnsight_magic.engine.running.interrupt import uninterrupted
from nnsight_magic.engine.running.scan import ScanReader
from nnsight_magic.engine.sites.site import Site, Touch
from nnsight_magic.engine.values.gradients import retain_grad
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import (
    BlockValue,
    Parts,
    Value,
    as_value,
    entries,
    is_container,
    own_copy,
    plain,
    rebuild,
)
from nnsight_magic.errors import NeverRanError, NoSuchModuleError
from nnsight_magic.printable import printable

if TYPE_CHECKING:
    from nnsight_magic.engine.places.handle import Handle


def attach(handle: Handle, name: str, module: nn.Module) -> None:
    """Hang `module` under a handle; a module attached there before is replaced.

    Raises:
        NoSuchModuleError: the model itself has something of that name.
    """
    where = f"{handle.name}.{name}" if handle.name else name
    path = f"{handle.path}.{name}" if handle.path else name
    attached = handle._model._attached
    own = hasattr(type(handle), name) or hasattr(handle.ancestors()[-1], name)
    if path not in attached and (own or handle._standard(name, handle.ancestors()[-1])):
        raise NoSuchModuleError(
            f"{where} exists already: the model has something of that name, which stays as it is.\n"
            f"Attach the {type(module).__name__} under another name."
        )
    attached[path] = module


def detach(handle: Handle, name: str) -> None:
    """Take an attached module away.

    Raises:
        NoSuchModuleError: none was attached under that name.
    """
    path = f"{handle.path}.{name}" if handle.path else name
    if handle._model._attached.pop(path, None) is None:
        where = f"{handle.name}.{name}" if handle.name else name
        raise NoSuchModuleError(
            f"{where} cannot be deleted: nothing was attached there, and the model itself is never "
            "changed."
        )


def call_module(handle: Handle, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run a module in the user's own code, beside the forward and unseen by it."""
    model = handle._model
    if not handle.is_attached:
        _ = model.module  # loads the weights, if they are not
    module = handle.module
    tracer = model._running()
    if tracer is None:
        return module(*args, **kwargs)
    args = tuple(_plain_tree(arg) for arg in args)
    kwargs = {name: _plain_tree(value) for name, value in kwargs.items()}
    if isinstance(tracer, ScanReader):
        result = tracer.call(module, args, kwargs)
    elif handle.is_attached:
        result = tracer.own_calls.run(module, tracer.step, args, kwargs)
    else:
        result = module(*args, **kwargs)
    if handle.is_block and isinstance(result, torch.Tensor):
        return as_value(own_copy(result), BlockValue)
    return _value_tree(result)


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
    name = pause.touch.name
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


def _plain_tree(value: Any) -> Any:
    """Tensors without our types: `[0]` in a module's code must mean what it says there."""
    if isinstance(value, Value):
        return plain(value)
    if isinstance(value, Parts):
        return value.value
    if is_container(value) and any(
        isinstance(item, Value | Parts) or is_container(item) for _, item in entries(value)
    ):
        return rebuild(value, {key: _plain_tree(item) for key, item in entries(value)})
    return value


def _value_tree(value: Any) -> Any:
    """Copies of a call's tensors that the user can save and write into."""
    if isinstance(value, torch.Tensor):
        return as_value(own_copy(value))
    if is_container(value):
        return rebuild(value, {key: _value_tree(item) for key, item in entries(value)})
    return value


def tree_text(handle: Handle) -> str:
    """The tree as torch prints it, attached modules included."""
    module = handle.ancestors()[-1]
    prefix = f"{handle.path}." if handle.path else ""
    if not any(path.startswith(prefix) for path in handle._model._attached):
        return printable(repr(module))
    rows = [(name, tree_text(handle._child(name))) for name in handle._children()]
    if isinstance(module, nn.ModuleList):
        rows = _alike_together(rows)
    lines = [f"({printable(name)}): {text}" for name, text in rows]
    extra = module.extra_repr()
    body = "\n".join([*([extra] if extra else []), *lines]).replace("\n", "\n  ")
    return f"{type(module).__name__}(\n  {body}\n)"


def _alike_together(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Equal modules that follow each other in one entry, `(0-4): 5 x …`."""
    groups: list[tuple[list[str], str]] = []
    for name, text in rows:
        if groups and groups[-1][1] == text and name.isdigit():
            groups[-1][0].append(name)
        else:
            groups.append(([name], text))
    return [
        (names[0], text)
        if len(names) == 1
        else (f"{names[0]}-{names[-1]}", f"{len(names)} x {text}")
        for names, text in groups
    ]
