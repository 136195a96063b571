"""Variants of a sweep that share one forward, each seeing its own part of every value."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator, Iterator
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.running.coroutine import coroutine, current
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.sites.site import Operation, Site, Touch
from nnsight_magic.engine.sweeping.clean import CleanRun
from nnsight_magic.engine.sweeping.layout import NotTokenwise, Packed, Rows, merged
from nnsight_magic.engine.sweeping.shared import SharedRun, WantedOfShared
from nnsight_magic.engine.tracing.forwards import Forwards
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.containers import entries, is_container
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import Value, own_copy
from nnsight_magic.errors import WrongValueError


class Variant:
    """One run of the user's function, suspended at its next touch.

    Attributes:
        touch, ancestry: where it waits, and the modules from the root down to there.
        written: what it wrote, by site.
        clean: the run of its prompt without any change.
        start: no token before this one differs from the clean run's.
        reading: the run of a reference, while what is touched is of that.
        wants: a touch of a reference that it waits for.
        alone: its own forwards, once it has left its batch.
        error: what ended it.
        result: what the function returned.
    """

    touch: Touch  # set where it stops; who `waits` has stopped

    def __init__(self, change: Callable[..., Any], variant: Any, clean: CleanRun):
        self.arguments = arguments = variant if isinstance(variant, tuple) else (variant,)
        self.coroutine = coroutine(lambda: self._finish(change(*arguments)))
        self.clean = clean
        self.reading: SharedRun | None = None
        self.wants: WantedOfShared | None = None
        self.error: BaseException | None = None
        self.keeps_errors = False
        self.ancestry: list[nn.Module] = []
        self.touches: list[Touch] = []
        self.written: dict[Site, list[Change]] = {}
        self.pause: Pause | None = None
        self._left: list[Pause] = []
        self.start = 0
        self.alone: Forwards | None = None
        self.result: Any = None
        self.done = False

    @property
    def waits(self) -> bool:
        """Whether it stands at a touch that its batch has to come to."""
        return not self.done and self.error is None and self.alone is None

    @property
    def first(self) -> Site:
        """The site that it has seen first."""
        return self.touches[0].site

    def _finish(self, result: Any) -> None:
        self.result, self.done = _kept(result), True

    def go_on(self, pause: Pause | Exception | None = None, *, gather: bool = False) -> None:
        """Run to the next touch, or to the end; without a pause: in forwards of its own.

        Args:
            pause: what it waits for; an error is raised where it waits.
            gather: stop at touches of references too, and leave them in `wants`.
        """
        own: Any = self.coroutine  # greenlets or threadlets: all are of one kind
        own.parent = current()
        try:
            own.switch(pause)
            while self.wants is not None and not gather:
                wanted, self.wants = self.wants, None
                own.switch(wanted.pause_or_error())
        except BaseException as error:
            self.error = error
            if not (self.keeps_errors and isinstance(error, Exception)):
                raise

    def keep(self, pause: Pause) -> None:
        """A pause that is closed when the sweep is over."""
        self._left.append(pause)

    def close(self) -> None:
        """The sweep is over: what the user holds is theirs alone."""
        if self.alone is not None:
            self.alone.close()
        for pause in self._left:
            pause.close()

    def see(self, site: Site, value: Any) -> list[Change]:
        """Have it see the value at its touch, and run on: what it wrote there."""
        pause = self.pause = Pause(site, value, late_write, False)
        self.go_on(pause)
        self.pause = None
        pause.leave()
        self._left.append(pause)
        if pause.changes:
            self.written[site] = [*self.written.get(site, []), *pause.changes]
        return pause.changes


class Batch:
    """Variants in one forward.

    Each has seen what it touched first; what it wrote there is carried out when the forward
    comes by.
    """

    def __init__(self, variants: list[Variant], layout: Rows | Packed):
        self._variants, self._layout = variants, layout
        # Where variants have been already, and what they wrote there.
        self._pending: dict[Site, dict[tuple, list[tuple[int, Any]]]] = {}
        for number, variant in enumerate(variants):
            written = self._pending.setdefault(variant.first, {})
            for path, new in variant.written.get(variant.first, ()):
                written.setdefault(path, []).append((number, new))
        self.aligned = True  # whether all values could be put together

    def run(self, forward: Forward) -> None:
        """Let the variants run to their ends, or on their own where the forward cannot serve."""
        for site in self._pending:
            forward.attend(site)
        while waiting := [variant for variant in self._variants if variant.waits]:
            for variant in waiting:
                forward.attend(variant.touch.site, variant.ancestry)
            # What a variant waits for must lie behind the point that it has come from.
            sites = {v.touch.site for v in waiting if v.first not in self._pending}
            pause = forward.run_to_any(sites | self._pending.keys())
            if pause is None:
                break
            self._serve(pause)
        for variant in self._variants:
            if variant.waits:
                variant.go_on(None)

    def _serve(self, pause: Pause) -> None:
        """Let every variant that waits for this site go on with its own part of the value."""
        raw = self._merged(pause.current, self._pending.pop(pause.site, {}))
        written: dict[tuple, list[tuple[int, Any]]] = {}
        for number, variant in enumerate(self._variants):
            if not variant.waits or variant.touch.site != pause.site:
                continue
            if variant.first in self._pending:
                continue
            for path, new in self._seen(variant, number, pause.site, raw):
                written.setdefault(path, []).append((number, new))
        pause.current = self._merged(raw, written)

    def _merged(self, raw: Any, written: dict[tuple, list[tuple[int, Any]]]) -> Any:
        try:
            return merged(raw, written, self._layout)
        except NotTokenwise:
            self.aligned = False
            for number in {number for changes in written.values() for number, _ in changes}:
                if self._variants[number].waits:
                    self._variants[number].go_on(None)
            return raw

    def _seen(self, variant: Variant, number: int, site: Site, raw: Any) -> list[Change]:
        """Show a variant its part; what it wrote that the batch is to carry out."""
        touch, ancestry = variant.touch, variant.ancestry
        try:
            value = self._layout.part(raw, number, lambda: variant.clean.value(touch, ancestry))
        except NotTokenwise:
            self.aligned = False
            variant.go_on(None)
            return []
        changes = variant.see(site, value)
        if not self._layout.carries(value, changes, number):
            if variant.waits:
                variant.go_on(None)
            return []
        if variant.waits and variant.touch.site == site:
            variant.go_on(None)
        return changes


class EachVariant:
    """A forward whose edits are carried out for each variant as if it were alone."""

    def __init__(self, forward: Forward, layout: Rows):
        self._forward, self._layout = forward, layout
        self.whole = forward

    def edit(
        self,
        ancestry: list[nn.Module],
        kind: str,
        change: Callable[[Any, int, int], Any],
        operation: Operation | None = None,
    ) -> None:
        """As `Forward.edit`."""

        def change_each(raw: Any, step: int, call: int) -> Any:
            written: dict[tuple, list[tuple[int, Any]]] = {}
            for number in range(self._layout.count):
                part = self._layout.part(raw, number)
                for path, new in _changes(part, change(part, step, call)):
                    written.setdefault(path, []).append((number, new))
            try:
                return merged(raw, written, self._layout)
            except NotTokenwise:
                raise WrongValueError(
                    "This value is shared by all variants of the sweep, and an edit that is in "
                    "force cannot write it for each.\n"
                    "Trace the variants one by one, or switch the edit off (model.edits)."
                ) from None

        self._forward.edit(ancestry, kind, change_each, operation)


def _changes(old: Any, new: Any, path: tuple = ()) -> Iterator[Change]:
    """What is another object in `new`, and where."""
    if is_container(old):
        for key, item in entries(old):
            yield from _changes(item, new[key], (*path, key))
    elif new is not old:
        yield path, new


def late_write(pause: Pause) -> str:
    return (
        f"{pause.describe()} was written after the forward had gone on past it.\n"
        "Write to it before anything behind it is read."
    )


def _kept(result: Any) -> Any:
    """What a variant returns, as plain tensors that keep nothing else alive.

    Raises:
        WrongValueError: it runs later, when the sweep's writes are gone.
    """
    from nnsight_magic.engine.tracing.sequences import Generation  # which builds on traces
    from nnsight_magic.engine.tracing.tracer import Tracer

    if isinstance(result, Generation | Tracer):
        kind = "generation" if isinstance(result, Generation) else "trace"
        verb = "generate" if kind == "generation" else "trace"
        raise WrongValueError(
            f"A sweep's function returned a {kind}, which has not run yet, and would run "
            "without what the function wrote.\n"
            f"Use a loop: with model.{verb}(prompt, …) as tracer, the writes in its block."
        )
    if isinstance(result, Generator | Coroutine | map | filter):
        raise WrongValueError(
            f"A sweep's function returned a {type(result).__name__}, which has not run yet, and "
            "would run when the model is gone.\nReturn values: a list instead of a generator or "
            "map, and no yield or async in the function."
        )
    if isinstance(result, Value):
        return own_copy(result.value).detach()
    if isinstance(result, torch.Tensor) and type(result) in (torch.Tensor, torch.nn.Parameter):
        result = result.detach()
        # A number that is picked out of a distribution would keep all of it in memory.
        if result.layout is torch.strided:
            own = result.numel() * result.element_size()
            return result.clone() if own < result.untyped_storage().nbytes() else result
        return result
    if isinstance(result, torch.Tensor) and result.grad_fn is not None:
        return result.detach()
    if isinstance(result, Parts):
        return result.value
    if isinstance(result, tuple | list) and type(result) in (tuple, list):
        return type(result)(_kept(item) for item in result)
    if isinstance(result, dict):
        return {key: _kept(item) for key, item in result.items()}
    return result
