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

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
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
from nnsight_magic.engine.sweeping.how_far import Finished
from nnsight_magic.engine.sweeping.layout import Packed, Rows, reach, side_by_side, value_at
from nnsight_magic.engine.sweeping.recorded import (
    Graph,
    RecordedBatch,
    RecordedVariant,
    looks_at_weights,
)
from nnsight_magic.engine.sweeping.reference import Reference
from nnsight_magic.engine.sweeping.shared import SharedRun, WantedOfShared, reading_of
from nnsight_magic.engine.sweeping.size import (
    graphs_per_batch,
    row_count,
    token_count,
    variants_per_batch,
)
from nnsight_magic.engine.tracing.forward_factory import ForwardFactory
from nnsight_magic.engine.tracing.forwards import Forwards
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.pause import Pause

# Packed variants attend to one another's tokens in vain, so this much has to be left out.
WORTH_PACKING = 0.85  # of all tokens are packed, at most
# Variants of several prompts share rows; packed, each prompt has forwards of its own.
VARIANTS_WORTH_OWN_FORWARDS = 8


@dataclass(frozen=True)
class Settings:
    """How a sweep is run; see `Model.sweep`."""

    batch_size: int | None = None
    pack: bool = True
    grad: bool = False
    writes: bool = True
    keep_going: bool = False


