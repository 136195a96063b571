"""Many variants of one intervention, in as few forwards as give the same numbers.

    def patch(block, position):
        model.layers[block].output[:, position] = clean[block][:, position]
        return model.logits[:, -1]

    model.sweep(prompt, patch, itertools.product(range(30), range(12)))

Every variant is a coroutine: `patch` runs until it touches the model. What it touches first is
the same for all, and comes from one clean run. Variants whose first touch lies in the same block
then share a forward, which starts from that block: as rows of a batch or, where their first
tokens stay as they are, packed without those (see `layout`). A variant that looks back at what
its batch has left behind goes on alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.insides import transformers_insides
from nnsight_magic.engine.memory.shortcut import Shortcut
from nnsight_magic.engine.running.bypass import Bypasses
from nnsight_magic.engine.running.coroutine import Coroutine, current
from nnsight_magic.engine.running.filled import OnCopies, filled_among
from nnsight_magic.engine.running.forward import Cancelled, Forward
from nnsight_magic.engine.sites.report import RunReport
from nnsight_magic.engine.sites.site import Touch
from nnsight_magic.engine.sweeping.batch import Batch, EachVariant, Variant, late_write
from nnsight_magic.engine.sweeping.clean import CleanRun, Prompt, may_pack, start_behind
from nnsight_magic.engine.sweeping.layout import Packed, Rows, reach, value_at
from nnsight_magic.engine.tracing.course import Course
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.progress import progress_bar

# Rows times tokens of one batch: more of them make a forward on a CPU no cheaper per row.
TOKENS_PER_BATCH = 1024
# Packed variants attend to one another's tokens in vain, so this much has to be left out.
WORTH_PACKING = 0.85  # of all tokens are packed, at most


class Sweep(Tracer):
    """The variants of one call of `model.sweep`, and the batches that serve them.

    Args:
        plain: the trace of the inputs without any change.
        change, variants, batch_size, pack: see `Model.sweep`.
    """

    def __init__(
        self,
        plain: Tracer,
        change: Callable[..., Any],
        variants: Iterable[Any],
        batch_size: int | None,
        pack: bool,
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
        self._variants = [Variant(change, variant) for variant in variants]
        self._by_coroutine = {variant.coroutine: variant for variant in self._variants}
        self.tokens = _token_count(self.inputs)
        self._holds_cache = bool(filled_among((*self.args, *self.inputs.values())))
        if self._holds_cache:
            batch_size = 1  # it has the rows of one variant
        self._size = batch_size or max(1, TOKENS_PER_BATCH // max(1, self.tokens * self._rows))
        self._bypasses = Bypasses()
        prompt = Prompt(
            self.args,
            self.inputs,
            self.tokens,
            self.model._blocks,
            transformers_insides.cache_argument(self._module),
        )
        self._clean = CleanRun(prompt, self.new_forward)
        self.packs = pack and not self.model.edits.in_force and self._may_pack()
        self._scheduler: Coroutine | None = None
        self._forwards: list[Forward] = []

    def run(self, progress: bool) -> list[Any]:
        """All variants' results, in their order."""
        with (
            self,
            progress_bar(total=len(self._variants), delay=1, disable=not progress) as bar,
        ):
            self._scheduler = current()
            try:
                for variant in self._variants:
                    variant.go_on()
                bar.update(sum(variant.done for variant in self._variants))
                for start, batch in self._batches():
                    self._run_batch(start, batch)
                    bar.update(len(batch))
            except BaseException as error:
                self._tell_how_far(error)
                raise
            finally:
                self._cancel()
        return [variant.result for variant in self._variants]

    def _tell_how_far(self, error: BaseException) -> None:
        """Hang the finished points onto an error, or an interrupt, and say where it came up."""
        finished = {n: v.result for n, v in enumerate(self._variants) if v.done}
        failed = next((n for n, v in enumerate(self._variants) if v.error is error), None)
        where = ""
        if failed is not None:
            where = f" at point {failed}, {_short(self._variants[failed].arguments)}"
        error.finished = finished
        error.point = failed
        error.add_note(
            f"In a sweep{where}. {len(finished)} of {len(self._variants)} points were finished: "
            "the error's `finished` has their results by number (sys.last_value.finished)."
        )

    def _may_pack(self) -> bool:
        blocks = len(self.model._blocks)
        return len(self._variants) > 1 and may_pack(self._module, blocks, self.args, self.inputs)

    # ── a variant touches the model ──────────────────────────────────────────────────────

    def _reach_site(self, touch: Touch, ancestry: list[nn.Module]) -> Pause:
        variant = self._by_coroutine.get(current())
        if variant is None or variant.alone is not None:
            return (self._course if variant is None else variant.alone).reach(touch, ancestry)
        if variant.pause is not None and variant.pause.site == touch.site:
            return variant.pause
        variant.touch, variant.ancestry = touch, ancestry
        pause = self._scheduler.switch()
        if pause is None:  # its batch has left the site behind
            return self._go_alone(variant).reach(touch, ancestry)
        pause.touch = touch
        variant.touches.append(touch)
        self.report.touches.append(touch)
        return pause

    def _go_alone(self, variant: Variant) -> Course:
        """A course of its own, with what the variant wrote so far."""
        report = RunReport(touches=variant.touches)
        course = Course(
            self._call_on(self.args, self.inputs),
            self._module,
            report,
            grad=False,
            bypasses=self._bypasses,
        )
        course.written.update(variant.written)
        if self.model.edits.in_force:
            course.prepare.append(self.model.edits.tell)
        variant.alone = course
        return course

    # ── the batches ──────────────────────────────────────────────────────────────────────

    def _batches(self) -> Iterator[tuple[int, list[Variant]]]:
        """Waiting variants by how many blocks they have in common, cut to the batch size."""
        groups: dict[int, list[Variant]] = {}
        for variant in self._variants:
            if variant.waits:
                groups.setdefault(self._blocks_before(variant.touch), []).append(variant)
        if groups:
            firsts = {v.touch.site: (v.touch, v.ancestry) for g in groups.values() for v in g}
            keys = self._clean.learn(list(firsts.values()), set(groups), keys=self.packs)
            self.packs = keys and self._packs_truly()
        for start, group in sorted(groups.items()):
            for first in range(0, len(group), self._size):
                yield start, group[first : first + self._size]

    def _packs_truly(self) -> bool:
        """Tried once for a model and a number of tokens."""
        config, known = self._module.config, self.model._packs
        key = (id(self._module), transformers_insides.attention_of(config), self.tokens)
        if key not in known:
            known[key] = self._clean.packs_truly()
        return known[key]

    def _blocks_before(self, touch: Touch) -> int:
        """How many blocks are known when a variant has seen what it touches first."""
        names = self.model.names
        if names.layers is None:
            return 0
        path = ".".join(touch.parts)
        if touch.site.operation is not None:
            kind = "operation"
        else:
            kind = touch.kind
            if kind == "output" and names.is_block(path) and touch.site.call == 0:
                return names.block_index(path) + 1  # the block itself is known as well
        shortcut = Shortcut(self.model.resume, self._module, names, (), {})
        return shortcut.blocks_before(path, kind) or 0

    def _run_batch(self, start: int, batch: list[Variant]) -> None:
        """Serve the first touches from the clean run, and run what is wanted behind them."""
        for variant in batch:
            if not self._clean.has(variant.touch.site):
                # The clean run never reached this site. Run the variant in its own forward, which
                # raises NeverRanError.
                variant.go_on(None)
                continue
            value = self._clean.value(variant.touch, variant.ancestry)
            variant.start = self._first_changed(value, variant.see(variant.touch.site, value))
        waiting = [variant for variant in batch if variant.waits]
        short = self._worth_packing(waiting) if self.packs else []
        if short:
            packed = self._clean.packed([variant.start for variant in short])
            self._run_shared(start, short, packed)
        whole = [variant for variant in waiting if variant not in short]
        if whole:
            self._run_shared(start, whole, Rows(self._rows, len(whole)))

    def _first_changed(self, value: Any, changes: list[Change]) -> int:
        """The first token that differs from the clean run's, 0 where that cannot be told."""
        written = [reach(value_at(value, path), new, {self.tokens}) for path, new in changes]
        return 0 if None in written else self.tokens - max(1, *written, 1)

    def _worth_packing(self, variants: list[Variant]) -> list[Variant]:
        """Those of a batch that may be packed, none where it would gain little."""
        short = [v for v in variants if v.start and v.touch.site.operation is None]
        packed = sum(self.tokens - variant.start for variant in short)
        return short if packed <= WORTH_PACKING * self.tokens * len(short) else []

    def _run_shared(self, start: int, variants: list[Variant], layout: Rows | Packed) -> None:
        """One forward for these variants, from behind the blocks that they have in common."""
        batch = Batch(variants, layout, self._clean)
        args, kwargs = layout.arguments(self.args, self.inputs)
        with self.forward(args, kwargs, layout) as forward:
            hidden = self._clean.hidden(start)
            if hidden is not None:
                blocks = self.model._blocks[:start]
                start_behind(blocks, forward, layout.spread(hidden))
            batch.run(forward)
        self.packs = self.packs and batch.aligned

    # ── forwards, also for the clean run ─────────────────────────────────────────────────

    @contextmanager
    def forward(
        self, args: tuple, kwargs: dict[str, Any], layout: Rows | Packed | None = None
    ) -> Iterator[Forward]:
        """A forward that is cancelled when the block is left, whatever happens."""
        forward = self.new_forward(args, kwargs, layout)
        try:
            yield forward
        finally:
            forward.cancel()

    def new_forward(
        self, args: tuple, kwargs: dict[str, Any], layout: Rows | Packed | None = None
    ) -> Forward:
        """A forward on these arguments of the model, with the edits in force."""
        self.report.forwards += 1
        forward = Forward(
            self._call_on(args, kwargs),
            self._module,
            late_write,
            bypasses=self._bypasses,
            written={},
            grad=False,
        )
        self._forwards.append(forward)
        self.model.edits.tell(forward if layout is None else EachVariant(forward, layout))
        return forward

    def _call_on(self, args: tuple, kwargs: dict[str, Any]) -> Callable[[], Any]:
        """A call of the model; a cache of the user's is copied for it, and stays as it is."""
        if self._holds_cache:
            return OnCopies(self._module, args, kwargs, fills=False)
        return lambda: self._module(*args, **kwargs)

    def _cancel(self) -> None:
        """End every variant that is still suspended; take away what is left."""
        for variant in self._variants:
            if variant.coroutine and not variant.coroutine.dead:
                try:
                    variant.coroutine.throw(Cancelled())
                except Cancelled:
                    pass
            variant.close()
        self._clean.close()
        for forward in self._forwards:
            forward.cancel()
        self._forwards.clear()
        self._bypasses.close()
        self._by_coroutine.clear()

    def _close(self) -> None:
        if self._by_coroutine:  # an exception rose when `run` was about to do it
            self._cancel()
        super()._close()


def _short(arguments: tuple) -> str:
    """What a variant was called with; of tensors the shape alone."""
    shown = [
        f"tensor {tuple(each.shape)}" if isinstance(each, torch.Tensor) else repr(each)[:60]
        for each in arguments
    ]
    return f"({', '.join(shown)})"


def _row_count(args: tuple, kwargs: dict[str, Any]) -> int:
    for value in [*args, *kwargs.values()]:
        if isinstance(value, torch.Tensor) and value.ndim:
            return value.shape[0]
    return 1


def _token_count(kwargs: dict[str, Any]) -> int:
    for value in kwargs.values():
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            return value.shape[1]
    return 1
