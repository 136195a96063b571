"""`with model.generate(...)`: one forward after another, each of them a step.

Step 0 processes the prompt, step k the k-th new token. The whole of transformers' `generate`
runs in the suspended greenlet; a step begins when the model's own `forward` is entered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.running.filled import filled_among
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.running.inputs import Inputs
from nnsight_magic.engine.running.interrupt import interruptible
from nnsight_magic.engine.sites.site import Site
from nnsight_magic.engine.tracing.chosen_steps import ChosenSteps, Steps
from nnsight_magic.engine.tracing.generate_call import GenerateCall
from nnsight_magic.engine.tracing.generated import Results, to_save
from nnsight_magic.engine.tracing.settings_of_generation import generating
from nnsight_magic.engine.tracing.step import Step
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import Value
from nnsight_magic.errors import BadInputError, GenerationEndedError, NeverRanError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed, Root, Tree

_PREPARE = "prepare_inputs_for_generation"


class GenerationTracer(Tracer):
    """A trace over all forwards of one generation.

    Attributes:
        plan: how transformers' `generate` is called.
        result: the sequences `(batch, tokens)`, prompt included, as transformers' `generate`
            gives them. Inside the block, reading it runs the generation to its end. In an invoke:
            its own; behind several invokes: a list of theirs.
    """

    is_one_forward = False

    def __init__(
        self,
        model: Root,
        inputs: Inputs,
        kwargs: dict,
        tokenizer: Any,
        *,
        full: bool = True,
        grad: bool | None = None,
        again: Callable[..., GenerationTracer] | None = None,
    ):
        module = model.module
        self.plan = GenerateCall(module, inputs, kwargs, tokenizer)
        super().__init__(
            model,
            (lambda: self.plan.run(self._forwards.running()))
            if inputs.kwargs or inputs.args
            else None,
            prompts=inputs.prompts,
            inputs=self.plan.inputs,
            full=full or bool(filled_among(kwargs.values())),
            grad=grad,
            random=module.training or self.plan.samples,
            again=again,
        )
        self.rows_of_prompt = self.plan.rows_of_prompt
        self._base_step = 0
        self._begin = 0
        self._finished: Any = None
        self._result: Any = None

    def _enter(self) -> None:
        if self.plan.alone is False and self._call is not None:
            self.plan.refuse_other_modes()
        super()._enter()
        factory = self._forwards.factory
        root = factory.root
        # The calls of the model itself count the steps, or those of a model inside that it has
        # generate for it.
        factory.beginners = beginners = generating(root)

        def tell(forward: Forward) -> None:
            for module, ancestry in beginners.items():
                forward.hook(ancestry, "input")
                forward.beginners.add(module)
                if hasattr(type(module), _PREPARE):
                    hands_on = module is root and len(beginners) > 1
                    factory.bypasses.listen(module, _PREPARE, self._hear, hands_on)

        factory.prepare.append(tell)

    def _hear(self, args: tuple, kwargs: dict) -> None:
        """Tell the model which ids its next step is computed from."""
        forward = self._forwards.factory.runs_now() if self._forwards is not None else None
        ids = args[0] if args else kwargs.get("input_ids")
        if forward is not None and isinstance(ids, torch.Tensor):
            self.plan.texts[forward].prepare(forward.step + 1, ids)

    @property
    def result(self) -> Value:
        running = self._running()
        if running is not self:
            return running.result
        if self._result is None and self._call is None and self._invoked:
            results: Any = Results(each.result for each in self._invoked)
            return results[0] if len(results) == 1 else results
        if self._result is None:
            self._result = to_save(self.finished)
        return self._result

    @property
    def finished(self) -> Any:
        """What transformers' `generate` gives, as it gives it."""
        if self._finished is None and self._forwards is not None and self._call is not None:
            main = self._forwards.main
            self._finished = self.plan.trimmed(main.finish(), main)
            self._begin = self.plan.begin(self._finished, main)
        return self._finished

    @property
    def begin(self) -> int:
        """How many ids `result` has before the first new one: the prompt's, or what a decoder
        starts with."""
        running = self._running()
        return running._begin

    @property
    def steps(self) -> Steps[Step]:
        """Visit the steps one by one; ends with the last new token, or at the end of the text.

        Inside the loop, reads and writes are those of the visited step.
        """
        running = self._running()
        indices = range(running._base_step, running.plan.new_tokens)
        return Steps(running._visit(indices), "tracer.steps")

    @property
    def iter(self) -> ChosenSteps[Step]:
        """The same for chosen steps: `tracer.iter[2]`, `iter[1:4]`, `iter[[0, 2]]`, `iter[:]`."""
        running = self._running()
        more = "Ask for more with max_new_tokens."
        return ChosenSteps(running.plan.new_tokens, running._visit, more)

    def next(self, count: int = 1) -> GenerationTracer:
        """Every module goes to its next step, as `handle.next()` for one; gives the tracer back."""
        running = self._running()
        running._base_step = running.step = running.step + count
        running._own_steps.clear()
        return self

    def _visit(self, indices: Iterable[int]) -> Iterator[Step]:
        for index in indices:
            if self._forwards.main.step < index and not self._run_to_step(index):
                return
            self.step = self._base_step = index
            self._own_steps.clear()
            yield Step(index, self._tokens_at(index))

    def _run_to_step(self, index: int) -> bool:
        """Run on to where a step begins; whether there is one."""
        main = self._forwards.main
        sites = {Site(module, "input", index, 0) for module in self._forwards.factory.beginners}
        if not main.finished and main.run_to_any(sites) is not None:
            return True
        if main.step < 0:
            kind = type(self._forwards.factory.root).__name__
            raise BadInputError(
                f"No step of this generation was seen: {kind}.generate runs "
                "something else than the model or a model inside that can generate.\n"
                "Read its modules without steps, or trace the module that it runs."
            )
        return False

    @property
    def speaker(self) -> Tree:
        """The module whose every call is a step: the model, or one inside that generates for it."""
        running = self._running()
        main, factory = running._forwards.main, running._forwards.factory
        if len(factory.beginners) > 1 and main.step < 0:
            running._run_to_step(0)
        began = running._forwards.main.began or factory.root
        ancestry = factory.beginners.get(began, [])
        path = next((path for path, each in factory.root.named_modules() if each is began), "")
        return running.model._handles.at(path) if len(ancestry) > 1 else running.model

    def advance(self, handle: Tree) -> None:
        """`handle.next()`: this module, and all that were not moved on yet, go to its next step."""
        module = handle.module
        step = self._own_steps.get(module, self._base_step) + 1
        self._own_steps[module] = step
        self.step = max(self.step, step)

    def _tokens_at(self, index: int) -> torch.Tensor | None:
        """The ids `(rows, tokens)` that step `index` was computed from, where they are known."""
        texts = self.plan.texts.get(self._forwards.main)
        return texts.at(index) if texts is not None else None

    def _reach(self, handle: Placed, kind: str) -> Pause:
        try:
            return super()._reach(handle, kind)
        except NeverRanError:
            main, step = self._forwards.main, self._own_steps.get(handle.module, self.step)
            if not main.finished or step <= main.step:
                raise
            raise GenerationEndedError(
                f"{handle.name}.{kind} at step {step} does not exist: the generation ended with "
                f"step {main.step}.\nFound: {main.step + 1} steps (0 to {main.step}), "
                f"{self.plan.new_tokens} new tokens at most.\n"
                "Ask for more with max_new_tokens, or visit only the steps there are: "
                "for step in tracer.steps."
            ) from None

    @interruptible
    def _leave(self) -> None:
        """The text is what a generation is for: it is finished, unless it is not wanted."""
        if self._full:
            _ = self.finished
