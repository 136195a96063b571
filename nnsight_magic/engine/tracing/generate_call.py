"""How transformers' `generate` is called for a generation, and where it has to stop."""

from __future__ import annotations

import sys
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import torch
import transformers
from transformers import GenerationMixin
from transformers.utils import ModelOutput

from nnsight_magic.engine.running.filled import OnCopies
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.running.inputs import Inputs
from nnsight_magic.engine.tracing.asked import Asked
from nnsight_magic.engine.tracing.settings_of_generation import Settings, settings_of
from nnsight_magic.engine.tracing.streamed import Streamed
from nnsight_magic.engine.tracing.texts import LastToken, Texts
from nnsight_magic.errors import BadInputError

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
# What `max_length` is by default before transformers 5, where it means as many new tokens.
_UNSET_LENGTH = 20 if int(transformers.__version__.split(".")[0]) < 5 else None


class GenerateCall:
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
