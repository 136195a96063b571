"""`with model.generate(...)`: one forward after another, each of them a step.

Step 0 processes the prompt, step k the k-th new token. The whole of transformers' `generate`
runs in the suspended greenlet; a step begins when the model's own `forward` is entered.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
import transformers
from transformers import GenerationMixin
from transformers.utils import ModelOutput

from nnsight_magic.engine.running.filled import OnCopies, filled_among
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.running.inputs import Inputs
from nnsight_magic.engine.running.interrupt import interruptible, uninterrupted
from nnsight_magic.engine.running.lifeline import watched_exit
from nnsight_magic.engine.sites.site import Site
from nnsight_magic.engine.tracing.asked import Asked
from nnsight_magic.engine.tracing.chosen_steps import ChosenSteps, Steps
from nnsight_magic.engine.tracing.generated import Results, to_save
from nnsight_magic.engine.tracing.settings_of_generation import Settings, generating, settings_of
from nnsight_magic.engine.tracing.step import Step
from nnsight_magic.engine.tracing.streamed import Streamed
from nnsight_magic.engine.tracing.texts import LastToken, Texts
from nnsight_magic.engine.tracing.tracer import Tracer
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import Value
from nnsight_magic.errors import (
    BadInputError,
    GenerationEndedError,
    NeverRanError,
)

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed, Root, Tree

DEFAULT_NEW_TOKENS = 20
# Options of `generate` with which a forward is not one new token.
OTHER_MODES = (
    "assistant_model",
    "prompt_lookup_num_tokens",
    "assistant_early_exit",
    "custom_generate",
    "penalty_alpha",
    "dola_layers",
    "guidance_scale",
    "use_mtp",
    "prefill_chunk_size",
)
# What `generate` gives with `return_dict_in_generate`, an item for each step.
_BY_STEP = {
    "scores",
    "logits",
    "attentions",
    "hidden_states",
    "decoder_attentions",
    "decoder_hidden_states",
    "cross_attentions",
}
_PREPARE = "prepare_inputs_for_generation"
# What `max_length` is by default before transformers 5, where it means as many new tokens.
_UNSET_LENGTH = 20 if int(transformers.__version__.split(".")[0]) < 5 else None


class GenerationTracer(Tracer):
    """A trace over all forwards of one generation.

    Attributes:
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
        self._plan = _Plan(module, inputs, kwargs, tokenizer)
        super().__init__(
            model,
            (lambda: self._plan.run(self._course.running()))
            if inputs.kwargs or inputs.args
            else None,
            prompts=inputs.prompts,
            inputs=self._plan.inputs,
            full=full or bool(filled_among(kwargs.values())),
            grad=grad,
            random=module.training or self._plan.samples,
            again=again,
        )
        self.rows_of_prompt = self._plan.rows_of_prompt
        self._base_step = 0
        self._begin = 0
        self._finished: Any = None
        self._result: Any = None

    def _enter(self) -> None:
        if self._plan.alone is False and self._call is not None:
            self._plan.refuse_other_modes()
        super()._enter()
        root = self._course.root
        # The calls of the model itself count the steps, or those of a model inside that it has
        # generate for it.
        self._course.beginners = beginners = generating(root)

        def tell(forward: Forward) -> None:
            for module, ancestry in beginners.items():
                forward.hook(ancestry, "input")
                forward.beginners.add(module)
                if hasattr(type(module), _PREPARE):
                    hands_on = module is root and len(beginners) > 1
                    self._course.bypasses.listen(module, _PREPARE, self._hear, hands_on)

        self._course.prepare.append(tell)

    def _hear(self, args: tuple, kwargs: dict) -> None:
        """Tell the model which ids its next step is computed from."""
        forward = self._course.runs_now() if self._course is not None else None
        ids = args[0] if args else kwargs.get("input_ids")
        if forward is not None and isinstance(ids, torch.Tensor):
            self._plan.texts[forward].prepare(forward.step + 1, ids)

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
        if self._finished is None and self._course is not None and self._call is not None:
            main = self._course.main
            self._finished = self._plan.trimmed(main.finish(), main)
            self._begin = self._plan.begin(self._finished, main)
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
        indices = range(running._base_step, running._plan.new_tokens)
        return Steps(running._visit(indices), "tracer.steps")

    @property
    def iter(self) -> ChosenSteps[Step]:
        """The same for chosen steps: `tracer.iter[2]`, `iter[1:4]`, `iter[[0, 2]]`, `iter[:]`."""
        running = self._running()
        more = "Ask for more with max_new_tokens."
        return ChosenSteps(running._plan.new_tokens, running._visit, more)

    def next(self, count: int = 1) -> GenerationTracer:
        """Every module goes to its next step, as `handle.next()` for one; gives the tracer back."""
        running = self._running()
        running._base_step = running.step = running.step + count
        running._own_steps.clear()
        return self

    def _visit(self, indices: Iterable[int]) -> Iterator[Step]:
        for index in indices:
            if self._course.main.step < index and not self._run_to_step(index):
                return
            self.step = self._base_step = index
            self._own_steps.clear()
            yield Step(index, self._tokens_at(index))

    def _run_to_step(self, index: int) -> bool:
        """Run on to where a step begins; whether there is one."""
        main = self._course.main
        sites = {Site(module, "input", index, 0) for module in self._course.beginners}
        if not main.finished and main.run_to_any(sites) is not None:
            return True
        if main.step < 0:
            raise BadInputError(
                f"No step of this generation was seen: {type(self._course.root).__name__}.generate "
                "runs something else than the model or a model inside that can generate.\n"
                "Read its modules without steps, or trace the module that it runs."
            )
        return False

    @property
    def speaker(self) -> Tree:
        """The module whose every call is a step: the model, or one inside that generates for it."""
        running = self._running()
        course = running._course
        if len(course.beginners) > 1 and course.main.step < 0:
            running._run_to_step(0)
        began = course.main.began or course.root
        ancestry = course.beginners.get(began, [])
        path = next((path for path, each in course.root.named_modules() if each is began), "")
        return running.model._handles.at(path) if len(ancestry) > 1 else running.model

    def advance(self, handle: Tree) -> None:
        """`handle.next()`: this module, and all that were not moved on yet, go to its next step."""
        module = handle.module
        step = self._own_steps.get(module, self._base_step) + 1
        self._own_steps[module] = step
        self.step = max(self.step, step)

    def _tokens_at(self, index: int) -> torch.Tensor | None:
        """The ids `(rows, tokens)` that step `index` was computed from, where they are known."""
        texts = self._plan.texts.get(self._course.main)
        return texts.at(index) if texts is not None else None

    def _reach(self, handle: Placed, kind: str) -> Pause:
        try:
            return super()._reach(handle, kind)
        except NeverRanError:
            main, step = self._course.main, self._own_steps.get(handle.module, self.step)
            if not main.finished or step <= main.step:
                raise
            raise GenerationEndedError(
                f"{handle.name}.{kind} at step {step} does not exist: the generation ended with "
                f"step {main.step}.\nFound: {main.step + 1} steps (0 to {main.step}), "
                f"{self._plan.new_tokens} new tokens at most.\n"
                "Ask for more with max_new_tokens, or visit only the steps there are: "
                "for step in tracer.steps."
            ) from None

    @interruptible
    def _leave(self) -> None:
        """The text is what a generation is for: it is finished, unless it is not wanted."""
        if self._full:
            _ = self.finished


