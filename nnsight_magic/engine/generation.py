"""`with model.generate(...)`: one forward after another, each of them a step.

Step 0 processes the prompt, step k the k-th new token. The whole of transformers' `generate`
runs in the suspended greenlet; a step begins when the model's own `forward` is entered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import transformers
from transformers import StoppingCriteria, StoppingCriteriaList

from nnsight_magic.engine.forward import Forward
from nnsight_magic.engine.inputs import Inputs
from nnsight_magic.engine.interrupt import interruptible, uninterrupted
from nnsight_magic.engine.lifeline import watched_exit
from nnsight_magic.engine.pause import Pause
from nnsight_magic.engine.site import Site
from nnsight_magic.engine.tracer import Tracer
from nnsight_magic.errors import BadInputError, GenerationEndedError, NeverRanError

if TYPE_CHECKING:
    from nnsight_magic.engine.handle import Handle
    from nnsight_magic.engine.language_model import LanguageModel

DEFAULT_NEW_TOKENS = 20
# What `max_length` is by default before transformers 5, where it stands for as many new tokens.
_UNSET_LENGTH = 20 if int(transformers.__version__.split(".")[0]) < 5 else None


@dataclass(frozen=True)
class Step:
    """One step of a generation, as `tracer.steps` visits them.

    Attributes:
        index: 0 for the prompt, k for the k-th new token.
        tokens: all token ids so far, `(batch, tokens)`.
    """

    index: int
    tokens: torch.Tensor

    def __index__(self) -> int:
        return self.index

    def __int__(self) -> int:
        return self.index


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
        model: LanguageModel,
        inputs: Inputs,
        kwargs: dict,
        *,
        full: bool = True,
        grad: bool | None = None,
        again: Callable[..., GenerationTracer] | None = None,
    ):
        module = model.module
        self._plan = _Plan(module, inputs, kwargs, model.tokenizer)
        super().__init__(
            model,
            (lambda: self._plan.run(self._course.running()))
            if inputs.kwargs or inputs.args
            else None,
            prompts=inputs.prompts,
            inputs=self._plan.inputs,
            full=full,
            grad=grad,
            random=module.training or self._plan.samples,
            again=again,
        )
        self._base_step = 0
        self._result: Any = None

    def _enter(self) -> None:
        super()._enter()
        # The model's own calls count the steps.
        self._course.prepare.append(lambda forward: forward.hook([self._course.root], "input"))

    @property
    def result(self) -> Any:
        running = self._running()
        if running is not self:
            return running.result
        if self._result is None and self._call is None and len(self._invokes):
            results = [each.result for each in self._invokes]
            return results[0] if len(results) == 1 else results
        if self._result is None and self._course is not None and self._call is not None:
            self._result = self._plan.trimmed(self._course.main.finish())
        return self._result

    @property
    def steps(self) -> Iterator[Step]:
        """Visit the steps one by one; ends with the last new token, or at the end of the text.

        Inside the loop, reads and writes are those of the visited step.
        """
        running = self._running()
        return running._visit(range(running._base_step, running._plan.new_tokens))

    @property
    def iter(self) -> _ChosenSteps:
        """The same for chosen steps: `tracer.iter[2]`, `tracer.iter[1:4]`, `tracer.iter[:]`."""
        return _ChosenSteps(self._running())

    def all(self) -> Iterator[Step]:
        """Every step, as `steps`."""
        return self.steps

    def _visit(self, indices: Iterable[int]) -> Iterator[Step]:
        for index in indices:
            site, main = Site(self._course.root, "input", index, 0), self._course.main
            if main.step < index and (main.finished or main.run_to(site) is None):
                return
            self.step = self._base_step = index
            self._own_steps.clear()
            yield Step(index, self._tokens_now())

    def advance(self, handle: Handle) -> None:
        """`handle.next()`: this module, and all that were not moved on yet, go to its next step."""
        module = handle.module
        step = self._own_steps.get(module, self._base_step) + 1
        self._own_steps[module] = step
        self.step = max(self.step, step)

    def _tokens_now(self) -> torch.Tensor:
        tokens = self._plan.tokens
        return self.inputs.get("input_ids") if tokens is None else tokens

    def _reach(self, handle: Handle, kind: str) -> Pause:
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
            _ = self.result


class _ChosenSteps:
    """`tracer.iter[...]`: an iterator over the steps that an index or a slice chooses."""

    def __init__(self, tracer: GenerationTracer):
        self._tracer = tracer

    def __getitem__(self, which: int | slice) -> Iterator[Step]:
        steps = range(self._tracer._plan.new_tokens)
        return self._tracer._visit(steps[which] if isinstance(which, slice) else [steps[which]])


class _Plan:
    """How transformers' `generate` is called, and where it has to stop."""

    def __init__(self, module: Any, inputs: Inputs, kwargs: dict, tokenizer: Any):
        if not hasattr(module, "generate"):
            raise BadInputError(
                f"{type(module).__name__} cannot generate text: it has no head for it.\n"
                "Use trace, or load the model with its head."
            )
        self._module = module
        defaults = module.generation_config
        given = kwargs.get("generation_config") or defaults

        def setting(name: str) -> Any:
            places = (kwargs.get(name), getattr(given, name, None), getattr(defaults, name, None))
            return next((value for value in places if value is not None), None)

        self.inputs = dict(inputs.kwargs)
        self._kwargs = dict(kwargs)
        ids = self.inputs.get("input_ids")
        if ids is not None and "attention_mask" not in {**self.inputs, **kwargs}:
            self.inputs["attention_mask"] = torch.ones_like(ids)
        if setting("pad_token_id") is None:
            self._kwargs["pad_token_id"] = _padding(setting("eos_token_id"), tokenizer)
        if module.config.is_encoder_decoder:
            ids = kwargs.get("decoder_input_ids")
            prompt = 1 if ids is None else ids.shape[1]  # the token that the decoder starts with
        else:
            prompt = 0 if ids is None else ids.shape[1]
        if setting("prefill_chunk_size") is not None:
            raise BadInputError(
                "prefill_chunk_size runs the prompt in several forwards, so that no step would be "
                "one new token.\nGenerate without it."
            )
        length = setting("max_length")
        if length == _UNSET_LENGTH and kwargs.get("max_length") is None:
            length = None
        self.new_tokens = _new_tokens(setting("max_new_tokens"), length, prompt)
        self.samples = bool(setting("do_sample"))
        # The step behind the last token is one forward more than transformers would run.
        # Where the length that may be reached has a say in the tokens (beam search ranks by it,
        # some models are forced to end there), it must not know of more.
        knows_length = (setting("num_beams") or 1) > 1 or setting("forced_eos_token_id") is not None
        self._spare = 0 if knows_length else 1
        self.tokens: torch.Tensor | None = None
        self._length: int | None = None

    def run(self, forward: Forward) -> Any:
        self.tokens = self._length = None
        kwargs = {
            key: v for key, v in self._kwargs.items() if key not in ("max_new_tokens", "max_length")
        }
        criteria = StoppingCriteriaList(kwargs.pop("stopping_criteria", None) or [])
        criteria.append(_LastToken(self, forward))
        return self._module.generate(
            **self.inputs,
            **kwargs,
            max_new_tokens=self.new_tokens + self._spare,
            stopping_criteria=criteria,
        )

    def count(self, tokens: torch.Tensor) -> int:
        """Note the ids so far; how many of them are new."""
        if self._length is None:
            self._length = tokens.shape[1] - 1
        self.tokens = tokens
        return tokens.shape[1] - self._length

    def trimmed(self, result: Any) -> Any:
        """Without the token that the spare step brought along."""
        if self._length is None:
            return result
        length = self._length + self.new_tokens
        if isinstance(result, torch.Tensor):
            return result[:, :length]
        result["sequences"] = result["sequences"][:, :length]
        return result


