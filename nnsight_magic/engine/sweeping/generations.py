"""Points of a sweep that are generations: rows of one batch, each with writes of its own.

    def steered(strength, tracer):
        for step in tracer.steps:
            model.layers[12].output[:, -1] += strength * direction
        return tracer.result

    model.sweep(prompt, steered, [0, 4, 8], new_tokens=12)

Every variant is a coroutine, as in `sweep`, and all of them share one run of transformers'
`generate`: each has its rows of the batch, sees its part of every value, and its loop over the
steps ends where its own text does. What has to be alone has a run of its own: sampling (rows of one
batch draw other numbers than each would), beams, edits in force, a variant that looks back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.insides import transformers_insides
from nnsight_magic.engine.running.coroutine import Coroutine, current
from nnsight_magic.engine.running.filled import filled_among
from nnsight_magic.engine.running.forward import Cancelled, Forward
from nnsight_magic.engine.running.inputs import Inputs
from nnsight_magic.engine.sites.site import Site, Touch
from nnsight_magic.engine.sweeping.batch import Variant, late_write
from nnsight_magic.engine.sweeping.clean import CleanRun, Prompt
from nnsight_magic.engine.sweeping.layout import NotTokenwise, Rows, merged
from nnsight_magic.engine.sweeping.reference import Reference
from nnsight_magic.engine.sweeping.shared import SharedRun, reading_of
from nnsight_magic.engine.tracing.generated import to_save
from nnsight_magic.engine.tracing.generation import GenerationTracer
from nnsight_magic.engine.tracing.settings_of_generation import generating
from nnsight_magic.engine.tracing.step import Step
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.values.pause import Pause

# Options with which rows of one batch would not be what each is by itself.
_OF_ONE_ROW = ("streamer", "stopping_criteria", "logits_processor", "prefix_allowed_tokens_fn",
               "constraints", "negative_prompt_ids")  # fmt: skip


@dataclass
class Steps:
    """Where a variant is in its text, as `GenerationTracer` counts it."""

    step: int = 0
    base: int = 0
    own: dict[nn.Module, int] = field(default_factory=dict)


class TextVariant(Variant):
    """One run of the user's function along a text.

    Attributes:
        steps: where it is.
        rows: of the batch.
        inputs: what its rows are called with.
        prompts: the same as text, where it was given so.
        wants_step: the step that it waits for, `wants_result` whether it waits for the text.
        lost: the batch cannot serve it any more.
    """

    def __init__(
        self, change: Callable[..., Any], variant: Any, rows: slice, plain: GenerationTracer
    ):
        no_clean_run: Any = None
        super().__init__(change, variant, no_clean_run)
        self.steps, self.rows = Steps(), rows
        self.inputs, self.prompts = dict(plain.inputs), plain.prompts
        self.wants_step: int | None = None
        self.wants_result = self.lost = False

    @property
    def waits(self) -> bool:
        return not self.lost and super().waits

    @property
    def touching(self) -> bool:
        """Whether it waits for a value."""
        return self.waits and self.wants_step is None and not self.wants_result


class RowsOfTexts(Rows):
    """Rows of one batch of a generation; what has no row for each prompt is the same for all."""

    def part(self, raw: Any, number: int, clean: Callable[[], Any] | None = None) -> Any:
        """As of `Rows`.

        Raises:
            NotTokenwise: numbers of all rows together, such as those of a router.
        """
        if isinstance(raw, torch.Tensor) and raw.ndim and raw.shape[0] != self.rows * self.count:
            if raw.is_floating_point() and raw.shape[0] > 1:
                raise NotTokenwise
            return raw
        return super().part(raw, number)


class SweptGeneration(GenerationTracer):
    """One generation whose rows belong to variants; or, with one that is `alone`, that one's.

    Args:
        model: a language model.
        inputs: of all rows.
        kwargs: of transformers' `generate`.
        plains: for each variant the generation of its prompt.
        variants: what `change` is called with, by number.
        change: see `Model.sweep`.
        references: traces of the prompts that are only read.
        alone: run the one variant as if it stood in a `with` block.
        writes: carry out what is written.
        keep_going: keep errors as results.
    """

    def __init__(
        self,
        model: Any,
        inputs: Inputs,
        kwargs: dict[str, Any],
        *,
        plains: Sequence[GenerationTracer],
        variants: Mapping[int, Any],
        change: Callable[..., Any],
        references: Mapping[str, Tracer],
        alone: bool,
        writes: bool,
        keep_going: bool,
    ):
        self._steps_outside = Steps()
        self._by_coroutine: dict[Any, TextVariant] = {}
        super().__init__(model, inputs, kwargs, model.tokenizer, full=False, grad=False)
        self._alone, self._writes = alone, writes
        self._scheduler: Coroutine | None = None
        self._reads: SharedRun | None = None
        rows = self.inputs["input_ids"].shape[0] // len(plains) if not alone else 0
        shared = {name: SharedRun(self._clean_run(t), name) for name, t in references.items()}
        self._shared = [*shared.values()]
        self._references: list[Forward] = []
        given: dict[str, Any] = {
            name: Reference(model, reading_of(run, self._holder), name)
            for name, run in shared.items()
        }
        self._variants = {
            number: TextVariant(
                lambda *args: change(*args, tracer=self, **given),
                variant,
                slice(place * rows, (place + 1) * rows),
                plains[place],
            )
            for place, (number, variant) in enumerate(variants.items())
        }
        for each in self._variants.values():
            each.keeps_errors = keep_going
            self._by_coroutine[each.coroutine] = each
        self._layout = RowsOfTexts(rows, len(plains))

    # ── whose step it is ─────────────────────────────────────────────────────────────────

    def _holder(self) -> Any:
        return self._by_coroutine.get(current(), self)

    @property
    def _now(self) -> Steps:
        variant = self._by_coroutine.get(current())
        return self._steps_outside if variant is None else variant.steps

    @property
    def step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The step whose values are read: of the variant that runs."""
        return self._now.step

    @step.setter
    def step(self, new: int) -> None:
        self._now.step = new

    @property
    def _base_step(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._now.base

    @_base_step.setter
    def _base_step(self, new: int) -> None:
        self._now.base = new

    @property
    def _own_steps(self) -> dict[nn.Module, int]:
        return self._now.own

    @_own_steps.setter
    def _own_steps(self, new: Any) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self._now.own = new

    @property
    def reading(self) -> SharedRun | None:
        """The run of a reference, while what is touched outside of a variant is of that."""
        return self._reads

    @reading.setter
    def reading(self, run: SharedRun | None) -> None:
        self._reads = run

    @property
    def inputs_now(self) -> dict[str, Any]:
        """The arguments that the variant which runs now is run on; its ids are those so far."""
        variant = self._mine() or next(iter(self._variants.values()))
        return variant.inputs

    @property
    def prompts_now(self) -> list[str] | None:
        """The text of the same, where there is one."""
        variant = self._mine() or next(iter(self._variants.values()))
        return variant.prompts

    def _mine(self) -> TextVariant | None:
        return self._by_coroutine.get(current())

    # ── what variants ask for ────────────────────────────────────────────────────────────

    def _reach_site(self, touch: Touch, ancestry: list[nn.Module]) -> Pause:
        variant = self._mine()
        run = self._reads if variant is None else variant.reading
        if run is not None:  # of a reference there is the forward of its prompt
            touch.site, touch.step = touch.site._replace(step=0), 0
            return run.pause(touch, ancestry)
        if variant is None or self._alone:
            pause = super()._reach_site(touch, ancestry)
            return pause if self._writes else _lent(pause, touch)
        if variant.pause is not None and variant.pause.site == touch.site:
            return variant.pause
        variant.touch, variant.ancestry = touch, ancestry
        pause = self._wait()
        pause.touch = touch
        variant.touches.append(touch)
        self.report.touches.append(touch)
        return pause

    def _wait(self) -> Any:
        assert self._scheduler is not None, "variants run while the sweep does"
        return self._scheduler.switch()

    def _visit(self, indices: Iterable[int]) -> Iterator[Step]:
        variant = self._mine()
        if variant is None or self._alone:
            yield from super()._visit(indices)
            return
        for index in indices:
            variant.wants_step = index
            if not self._wait():
                return
            self.step = self._base_step = index
            self._own_steps.clear()
            ids = self._tokens_at(index)
            yield Step(index, None if ids is None else ids[variant.rows])

    @property
    def result(self) -> Any:
        """The ids `(rows, tokens)` of the variant that runs, up to the end of its text."""
        variant = self._mine()
        if variant is None or self._alone:
            return super().result
        variant.wants_result = True
        return self._wait()

    # ── the run ──────────────────────────────────────────────────────────────────────────

    def run(self) -> tuple[dict[int, Any], list[int]]:
        """Run to the end.

        Returns:
            The results by number, an exception for what has failed; and the numbers of variants
            that have to be run alone.
        """
        with self:
            self._scheduler = current()
            try:
                for variant in self._variants.values():
                    variant.go_on()
                if not self._alone:
                    while self._go_on():
                        pass
            except BaseException as error:
                failed = [n for n, v in self._variants.items() if v.error is error]
                error.__dict__["of_variant"] = failed[0] if failed else None
                raise
            finally:
                self._cancel()
        return self.ended, [n for n, v in self._variants.items() if v.lost]

    @property
    def ended(self) -> dict[int, Any]:
        """What has come so far, by number: results, and the errors that are kept."""
        found = self._variants.items()
        kept = {n: v.error for n, v in found if v.keeps_errors and v.error and not v.lost}
        return kept | {n: v.result for n, v in found if v.done}

    def _go_on(self) -> bool:
        """Serve who waits, once; whether anybody did."""
        forward = self._forwards.main
        waiting = [variant for variant in self._variants.values() if variant.waits]
        if self._answered(forward, waiting):
            return True
        touching = [variant for variant in waiting if variant.touching]
        lost = [variant for variant in touching if self._is_past(forward, variant)]
        for variant in lost:
            self._lose(variant)
        if lost:
            return True
        here = None if forward.pause is None else forward.pause.site
        if forward.pause is not None and any(v.touch.site == here for v in touching):
            self._serve(forward.pause)
            return True
        if all(variant.wants_result for variant in waiting):
            for variant in waiting:
                variant.wants_result = False
                variant.go_on(self._text_of(variant))
            return bool(waiting)
        sites: set[Site] = set()
        for variant in waiting:
            if variant.touching:
                forward.attend(variant.touch.site, variant.ancestry)
                sites.add(variant.touch.site)
            elif variant.wants_step is not None:
                beginners = self._forwards.factory.beginners
                sites |= {Site(each, "input", variant.wants_step, 0) for each in beginners}
        forward.run_to_any(sites)
        return True

    def _answered(self, forward: Forward, waiting: list[TextVariant]) -> bool:
        """Tell who waits for a step whether there is one; whether anybody was told."""
        told = False
        for variant in waiting:
            step = variant.wants_step
            if step is None or not (forward.finished or forward.step >= step):
                continue
            variant.wants_step, told = None, True
            there: Any = forward.step >= step and not self._has_ended(variant, step)
            variant.go_on(there)
        return told

    def _is_past(self, forward: Forward, variant: TextVariant) -> bool:
        site = variant.touch.site
        if forward.pause is not None and forward.pause.site == site:
            return self._has_ended(variant, site.step)
        passed = forward.finished or site in forward.fired or site.step < forward.step
        return passed or self._has_ended(variant, min(site.step, max(forward.step, 0)))

    def _lose(self, variant: TextVariant) -> None:
        """The batch has nothing more for it: it is run again, alone."""
        variant.lost = True
        _end(variant)

    def _serve(self, pause: Pause) -> None:
        """Let every variant that waits for this site go on with its own part of the value."""
        raw, written = pause.current, {}
        for number, variant in enumerate(self._variants.values()):
            if not variant.touching or variant.touch.site != pause.site:
                continue
            try:
                value = self._layout.part(raw, number)
            except NotTokenwise:
                self._lose(variant)
                continue
            for path, new in variant.see(pause.site, value):
                if self._writes:
                    written.setdefault(path, []).append((number, new))
        try:
            pause.current = merged(raw, written, self._layout)
        except NotTokenwise:
            every = [*self._variants.values()]
            for number in {number for changes in written.values() for number, _ in changes}:
                self._lose(every[number])

    # ── texts ────────────────────────────────────────────────────────────────────────────

    def _has_ended(self, variant: TextVariant, step: int) -> bool:
        """Whether all texts of a variant have ended before a step."""
        ids, ends = self._tokens_at(step) if step else None, self.plan.settings.ends
        if ids is None or not ends:
            return False
        first = ids.shape[1] - step
        new = ids[variant.rows, first:]
        return bool(torch.isin(new, torch.tensor(ends, device=new.device)).any(1).all())

    def _text_of(self, variant: TextVariant) -> Any:
        """Its ids, as the generation would have given them that has these rows alone."""
        ids, begin = self.finished[variant.rows], self._begin
        ends = torch.tensor(self.plan.settings.ends or [], device=ids.device, dtype=ids.dtype)
        ended = torch.isin(ids[:, begin:], ends)
        lengths = [int(row.nonzero()[0]) + 1 if row.any() else len(row) for row in ended]
        return to_save(ids[:, : begin + max(lengths)].clone())

    # ── references ───────────────────────────────────────────────────────────────────────

    def _clean_run(self, plain: Tracer) -> CleanRun:
        ids = plain.inputs.get("input_ids")
        cache = transformers_insides.cache_argument(self.model.module)
        tokens = 1 if ids is None else ids.shape[1]
        blocks: Any = getattr(self.model, "blocks", [])
        prompt = Prompt(plain.args, plain.inputs, tokens, blocks, cache)
        return CleanRun(prompt, self._forward_of_reference)

    def _forward_of_reference(self, args: tuple, kwargs: dict[str, Any]) -> Forward:
        module = self.model.module
        forward = Forward(
            lambda: module(*args, **kwargs),
            module,
            late_write,
            bypasses=self._forwards.factory.bypasses,
            written={},
        )
        self.model.edits.tell(forward)
        self._references.append(forward)
        self.report.forwards += 1
        return forward

    def _cancel(self) -> None:
        for variant in self._variants.values():
            _end(variant)
            variant.close()
        for run in self._shared:
            run.clean.close()
        for forward in self._references:
            forward.cancel()
        self._references.clear()
        self._by_coroutine.clear()


def _end(variant: TextVariant) -> None:
    if variant.coroutine and not variant.coroutine.dead:
        try:
            variant.coroutine.throw(Cancelled())
        except Cancelled:
            pass


def _lent(pause: Pause, touch: Touch) -> Pause:
    """The same value, of which nothing flows on."""
    lent = Pause(pause.site, pause.part(()), lambda pause: None, False)
    lent.touch = touch
    return lent


def together(model: Any, plain: GenerationTracer, kwargs: Mapping[str, Any]) -> bool:
    """Whether variants may be rows of one batch, each as it would be by itself."""
    settings = plain.plan.settings
    return not (
        plain.plan.samples
        or plain.rows_of_prompt > 1
        or model.edits.in_force
        or settings.may_be("return_dict_in_generate")
        or settings.generators == 0
        or len(generating(model.module)) > 1
        or any(kwargs.get(name) is not None for name in _OF_ONE_ROW)
        or filled_among((*plain.inputs.values(), *kwargs.values()))
        or plain.inputs.get("input_ids") is None
        or plain.plan.settings("stop_strings") is not None
    )
