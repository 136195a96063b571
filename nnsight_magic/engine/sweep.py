"""Many variants of one intervention, in as few forwards as give the same numbers.

    def patch(block, position):
        model.layers[block].output[:, position] = clean[block][:, position]
        return model.logits[:, -1]

    model.sweep(prompt, patch, itertools.product(range(30), range(12)))

Every variant is a coroutine: `patch` runs until it touches the model. Variants whose first touch
lies in the same block become the rows of one batch, which starts from that block on the output
that the block before it gives without any change. In the batch each variant sees its own rows. A
variant that looks back at what its batch has left behind goes on alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from greenlet import getcurrent, greenlet
from torch import nn

from nnsight_magic.engine.bypass import Bypasses, hidden_of
from nnsight_magic.engine.course import Course
from nnsight_magic.engine.forward import Cancelled, Forward
from nnsight_magic.engine.pause import Change, Pause
from nnsight_magic.engine.report import RunReport
from nnsight_magic.engine.shortcut import Shortcut, in_block_layout
from nnsight_magic.engine.site import Site, Touch
from nnsight_magic.engine.tracer import Tracer
from nnsight_magic.engine.value import Parts, Value, entries, is_container, own_copy, rebuild
from nnsight_magic.errors import WrongValueError
from nnsight_magic.progress import progress_bar

# Rows times tokens of one batch: more of them make a forward on a CPU no cheaper per row.
TOKENS_PER_BATCH = 1024


class _Variant:
    """One run of the user's function, suspended at its next touch."""

    def __init__(self, change: Callable[..., Any], variant: Any):
        arguments = variant if isinstance(variant, tuple) else (variant,)
        self.greenlet = greenlet(lambda _: self._finish(change(*arguments)))
        self.touch: Touch | None = None
        self.line: list[nn.Module] = []
        self.touches: list[Touch] = []
        self.written: dict[Site, list[Change]] = {}
        self.pause: Pause | None = None
        self.alone: Course | None = None
        self.result: Any = None
        self.done = False

    def _finish(self, result: Any) -> None:
        self.result, self.done = _kept(result), True

    def go_on(self, pause: Pause | None = None) -> None:
        """Run to the next touch, or to the end."""
        self.greenlet.parent = getcurrent()
        self.greenlet.switch(pause)

    def leave(self) -> list[Change]:
        """The variant has moved on from its pause: what it wrote there."""
        pause, self.pause = self.pause, None
        if pause is None:
            return []
        pause.leave()
        if pause.changes:
            self.written[pause.site] = [*self.written.get(pause.site, []), *pause.changes]
        return pause.changes