class _LastToken(StoppingCriteria):
    """Stop after the last new token, unless the user waits for the step behind it."""

    def __init__(self, plan: _Plan, forward: Forward):
        self._plan, self._forward = plan, forward

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs) -> torch.Tensor:
        new = self._plan.count(input_ids)
        last = self._plan.new_tokens
        over = new > last or (new == last and self._forward.awaited_step < last)
        return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)


class Generation:
    """What `model.generate(...)` gives: a block to enter, or else the sequences.

    Used in any way but `with`, it generates and stands for the tensor `(batch, tokens)`.
    """

    def __init__(self, tracer: GenerationTracer):
        self._tracer = tracer
        self._done = False
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
        if not self._done:
            with self._tracer:
                pass
            self._done = True
        return self._tracer.result

    # `isinstance(ids, torch.Tensor)` is what tokenizers ask before they decode.
    __class__ = property(lambda self: torch.Tensor)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") and name != "__array__":
            raise AttributeError(name)
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


def _padding(eos: int | list[int] | None, tokenizer: Any) -> int | None:
    if tokenizer is not None and tokenizer.pad_token_id is not None:
        return tokenizer.pad_token_id
    return eos[0] if isinstance(eos, list) else eos


def _new_tokens(new: int | None, length: int | None, prompt: int) -> int:
    """How many tokens to generate, by the rules of transformers' `generate`.

    Args:
        new: `max_new_tokens`, which goes first.
        length: `max_length`, prompt included.
    """
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