class _Plan:
    """How transformers' `generate` is called, and where it has to stop."""

    def __init__(self, module: Any, inputs: Inputs, kwargs: dict, tokenizer: Any):
        if not hasattr(module, "generate"):
            raise BadInputError(
                f"{type(module).__name__} cannot generate text: it has no head for it.\n"
                "Use trace, or load the model with its head."
            )
        self._module = module
        self.alone = False  # nobody looks into it: transformers' own result is all that is wanted
        self.settings = setting = settings_of(module, kwargs)
        # A class of the user's that calls itself in a loop: transformers has no part in that.
        self._loops_itself = setting.generators == 0
        self.args, self.inputs = inputs.args, dict(inputs.kwargs)
        self._kwargs = dict(kwargs)
        # The step behind the last token is one forward more than transformers would run.
        # Where the length that may be reached has a say in the tokens (beam search ranks by it,
        # some models are forced to end there), it must not know of more.
        self._reorders = setting.beams > 1
        knows_length = self._reorders or setting("forced_eos_token_id") is not None
        self._spare = 0 if knows_length else 1
        # transformers repeats each prompt so often before the first forward.
        self.rows_of_prompt = max(setting.beams, setting.most("num_return_sequences"))
        self.samples = setting.may_be("do_sample")
        self._other_modes = [name for name in OTHER_MODES if setting.may_be(name)]
        if self._loops_itself:
            self.new_tokens = kwargs.get("max_new_tokens", sys.maxsize)
        else:
            self.new_tokens = _new_tokens(setting, kwargs, self._prompt_length())
        if not self._loops_itself:
            self._say_what_is_meant(tokenizer)
        # By forward: where one goes back, another one writes the text once more from its start.
        self.texts: WeakKeyDictionary[Forward, Texts] = WeakKeyDictionary()
        streamer = kwargs.get("streamer")
        self._streamed = None if streamer is None else Streamed(streamer, self.new_tokens)
        self._asked = Asked(kwargs, self.new_tokens)
        known = () if self._loops_itself else ("max_new_tokens", "max_length")
        rest = {name: value for name, value in self._kwargs.items() if name not in known}
        self._call = OnCopies(self._generate, inputs.args, {**self.inputs, **rest})

    def _prompt_length(self) -> int:
        """How many ids there are before the first new one, as `max_length` counts them."""
        ids = self.inputs.get("input_ids")
        config = getattr(self._module, "config", None)
        if getattr(config, "is_encoder_decoder", False):
            ids = self._kwargs.get("decoder_input_ids")
            return 1 if ids is None else ids.shape[1]  # the token that the decoder starts with
        return 0 if ids is None else ids.shape[1]

    def _say_what_is_meant(self, tokenizer: Any) -> None:
        """Add what transformers would find out itself, and warn of.

        A mask of ones, unless there is padding among the ids: then it makes another one. The end of
        the text as padding behind it; not for a model with a `generate` of its own, which may say
        it too.
        """
        setting, ids = self.settings, self.inputs.get("input_ids")
        padding = setting("pad_token_id")
        masked = "attention_mask" in {**self.inputs, **self._kwargs}
        if ids is not None and not masked:
            told_apart = padding is not None and padding not in setting.ends
            if not (told_apart and bool((ids == padding).any())):
                self.inputs["attention_mask"] = torch.ones_like(ids)
        own = isinstance(self._module, GenerationMixin)
        own = own and type(self._module).generate is not GenerationMixin.generate
        if padding is None and setting.ends and not own:
            self._kwargs["pad_token_id"] = setting.ends[0]
        if setting("stop_strings") is not None:
            self._kwargs.setdefault("tokenizer", tokenizer)

    def run(self, forward: Forward) -> Any:
        return self._call(forward)

    def _generate(self, forward: Forward, *args: Any, **kwargs: Any) -> Any:
        texts = self.texts[forward] = Texts(self._reorders)
        if self._loops_itself:
            return self._module.generate(*args, **kwargs)
        spare = 0 if self.alone else self._spare
        if not self.alone:
            if self._streamed is not None:
                kwargs["streamer"] = self._streamed.of_a_run()
            kwargs.update(self._asked.of_a_run())
            steps = partial(_steps_of, forward)
            kwargs["stopping_criteria"].append(LastToken(self.new_tokens, texts, steps))
        return self._module.generate(*args, **kwargs, max_new_tokens=self.new_tokens + spare)

    def refuse_other_modes(self) -> None:
        """Refuse the ways of generating in which a step would not be one new token.

        Raises:
            BadInputError: names the option.
        """
        if self._other_modes:
            raise BadInputError(
                f"{', '.join(self._other_modes)}: several tokens are proposed and checked in one "
                "forward there, or several forwards give one token, so that no step would be one "
                "new token.\nGenerate without it, or without a block: "
                "model.generate(prompt, …) as transformers does."
            )

    def begin(self, result: Any, forward: Forward) -> int:
        """How many ids of `result` are before the first new one."""
        texts = self.texts.get(forward)
        if texts is not None and texts.before is not None:
            return texts.before
        ids = self.inputs.get("input_ids", self.args[0] if self.args else None)
        if not (isinstance(ids, torch.Tensor) and isinstance(result, torch.Tensor)):
            return 0
        return ids.shape[-1] if torch.equal(result[..., : ids.shape[-1]], ids) else 0

    def trimmed(self, result: Any, forward: Forward) -> Any:
        """Without the token that the spare step brought along."""
        texts = self.texts.get(forward)
        if texts is None or texts.before is None:
            return result
        length = texts.before + self.new_tokens
        if isinstance(result, torch.Tensor):
            return result[:, :length]
        if isinstance(result, ModelOutput):
            result["sequences"] = result["sequences"][:, :length]
            for name in _BY_STEP & result.keys():
                result[name] = result[name][: self.new_tokens]
        return result


