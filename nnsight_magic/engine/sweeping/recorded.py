"""Points that record gradients: rows of one batch, and one backward pass for all of them.

A variant that calls `backward` waits until the others have come to theirs, and the pass starts
from all losses at once: rows do not depend on each other, so each has the gradients of its own
loss. What asks for more than that (`with loss.backward():`, `autograd.grad`, a second pass through
a graph that is gone, a site that the batch has left behind) is run again, by itself.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.running.coroutine import Coroutine
from nnsight_magic.engine.running.forward import Cancelled, Forward
from nnsight_magic.engine.sweeping.batch import Variant, late_write
from nnsight_magic.engine.sweeping.clean import CleanRun
from nnsight_magic.engine.sweeping.layout import NotTokenwise, Rows, merged
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.gradients import shared_backward
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.plainly import plainly

# A function that names one of these looks at the weights' own gradients: of its point alone.
USED_UP = "through the graph a second time"  # torch's words
_OF_WEIGHTS = frozenset({"zero_grad", "parameters", "named_parameters", "weight", "bias"})


class RecordedVariant(Variant):
    """One run of the user's function in a batch that records gradients.

    Attributes:
        loss: what it called `backward` on, with its arguments, while it waits for the pass.
        freed: its graph is used up, as far as it knows.
        lost: the batch cannot serve it: it is run again, alone.
    """

    def __init__(
        self, change: Callable[..., Any], variant: Any, clean: CleanRun, scheduler: Coroutine
    ):
        super().__init__(self._sharing(change), variant, clean)
        self._scheduler = scheduler
        self.loss: tuple[torch.Tensor, torch.Tensor | None] | None = None
        self.freed = self.lost = False

    def _sharing(self, change: Callable[..., Any]) -> Callable[..., Any]:
        """`change`, whose backward passes are those of the batch: each coroutine has contexts."""

        def shared(*args: Any) -> Any:
            shared_backward.set(self._ask)
            return change(*args)

        return shared

    @property
    def waits(self) -> bool:
        return not self.lost and super().waits

    def _ask(self, args: tuple, kwargs: dict[str, Any], *, plain: bool) -> bool:
        """A backward pass that the function asks for; whether the batch has done it.

        Args:
            args, kwargs: of `Tensor.backward`.
            plain: whether it is that, and no block of it and no `autograd.grad`.
        """
        names = ("gradient", "retain_graph", "create_graph", "inputs")
        given = dict(zip(names, args[1:], strict=False)) | kwargs
        loss, gradient = args[0], given.get("gradient")
        if not plain or given.get("create_graph") or given.get("inputs") is not None or self.freed:
            self.lost = True
            self._scheduler.switch()
        if not loss.requires_grad or (loss.numel() != 1 and gradient is None):
            return False  # torch says what is wrong with it
        self.freed = not given.get("retain_graph")
        self.loss = (loss, gradient)
        self._scheduler.switch()
        return True

    def go_on(self, pause: Any = None, *, gather: bool = False) -> None:
        """As of every variant; where another one has used up the graph of the batch, it is lost."""
        try:
            super().go_on(pause, gather=gather)
        except RuntimeError as error:
            if self.error is not error or USED_UP not in str(error):
                raise
        if isinstance(self.error, RuntimeError) and USED_UP in str(self.error):
            self.lost, self.error = True, None

    def see(self, site: Any, value: Any) -> list[Change]:
        """As of every variant; what it was handed flows on itself, so that its `.grad` is known."""
        pause = self.pause = Pause(site, value, late_write, True)
        self.go_on(pause)
        self.pause = None
        flowed = pause.leave()
        self.keep(pause)
        return [] if flowed is value else [((), flowed)]


class RecordedBatch:
    """Variants in one forward that is recorded, from its beginning.

    Args:
        variants: that have not begun.
        layout: their rows.
        forward: on all rows.
    """

    def __init__(self, variants: list[RecordedVariant], layout: Rows, forward: Forward):
        self._variants, self._layout, self._forward = variants, layout, forward

    def run(self) -> list[RecordedVariant]:
        """Run them to their ends; gives those that have to be run alone."""
        for variant in self._variants:
            variant.go_on()
        while waiting := [variant for variant in self._variants if variant.waits]:
            touching = [variant for variant in waiting if variant.loss is None]
            if not touching:
                self._go_backward(waiting)
                continue
            past = [variant for variant in touching if self._is_past(variant)]
            for variant in past:
                variant.lost = True
            here = self._forward.pause
            if past:
                continue
            if here is None or not any(v.touch.site == here.site for v in touching):
                for variant in touching:
                    self._forward.attend(variant.touch.site, variant.ancestry)
                here = self._forward.run_to_any({variant.touch.site for variant in touching})
            if here is not None:
                self._serve(here)
        lost = [variant for variant in self._variants if variant.lost]
        for variant in lost:
            _end(variant)
        return lost

    def _is_past(self, variant: RecordedVariant) -> bool:
        site, here = variant.touch.site, self._forward.pause
        if here is not None and here.site == site:
            return False
        return self._forward.finished or site in self._forward.fired

    def _serve(self, pause: Pause) -> None:
        raw, written = pause.current, {}
        for number, variant in enumerate(self._variants):
            if not variant.waits or variant.loss is not None or variant.touch.site != pause.site:
                continue
            try:
                value = self._layout.part(raw, number, partial(_unknown, variant))
            except NotTokenwise:
                variant.lost = True
                continue
            for path, new in variant.see(pause.site, value):
                written.setdefault(path, []).append((number, new))
        try:
            pause.current = merged(raw, written, self._layout)
        except NotTokenwise:
            for number in {number for changes in written.values() for number, _ in changes}:
                self._variants[number].lost = True

    def _go_backward(self, asking: list[RecordedVariant]) -> None:
        """One pass from all losses. The graph is kept until all variants have ended."""
        losses = [variant.loss for variant in asking if variant.loss is not None]
        gradients = [None if g is None else g for _, g in losses]
        try:
            plainly(
                torch.autograd.backward, [loss for loss, _ in losses], gradients, retain_graph=True
            )
        except RuntimeError:  # one of them went back through the graph in a way that nobody saw
            for variant in asking:
                variant.lost, variant.loss = True, None
            return
        for variant in asking:
            variant.loss = None
        for variant in asking:
            variant.go_on()


def _unknown(variant: RecordedVariant) -> Any:
    """A value of the batch that has no row for each variant: nobody knows whose it is."""
    raise NotTokenwise


def _end(variant: RecordedVariant) -> None:
    if variant.coroutine and not variant.coroutine.dead:
        try:
            variant.coroutine.throw(Cancelled())
        except Cancelled:
            pass


class Graph:
    """How much memory a graph takes.

    Attributes:
        bytes: of what it holds beside the weights.
    """

    def __init__(self, module: nn.Module):
        self._seen = {each.untyped_storage().data_ptr() for each in module.parameters()}
        self.bytes = 0

    @contextmanager
    def counted(self) -> Iterator[None]:
        """Blocks whose operations are counted."""
        with torch.autograd.graph.saved_tensors_hooks(self._count, lambda tensor: tensor):
            yield

    def _count(self, tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in self._seen:
            self._seen.add(storage.data_ptr())
            self.bytes += storage.nbytes()
        return tensor


def looks_at_weights(change: Any, seen: set[int] | None = None) -> bool:
    """Whether a function, or one that it holds, names what the weights' gradients are reached by.

    >>> looks_at_weights(lambda model: model.zero_grad())
    True
    """
    seen = set() if seen is None else seen
    if id(change) in seen:
        return False
    seen.add(id(change))
    if isinstance(change, partial):
        return looks_at_weights(change.func, seen)
    if isinstance(change, types.MethodType):
        return looks_at_weights(change.__func__, seen)
    if isinstance(change, types.CodeType):
        inner = any(looks_at_weights(each, seen) for each in change.co_consts)
        return inner or bool(_OF_WEIGHTS & {*change.co_names})
    if not isinstance(change, types.FunctionType):
        return False
    cells = (cell.cell_contents for cell in change.__closure__ or () if _is_set(cell))
    return looks_at_weights(change.__code__, seen) or any(
        looks_at_weights(each, seen) for each in cells
    )


def _is_set(cell: Any) -> bool:
    try:
        cell.cell_contents  # noqa: B018
    except ValueError:
        return False
    return True
