"""Modules that a forward does not run (skipped, or known already), or runs in its own way.

A hook cannot keep a module from running, nor can it put something around the module's forward
that ends with it whatever happens. While a trace lasts, the instance attribute `forward` of such
a module asks first what the calling forward wants; it is taken away with the trace's hooks. So is
what listens to another of its methods.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from torch import nn

from nnsight_magic.engine.insides import torch_insides, transformers_insides
from nnsight_magic.engine.running.coroutine import Coroutine, current
from nnsight_magic.engine.running.hooks import captures_behind, put_in_order
from nnsight_magic.engine.running.interrupt import uninterrupted
from nnsight_magic.engine.values.containers import first_argument

_UNSET = object()
RUNS: Any = object()  # what a `Produce` gives for a call that is to run as ever
Produce = Callable[[tuple, dict[str, Any]], Any]
Surround = Callable[[Callable, tuple, dict[str, Any]], Any]


class Bypasses:
    """The bypassed modules of one trace, by the coroutine of the forward that they concern."""

    def __init__(self) -> None:
        self._produce: dict[tuple[Coroutine, nn.Module], Produce] = {}
        self._surround: dict[tuple[Coroutine, nn.Module], Surround] = {}
        self._patches: dict[tuple[nn.Module, str], Any] = {}  # what a method was replaced by
        self._handing_on: set[nn.Module] = set()  # may have lent a method to a module inside
        self._orders: dict[nn.Module, list[int]] = {}  # of hooks, before ours were there
        self._set: list[tuple[nn.Module, str, Any]] = []  # attributes as they were
        self._cut_short: set[nn.Module] = set()  # models that did not come to their end

    def add(self, running: Coroutine, module: nn.Module, produce: Produce) -> None:
        """Let calls of `module` out of `running` give what `produce(args, kwargs)` gives.

        The module runs where that is `RUNS`.
        """
        self.watch(module)
        self._produce[running, module] = produce

    def surround(self, running: Coroutine, module: nn.Module, surround: Surround) -> None:
        """Let calls of `module` out of `running` give `surround(forward, args, kwargs)`."""
        self.watch(module)
        self._surround[running, module] = surround

    @uninterrupted
    def watch(self, module: nn.Module) -> None:
        """Make the module ask: a call that has begun before cannot be bypassed any more."""
        if (module, "forward") in self._patches:
            return
        self.uncompile(module)
        original = module.forward

        @functools.wraps(original)  # transformers looks at the signature
        def forward(*args: Any, **kwargs: Any) -> Any:
            key = (current(), module)
            produce = self._produce.get(key)
            if produce is not None and (produced := produce(args, kwargs)) is not RUNS:
                return produced
            surround = self._surround.get(key)
            if surround is not None:
                return surround(patched.runs, args, kwargs)
            return patched.runs(*args, **kwargs)

        patched: Any = forward
        self._put(module, "forward", patched, original)

    @uninterrupted
    def listen(
        self,
        module: nn.Module,
        method: str,
        hear: Callable[[tuple, dict], None],
        hands_on: bool = False,
    ) -> None:
        """Let `hear(args, kwargs)` know of every call of a method, which runs as ever.

        One that `hands_on` may lend it to a module inside, as PEFT's models do, and leave it there.
        """
        if (module, method) in self._patches:
            return
        if hands_on:
            self._handing_on.add(module)
        original = getattr(module, method)

        @functools.wraps(original)
        def told(*args: Any, **kwargs: Any) -> Any:
            hear(args, kwargs)
            return patched.runs(*args, **kwargs)

        patched: Any = told
        self._put(module, method, patched, original)

    def _put(self, module: nn.Module, method: str, stand_in: Any, original: Any) -> None:
        stand_in.runs, stand_in.stands_for = original, module.__dict__.get(method)
        self._patches[module, method] = stand_in
        module.__dict__[method] = stand_in

    @uninterrupted
    def uncompile(self, module: nn.Module) -> None:
        """Run a module as it is that was compiled in place: nothing stops in there.

        By `module.compile()`, or by `module.forward = torch.compile(module.forward)`.
        """
        if torch_insides.compiled_call(module) is not None:
            self._set.append((module, "_compiled_call_impl", module._compiled_call_impl))
            module._compiled_call_impl = None
        forward = module.__dict__.get("forward")
        plain = torch_insides.compiled_from(forward)
        if plain is not None and not hasattr(forward, "stands_for"):
            self._set.append((module, "forward", forward))
            module.__dict__["forward"] = plain

    @uninterrupted
    def keep_activations(self, root: nn.Module) -> bool:
        """Have no block run a second time in the backward pass; whether one would have.

        A recomputation belongs to no forward of a trace: what was written in it is missing there.
        """
        found: list[Any] = [
            m for m in root.modules() if m.__dict__.get("gradient_checkpointing") is True
        ]
        for module in found:
            self._set.append((module, "gradient_checkpointing", True))
            module.gradient_checkpointing = False
        return bool(found)

    @uninterrupted
    def let_captures_follow(self, module: nn.Module) -> None:
        """Let transformers' own hooks of a module see what is written in the last one."""
        order = captures_behind(module)
        if order:
            self._orders.setdefault(module, order)

    def remove(self, running: Coroutine, module: nn.Module) -> None:
        self._produce.pop((running, module), None)

    def forget(self, running: Coroutine | None) -> None:
        """The forward has ended."""
        for held in (self._produce, self._surround):
            for key in [key for key in held if key[0] is running]:
                del held[key]

    def cut_short(self, root: nn.Module) -> None:
        """A forward of this model was ended on its way: it could not put back what it set."""
        self._cut_short.add(root)

    def close(self) -> None:
        """Give every module its own methods back."""
        self._uncapture()
        for (module, method), stand_in in self._patches.items():
            _take_out(module, method, stand_in)
            if module in self._handing_on:
                _take_back(module, method, stand_in)
        self._handing_on.clear()
        for module, order in self._orders.items():
            put_in_order(module, order)
        self._orders.clear()
        for module, name, value in self._set:
            setattr(module, name, value)
        self._set.clear()
        self._patches.clear()
        self._produce.clear()
        self._surround.clear()
        self._uncapture()  # also from under those that were taken out
        self._cut_short.clear()

    def _uncapture(self) -> None:
        for root in self._cut_short:
            transformers_insides.put_forwards_back(root)


def _take_out(module: nn.Module, method: str, stand_in: Any) -> None:
    """Take one stand-in away from a module, also from under those of traces that go on.

    Traces of two wrappers of one model may end in the order in which they began.
    """
    above, now = None, module.__dict__.get(method)
    while now is not None and now is not stand_in:
        above, now = now, getattr(now, "stands_for", None)
    if now is None:
        return
    if above is not None:
        above.runs, above.stands_for = stand_in.runs, stand_in.stands_for
    elif stand_in.stands_for is None:
        del module.__dict__[method]
    else:
        module.__dict__[method] = stand_in.stands_for


def _take_back(module: nn.Module, method: str, stand_in: Any) -> None:
    """Let the modules inside that were lent a stand-in have the module's own method."""
    for each in module.modules():
        if each.__dict__.get(method) is stand_in:
            each.__dict__[method] = stand_in.runs


def own_forward(forward: Any) -> Any:
    """A module's `forward` attribute, `None` for none, as it is without any trace."""
    while (before := getattr(forward, "stands_for", _UNSET)) is not _UNSET:
        forward = before
    return forward


def hidden_of(args: tuple, kwargs: dict[str, Any]) -> Any:
    """The hidden states that a block is called with: its first argument."""
    return first_argument(args, kwargs)