class Sweep(Tracer):
    """Variants of one call of `model.sweep`, on prompts of one length, and their batches.

    Args:
        plains: for each prompt the trace of it without any change.
        change: see `Model.sweep`; called with `references` by their names.
        variants: by their numbers, each with the prompt that it runs on.
        references: traces of the prompts that are only read.
        settings: how it is run.
    """

    def __init__(
        self,
        plains: Sequence[Tracer],
        change: Callable[..., Any],
        variants: Mapping[int, tuple[Any, int]],
        references: Mapping[str, Tracer],
        settings: Settings,
    ):
        plain = plains[0]
        super().__init__(
            plain.model,
            None,
            args=plain.args,
            prompts=plain.prompts,
            inputs=plain.inputs,
            grad=settings.grad,
        )
        self._module = plain.model.module
        self._settings = settings
        self._rows = row_count(self.args, self.inputs)
        self.tokens = token_count(self.inputs)
        self._plains = plains
        self._reads: SharedRun | None = None  # see `reading`
        self._cleans = [self._clean_run(each) for each in plains]
        shared = {name: SharedRun(self._clean_run(t), name) for name, t in references.items()}
        self._shared = [*shared.values()]
        given = {
            name: Reference(self.model, reading_of(run, self._holder), name)
            for name, run in shared.items()
        }
        self._change = _with_references(change, given)
        self._variants = {
            number: Variant(self._change, variant, self._cleans[which])
            for number, (variant, which) in variants.items()
        }
        lent = {clean: SharedRun(clean, "the prompt", lends=True) for clean in self._cleans}
        for variant in self._variants.values():
            variant.keeps_errors = settings.keep_going
            if not settings.writes:
                variant.reading = lent[variant.clean]
        self._by_coroutine = {each.coroutine: each for each in self._variants.values()}
        self._holds_cache = bool(filled_among((*self.args, *self.inputs.values())))
        self.packs = settings.pack and not self.model.edits.in_force and self._may_pack()
        size = settings.batch_size
        if size is None:
            size = variants_per_batch(
                self._module, self.tokens, self._rows, self.inputs, packed=self.packs
            )
        # What is filled in a cache has the rows of one variant.
        self._size = 1 if self._holds_cache else size
        self._bypasses = Bypasses()
        self._scheduler: Coroutine | None = None
        self._counted = 0  # forwards that have been told
        self._tries = 0  # forwards that found out whether variants may be packed
        self._of_batches: list[Forward] = []

    def _clean_run(self, plain: Tracer) -> CleanRun:
        prompt = Prompt(
            plain.args,
            plain.inputs,
            token_count(plain.inputs),
            self.model.blocks,
            transformers_insides.cache_argument(self._module),
        )
        return CleanRun(prompt, self.new_forward)

    def run(self, finished: Finished) -> None:
        """Run all variants, and tell of the results as they come."""
        with self:
            self._scheduler = current()
            try:
                for _ in self._begin():
                    self._tell(finished)
                for start, batch in self._batches():
                    self._run_batch(start, batch)
                    self._tell(finished)
                self._tell(finished)
            except BaseException as error:
                for number, variant in self._variants.items():
                    if variant.done:
                        finished.results.setdefault(number, variant.result)
                failed = [n for n, v in self._variants.items() if v.error is error]
                error.__dict__["of_variant"] = failed[0] if failed else None
                raise
            finally:
                self._cancel()

    def _tell(self, finished: Finished) -> None:
        """Hand on what has been finished since the last time."""
        count = self.forwards
        finished.forwards, self._counted = finished.forwards + count - self._counted, count
        ended = {
            number: variant.result if variant.done else variant.error
            for number, variant in self._variants.items()
            if number not in finished.results and (variant.done or variant.error is not None)
        }
        finished.add(ended)

    @property
    def forwards(self) -> int:
        """Of the model so far, those of variants that went on alone included."""
        alone = (each.alone.report.forwards for each in self._variants.values() if each.alone)
        return self.report.forwards + sum(alone)

    def _may_pack(self) -> bool:
        blocks = len(self.model.blocks)
        several = len(self._variants) >= VARIANTS_WORTH_OWN_FORWARDS * len(self._cleans)
        if len(self._cleans) == 1:
            several = len(self._variants) > 1
        return several and may_pack(self._module, blocks, self.args, self.inputs)

    def _begin(self) -> Iterator[None]:
        """Let every variant run to its first touch of what is swept.

        What they read of references before is read in one forward for all.
        """
        if self._settings.grad:
            yield from self._begin_recording()
            return
        for variant in self._variants.values():
            # One alone is served as it goes: what it reads in order is read in one forward.
            variant.go_on(gather=len(self._variants) > 1)
        while waiting := [(v, v.wants) for v in self._variants.values() if v.wants is not None]:
            for run in dict.fromkeys(wanted.run for _, wanted in waiting):
                run.learn((w.touch, w.ancestry) for _, w in waiting if w.run is run)
            for variant, wanted in waiting:
                variant.wants = None
                variant.go_on(wanted.pause_or_error(), gather=True)
        yield

    def _begin_recording(self) -> Iterator[None]:
        """Run variants that may call `backward`: batches whose graphs stay below the bound.

        The first one is a batch of its own: what its graph takes tells how many make one.
        """
        waiting = [*self._variants]
        shared = self._settings.writes and not self.model.edits.in_force and not self._holds_cache
        size = 1
        if not shared or self._settings.batch_size == 1 or looks_at_weights(self._change):
            size = 0
        while waiting:
            numbers, waiting = waiting[: max(1, size)], waiting[max(1, size) :]
            graph = Graph(self._module)
            with graph.counted() if size == 1 else nullcontext():
                lost = self._record(numbers) if size else numbers
            if size == 1:
                size = max(1, min(self._size, graphs_per_batch(graph.bytes)))
            for number in lost:
                variant = self._variants[number]
                self._go_alone(variant)
                variant.go_on()
                variant.close()
            yield

    def _record(self, numbers: list[int]) -> list[int]:
        """One forward for these, recorded; gives those that have to be run alone."""
        assert self._scheduler is not None, "variants run while the sweep does"
        originals = [self._variants[number] for number in numbers]
        made = [
            RecordedVariant(self._change, each.arguments, each.clean, self._scheduler)
            for each in originals
        ]
        for number, variant in zip(numbers, made, strict=True):
            variant.keeps_errors = self._settings.keep_going
            self._variants[number] = variant
            self._by_coroutine[variant.coroutine] = variant
        prompts = [variant.clean.prompt for variant in made]
        args, kwargs = side_by_side(prompts, self._rows)
        with self.forward(args, kwargs, Rows(self._rows, len(made)), grad=True) as forward:
            lost = RecordedBatch(made, Rows(self._rows, len(made)), forward).run()
        for number, variant, original in zip(numbers, made, originals, strict=True):
            if variant in lost:
                self._variants[number] = original
            variant.close()
        return [n for n, variant in zip(numbers, made, strict=True) if variant in lost]

    # ── what is only read ────────────────────────────────────────────────────────────────

    def _holder(self) -> Any:
        return self._by_coroutine.get(current(), self)

    @property
    def inputs_now(self) -> dict[str, Any]:
        """The arguments that the variant which runs now is run on."""
        variant = self._by_coroutine.get(current())
        return self.inputs if variant is None else variant.clean.prompt.inputs

    @property
    def prompts_now(self) -> list[str] | None:
        """The text of the same, where there is one."""
        variant = self._by_coroutine.get(current())
        which = 0 if variant is None else self._cleans.index(variant.clean)
        return self._plains[which].prompts

    @property
    def reading(self) -> SharedRun | None:
        """The run of a reference, while what is touched outside of a variant is of that."""
        return self._reads

    @reading.setter
    def reading(self, run: SharedRun | None) -> None:
        self._reads = run

    def _reach_shared(self, touch: Touch, ancestry: list[nn.Module]) -> Pause | None:
        """The value at a touch of a run that is shared; `None` if it is none."""
        variant = self._by_coroutine.get(current())
        run = self._reads if variant is None else variant.reading
        if run is None:
            return None
        wanted = WantedOfShared(run, touch, ancestry)
        found: Pause | Exception | None
        scheduler, here = self._scheduler, run.clean.has(touch.site)
        if variant is None or variant.alone is not None or here or scheduler is None:
            found = wanted.pause_or_error()
        else:
            variant.wants = wanted
            found = scheduler.switch()
        if isinstance(found, Exception):
            raise found
        assert found is not None
        if variant is not None:
            variant.keep(found)
        return found

    # ── a variant touches the model ──────────────────────────────────────────────────────

    def _reach_site(self, touch: Touch, ancestry: list[nn.Module]) -> Pause:
        shared = self._reach_shared(touch, ancestry)
        if shared is not None:
            return shared
        variant = self._by_coroutine.get(current())
        if variant is None:
            return self._forwards.reach(touch, ancestry)
        if variant.alone is not None:
            return variant.alone.reach(touch, ancestry)
        if variant.pause is not None and variant.pause.site == touch.site:
            return variant.pause
        variant.touch, variant.ancestry = touch, ancestry
        assert self._scheduler is not None, "variants run while the sweep does"
        pause = self._scheduler.switch()
        if pause is None:  # its batch has left the site behind
            return self._go_alone(variant).reach(touch, ancestry)
        pause.touch = touch
        variant.touches.append(touch)
        self.report.touches.append(touch)
        return pause

    def _go_alone(self, variant: Variant) -> Forwards:
        """Forwards of its own, with what the variant wrote so far."""
        report, prompt = RunReport(touches=variant.touches), variant.clean.prompt
        factory = ForwardFactory(
            self._call_on(prompt.args, prompt.inputs),
            self._module,
            report,
            grad=self._settings.grad,
            bypasses=self._bypasses,
        )
        factory.written.update(variant.written)
        if self.model.edits.in_force:
            factory.prepare.append(self.model.edits.tell)
        variant.alone = Forwards(factory, report)
        return variant.alone

    # ── the batches ──────────────────────────────────────────────────────────────────────

    def _batches(self) -> Iterator[tuple[int, list[Variant]]]:
        """Waiting variants by how many blocks they have in common, cut to the batch size."""
        waiting = [variant for variant in self._variants.values() if variant.waits]
        groups: dict[int, list[Variant]] = {}
        for variant in waiting:
            groups.setdefault(self._blocks_before(variant.touch), []).append(variant)
        for clean in dict.fromkeys(variant.clean for variant in waiting):
            mine = [variant for variant in waiting if variant.clean is clean]
            firsts = {v.touch.site: (v.touch, v.ancestry) for v in mine}
            starts = {self._blocks_before(variant.touch) for variant in mine}
            keys = clean.learn([*firsts.values()], starts, keys=self.packs)
            self.packs = keys and self._packs_truly(clean)
        for start, group in sorted(groups.items()):
            shares = [group]
            if self.packs:
                shares = [[v for v in group if v.clean is clean]
                          for clean in dict.fromkeys(v.clean for v in group)]  # fmt: skip
            for share in shares:
                for first in range(0, len(share), self._size):
                    yield start, share[first : first + self._size]

    def _packs_truly(self, clean: CleanRun) -> bool:
        """Tried once for a model and a number of tokens."""
        config, known = self._module.config, self.model._findings.packs
        key = (id(self._module), transformers_insides.attention_of(config), self.tokens)
        if key not in known:
            before = self.report.forwards
            known[key] = clean.packs_truly()
            self._tries += self.report.forwards - before
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
            index = names.block_index(path) if names.is_block(path) else None
            if kind == "output" and index is not None and touch.site.call == 0:
                return index + 1  # the block itself is known as well
        shortcut = Shortcut(self.model.resume, self._module, names, (), {})
        return shortcut.blocks_before(path, kind) or 0

    def _run_batch(self, start: int, batch: list[Variant]) -> None:
        """Serve the first touches from the clean run, and run what is wanted behind them."""
        for variants, layout in self._shares(batch):
            self._run_or_alone(start, variants, layout)

    def _shares(self, batch: list[Variant]) -> list[tuple[list[Variant], Rows | Packed]]:
        """Which variants of a batch share a forward, and how, once they have seen the first."""
        for variant in batch:
            if not variant.clean.has(variant.touch.site):
                # The clean run never reached this site. Run the variant in its own forward, which
                # raises NeverRanError.
                variant.go_on(None)
                continue
            value = variant.clean.value(variant.touch, variant.ancestry)
            variant.start = self._first_changed(value, variant.see(variant.touch.site, value))
        waiting = [variant for variant in batch if variant.waits]
        short = self._worth_packing(waiting) if self.packs else []
        shares: list[tuple[list[Variant], Rows | Packed]] = []
        if short:
            shares.append((short, short[0].clean.packed([variant.start for variant in short])))
        whole = [variant for variant in waiting if variant not in short]
        if whole:
            shares.append((whole, Rows(self._rows, len(whole))))
        return shares

    def _first_changed(self, value: Any, changes: list[Change]) -> int:
        """The first token that differs from the clean run's, 0 where that cannot be told."""
        written = [reach(value_at(value, path), new, {self.tokens}) for path, new in changes]
        known = [each for each in written if each is not None]
        return 0 if len(known) < len(written) else self.tokens - max(1, *known, 1)

    def _worth_packing(self, variants: list[Variant]) -> list[Variant]:
        """Those of a batch that may be packed, none where it would gain little."""
        short = [v for v in variants if v.start and v.touch.site.operation is None]
        packed = sum(self.tokens - variant.start for variant in short)
        return short if packed <= WORTH_PACKING * self.tokens * len(short) else []

    def _run_or_alone(self, start: int, variants: list[Variant], layout: Rows | Packed) -> None:
        """One forward for these; where it fails, and the others are to go on, each by itself."""
        if not self._settings.keep_going:
            self._run_shared(start, variants, layout)
            return
        try:
            self._run_shared(start, variants, layout)
        except Exception:  # of the model itself: it is not told whose change it could not take
            for variant in variants:
                if variant.waits:
                    variant.go_on(None)

    def _run_shared(self, start: int, variants: list[Variant], layout: Rows | Packed) -> None:
        """One forward for these variants, from behind the blocks that they have in common."""
        batch = Batch(variants, layout)
        cleans = [variant.clean for variant in variants]
        several = len(dict.fromkeys(cleans)) > 1
        args, kwargs = self.args, self.inputs
        if several:
            args, kwargs = side_by_side([clean.prompt for clean in cleans], self._rows)
        else:
            args, kwargs = layout.arguments(cleans[0].prompt.args, cleans[0].prompt.inputs)
        with self.forward(args, kwargs, layout) as forward:
            hidden = [clean.hidden(start) for clean in (cleans if several else cleans[:1])]
            known = [each for each in hidden if each is not None]
            if len(known) == len(hidden):
                blocks = self.model.blocks[:start]
                common = torch.cat(known) if several else layout.spread(known[0])
                start_behind(blocks, forward, common)
            batch.run(forward)
        self.packs = self.packs and batch.aligned

    # ── forwards, also for the clean run ─────────────────────────────────────────────────

    @contextmanager
    def forward(
        self, args: tuple, kwargs: dict[str, Any], layout: Rows | Packed | None = None,
        *, grad: bool = False,
    ) -> Iterator[Forward]:  # fmt: skip
        """A forward that is cancelled when the block is left, whatever happens."""
        forward = self.new_forward(args, kwargs, layout, grad=grad)
        try:
            yield forward
        finally:
            forward.cancel()

    def new_forward(
        self, args: tuple, kwargs: dict[str, Any], layout: Rows | Packed | None = None,
        *, grad: bool = False,
    ) -> Forward:  # fmt: skip
        """A forward on these arguments of the model, with the edits in force."""
        self.report.forwards += 1
        forward = Forward(
            self._call_on(args, kwargs),
            self._module,
            late_write,
            bypasses=self._bypasses,
            written={},
            grad=grad,
        )
        self._of_batches.append(forward)
        if layout is None:
            self.model.edits.tell(forward)
        elif isinstance(layout, Rows):
            self.model.edits.tell(EachVariant(forward, layout))
        else:
            assert not self.model.edits.in_force, "with edits in force nothing is packed"
        return forward

    def _call_on(self, args: tuple, kwargs: dict[str, Any]) -> Callable[[], Any]:
        """A call of the model; a cache of the user's is copied for it, and stays as it is."""
        if self._holds_cache:
            return OnCopies(self._module, args, kwargs, fills=False)
        return lambda: self._module(*args, **kwargs)

    def _cancel(self) -> None:
        """End every variant that is still suspended; take away what is left."""
        for variant in self._variants.values():
            if variant.coroutine and not variant.coroutine.dead:
                try:
                    variant.coroutine.throw(Cancelled())
                except Cancelled:
                    pass
            variant.close()
        for clean in (*self._cleans, *(run.clean for run in self._shared)):
            clean.close()
        for forward in self._of_batches:
            forward.cancel()
        self._of_batches.clear()
        self._bypasses.close()
        self._by_coroutine.clear()

    def _close(self) -> None:
        if self._by_coroutine:  # an exception rose when `run` was about to do it
            self._cancel()
        super()._close()


def _with_references(change: Callable[..., Any], given: Mapping[str, Any]) -> Callable[..., Any]:
    return lambda *args: change(*args, **given)