class Sweep(Tracer):
    """The variants of one call of `model.sweep`, and the batches that serve them.

    Args:
        plain: the trace of the inputs without any change.
        change, variants, batch_size: see `Model.sweep`.
    """

    def __init__(
        self,
        plain: Tracer,
        change: Callable[..., Any],
        variants: Iterable[Any],
        batch_size: int | None,
    ):
        super().__init__(
            plain.model,
            None,
            args=plain.args,
            prompts=plain.prompts,
            inputs=plain.inputs,
            grad=False,
        )
        self._module = plain.model.module
        self._rows = _row_count(self.args, self.inputs)
        self._variants = [_Variant(change, variant) for variant in variants]
        self._by_greenlet = {variant.greenlet: variant for variant in self._variants}
        self._size = batch_size or self._default_size()
        self._prefix: dict[int, torch.Tensor] = {}
        self._bypasses = Bypasses()
        self._scheduler: greenlet | None = None

    def run(self, progress: bool) -> list[Any]:
        """All variants' results, in their order."""
        with (
            self,
            progress_bar(total=len(self._variants), delay=1, disable=not progress) as bar,
        ):
            self._scheduler = getcurrent()
            try:
                for variant in self._variants:
                    variant.go_on()
                bar.update(sum(variant.done for variant in self._variants))
                for block, batch in self._batches():
                    self._run_batch(block, batch)
                    bar.update(len(batch))
            finally:
                self._cancel()
        return [variant.result for variant in self._variants]

    # ── a variant touches the model ──────────────────────────────────────────────────────

    def _reach_site(self, touch: Touch, line: list[nn.Module]) -> Pause:
        variant = self._by_greenlet.get(getcurrent())
        if variant is None or variant.alone is not None:
            return (self._course if variant is None else variant.alone).reach(touch, line)
        if variant.pause is not None and variant.pause.site == touch.site:
            return variant.pause
        variant.touch, variant.line = touch, line
        pause = self._scheduler.switch()
        if pause is None:  # its batch has left the site behind
            return self._go_alone(variant).reach(touch, line)
        pause.touch = touch
        variant.touches.append(touch)
        self.report.touches.append(touch)
        return pause

    def _go_alone(self, variant: _Variant) -> Course:
        """A course of its own, with what the variant wrote so far."""
        report = RunReport(touches=variant.touches)
        course = Course(
            self._call_with(1), self._module, report, grad=False, bypasses=self._bypasses
        )
        course.written.update(variant.written)
        variant.alone = course
        return course

    # ── the batches ──────────────────────────────────────────────────────────────────────

    def _batches(self) -> Iterator[tuple[int, list[_Variant]]]:
        """Waiting variants by the block of their first touch, cut to the batch size."""
        groups: dict[int, list[_Variant]] = {}
        for variant in self._variants:
            if not variant.done:
                groups.setdefault(self._blocks_before(variant.touch), []).append(variant)
        self._learn_prefix([block for block in groups if block])
        for block, group in sorted(groups.items()):
            for start in range(0, len(group), self._size):
                yield block, group[start : start + self._size]

    def _blocks_before(self, touch: Touch) -> int:
        if self.model.names.layers is None:
            return 0
        shortcut = Shortcut(self.model.resume, self._module, self.model.names, (), {})
        kind = touch.kind if touch.site.operation is None else "operation"
        return shortcut.blocks_before(".".join(touch.parts), kind) or 0

    def _learn_prefix(self, blocks: list[int]) -> None:
        """One forward without any change, as far as the last block that a batch starts behind."""
        if not blocks:
            return
        handles = self.model.blocks
        with _forward(self, self._call_with(1)) as forward:
            for block in blocks:
                handle = handles[block - 1]
                forward.hook(handle.ancestors(), "output")
                forward.observe(
                    handle.module, "output", lambda site, raw, block=block: self._learn(block, raw)
                )
            last = handles[max(blocks) - 1].module
            forward.run_to(Site(last, "output", 0, 0))

    def _learn(self, block: int, raw: Any) -> None:
        hidden = Shortcut.hidden_alone(self.model.blocks[block - 1].module, raw)
        if hidden is not None:
            self._prefix[block] = own_copy(hidden)

    def _run_batch(self, block: int, batch: list[_Variant]) -> None:
        with _forward(self, self._call_with(len(batch))) as forward:
            hidden = self._prefix.get(block)
            if hidden is not None:
                self._start_behind(forward, block, hidden, len(batch))
            waiting = list(batch)
            while waiting:
                for variant in waiting:
                    forward.attend(variant.touch.site, variant.line)
                pause = forward.run_to_any({variant.touch.site for variant in waiting})
                if pause is None:
                    break
                self._serve(pause, batch, waiting)
                waiting = [v for v in waiting if not v.done and v.alone is None]
            for variant in waiting:
                variant.go_on(None)

    def _start_behind(self, forward: Forward, block: int, hidden: torch.Tensor, count: int) -> None:
        blocks = [handle.module for handle in self.model.blocks[:block]]
        for module in blocks[:-1]:
            forward.bypass(module, lambda a, k, m=module: in_block_layout(m, hidden_of(a, k)))
        rows = hidden.repeat(count, *[1] * (hidden.ndim - 1))
        forward.bypass(blocks[-1], lambda a, k: in_block_layout(blocks[-1], rows))

    def _serve(self, pause: Pause, batch: list[_Variant], waiting: list[_Variant]) -> None:
        """Let every variant that waits for this site go on with its own rows of the value."""
        raw, total = pause.current, self._rows * len(batch)
        written: dict[tuple, list[tuple[slice, Any]]] = {}
        for row, variant in enumerate(batch):
            if variant not in waiting or variant.touch.site != pause.site:
                continue
            rows = slice(row * self._rows, (row + 1) * self._rows)
            variant.pause = Pause(pause.site, _narrow(raw, rows, total), _late_write, False)
            variant.go_on(variant.pause)
            for path, new in variant.leave():
                written.setdefault(path, []).append((rows, new))
            if not variant.done and variant.alone is None and variant.touch.site == pause.site:
                variant.go_on(None)
        pause.current = _merged(raw, written, total)

    def _call_with(self, count: int) -> Callable[[], Any]:
        """The model on `count` copies of the inputs."""

        def repeated(value: Any) -> Any:
            if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == self._rows:
                return value.repeat(count, *[1] * (value.ndim - 1))
            return value

        args = tuple(repeated(value) for value in self.args)
        kwargs = {key: repeated(value) for key, value in self.inputs.items()}
        return lambda: self._module(*args, **kwargs)

    def _default_size(self) -> int:
        tokens = next(
            (
                v.shape[1]
                for v in self.inputs.values()
                if isinstance(v, torch.Tensor) and v.ndim > 1
            ),
            1,
        )
        return max(1, TOKENS_PER_BATCH // max(1, tokens * self._rows))

    def _cancel(self) -> None:
        """End every variant that is still suspended; take away what is left."""
        for variant in self._variants:
            if variant.greenlet and not variant.greenlet.dead:
                try:
                    variant.greenlet.throw(Cancelled())
                except Cancelled:
                    pass
            if variant.alone is not None:
                variant.alone.close()
        self._bypasses.close()
        self._by_greenlet.clear()
        self._prefix.clear()


class _forward:
    """A forward that is cancelled when the block is left, whatever happens."""

    def __init__(self, sweep: Sweep, call: Callable[[], Any]):
        sweep.report.forwards += 1
        self._forward = Forward(
            call, sweep._module, _late_write, bypasses=sweep._bypasses, written={}, grad=False
        )

    def __enter__(self) -> Forward:
        return self._forward

    def __exit__(self, *error: Any) -> None:
        self._forward.cancel()


def _row_count(args: tuple, kwargs: dict[str, Any]) -> int:
    for value in [*args, *kwargs.values()]:
        if isinstance(value, torch.Tensor) and value.ndim:
            return value.shape[0]
    return 1


def _narrow(raw: Any, rows: slice, total: int) -> Any:
    """The same structure with these rows of every tensor that has all rows."""
    if isinstance(raw, torch.Tensor):
        return raw[rows] if raw.ndim and raw.shape[0] == total else raw
    if is_container(raw):
        return rebuild(raw, {key: _narrow(item, rows, total) for key, item in entries(raw)})
    return raw


def _merged(raw: Any, written: dict[tuple, list[tuple[slice, Any]]], total: int) -> Any:
    """`raw` with what was written to rows of it; each tensor is copied once."""
    for path, changes in written.items():
        raw = _with_rows(raw, path, changes, total)
    return raw


def _with_rows(raw: Any, path: tuple, changes: list[tuple[slice, Any]], total: int) -> Any:
    if path:
        return rebuild(raw, {path[0]: _with_rows(raw[path[0]], path[1:], changes, total)})
    if is_container(raw):
        for key, _ in entries(raw):
            part = [(rows, new[key]) for rows, new in changes if isinstance(new[key], torch.Tensor)]
            if part:
                raw = rebuild(raw, {key: _with_rows(raw[key], (), part, total)})
        return raw
    if not isinstance(raw, torch.Tensor) or not raw.ndim or raw.shape[0] != total:
        raise WrongValueError(
            "This value is shared by all variants of the sweep and cannot be written for one of "
            "them.\nWrite to a value that has a row for each prompt, or trace them one by one."
        )
    merged = raw.clone()
    for rows, new in changes:
        merged[rows] = new
    return merged


def _late_write(pause: Pause) -> str:
    return (
        f"{pause.describe()} was written after the forward had gone on past it.\n"
        "Write to it before anything behind it is read."
    )


def _kept(result: Any) -> Any:
    """What a variant returns, as plain tensors that keep nothing else alive."""
    if isinstance(result, Value):
        return own_copy(result.value)
    if isinstance(result, Parts):
        return result.value
    if isinstance(result, tuple | list) and type(result) in (tuple, list):
        return type(result)(_kept(item) for item in result)
    if isinstance(result, dict):
        return {key: _kept(item) for key, item in result.items()}
    return result