class Generation:
    """What `model.generate(...)` gives: a block to enter, or else the sequences.

    Used in any way but `with`, it generates and stands for the tensor `(batch, tokens)`.
    """

    def __init__(self, tracer: GenerationTracer):
        self._tracer = tracer
        self._done = False
        self._error: Exception | None = None  # what ended it
        self._lifeline: Any = None  # see `lifeline`

    @uninterrupted
    def __enter__(self) -> GenerationTracer:
        return self._tracer.__enter__()

    @watched_exit
    @uninterrupted
    def __exit__(self, kind, error, traceback) -> bool:
        try:
            return GenerationTracer.__exit__(self._tracer, kind, error, traceback)
        finally:
            self._abandon()

    @uninterrupted
    def _abandon(self) -> None:
        self._lifeline = None
        self._tracer._abandon()

    @property
    def sequences(self) -> torch.Tensor:
        """The sequences `(batch, tokens)`; generates them at the first use."""
        if self._error is not None:
            raise self._error
        if not self._done:
            try:
                self._generate()
            except BaseException as error:
                self._error = error if isinstance(error, Exception) else _cut_short()
                raise
            self._done = True
        return self._tracer.finished

    def _generate(self) -> None:
        tracer = self._tracer
        if tracer._call is None:
            raise BadInputError(
                "There is nothing to generate from.\n"
                "Give a prompt: model.generate(prompt, …), or prompts in invokes: "
                "with model.generate(…) as tracer."
            )
        tracer._plan.alone = not tracer.model.edits.in_force
        with tracer:
            pass

    # `isinstance(ids, torch.Tensor)` is what tokenizers ask before they decode.
    __class__ = property(lambda self: torch.Tensor)  # pyright: ignore[reportIncompatibleMethodOverride]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array__":
            raise AttributeError(name)
        if name == "sequences":  # it has raised an AttributeError of the model's own
            raise self._error or AttributeError(name)
        return getattr(self.sequences, name)

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        args = tuple(a.sequences if type(a) is Generation else a for a in args)
        kwargs = {k: a.sequences if type(a) is Generation else a for k, a in (kwargs or {}).items()}
        return func(*args, **kwargs)

    def __getitem__(self, index: Any) -> torch.Tensor:
        return self.sequences[index]

    def __len__(self) -> int:
        return len(self.sequences)

    def __iter__(self) -> Iterator[torch.Tensor]:
        return iter(self.sequences)

    def __eq__(self, other: Any) -> Any:
        return self.sequences == (other.sequences if type(other) is Generation else other)

    __hash__ = object.__hash__

    def __repr__(self) -> str:
        return repr(self.sequences)


def _cut_short() -> Exception:
    return BadInputError("This generation was interrupted and has no text.\nGenerate it again.")


def _steps_of(forward: Forward) -> tuple[int, int]:
    return forward.step, forward.awaited_step


def _new_tokens(setting: Settings, kwargs: dict[str, Any], prompt: int) -> int:
    """How many tokens to generate, by the rules of transformers' `generate`.

    `max_new_tokens` goes first; `max_length` has the prompt in it, `prompt` ids.
    """
    new, length = setting("max_new_tokens"), setting("max_length")
    if length == _UNSET_LENGTH and kwargs.get("max_length") is None:
        length = None
    if new is None:
        if length is None:
            return DEFAULT_NEW_TOKENS
        new = length - prompt
    if new < 1:
        raise BadInputError(
            f"There is nothing to generate: {new} new tokens were asked for.\n"
            "Give max_new_tokens=1 or more."
        )
    return new
