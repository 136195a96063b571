"""The prompt that an analysis runs on: its tokens, and what a result says of model and prompt."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from nnsight_magic.analyses.result import Along
from nnsight_magic.errors import BadInputError
from nnsight_magic.language.tokens import token_texts


def run_on(prompt: Any) -> Any:
    """The prompt, out of a list of it alone, and without padding around its tokens.

    Raises:
        BadInputError: these are several, or none, or padding stands between its tokens.
    """
    if isinstance(prompt, Mapping):
        return _without_padding(prompt)
    if isinstance(prompt, list | tuple) and len(prompt) == 1 and isinstance(prompt[0], str):
        return prompt[0]
    several = isinstance(prompt, list | tuple) and any(isinstance(each, str) for each in prompt)
    if several or (isinstance(prompt, torch.Tensor) and prompt.ndim == 2 and len(prompt) != 1):
        raise _several(len(prompt))
    return prompt


def _without_padding(inputs: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model takes, with the columns alone that hold tokens of its one prompt."""
    ids, mask = inputs.get("input_ids"), inputs.get("attention_mask")
    if isinstance(ids, torch.Tensor) and ids.ndim == 2 and len(ids) != 1:
        raise _several(len(ids))
    if not isinstance(ids, torch.Tensor) or not isinstance(mask, torch.Tensor):
        return inputs
    if mask.shape != ids.shape or bool(mask.all()) or "decoder_input_ids" in inputs:
        return inputs
    held = mask[0].nonzero()[:, 0]
    if not len(held) or len(held) != int(held[-1] - held[0]) + 1:
        raise BadInputError(
            "The attention mask leaves out tokens between others, or all of them; this analysis "
            "is of a prompt as it stands. Leave them out of input_ids."
        )
    own = slice(int(held[0]), int(held[-1]) + 1)
    columns = {
        name: value[:, own]
        for name, value in inputs.items()
        if isinstance(value, torch.Tensor) and value.shape == ids.shape
    }
    return {**inputs, **columns}


def _several(count: int) -> BadInputError:
    return BadInputError(
        f"This analysis is of one prompt; found {count}.\n"
        "Run it for each: [analyses.lens(model, prompt) for prompt in prompts]."
    )


def positions_of(model: Any, tracer: Any, logits: torch.Tensor) -> Along:
    """The axis of the positions that the logits are about, with their tokens.

    Args:
        logits: `(1, tokens, vocabulary)`. An encoder-decoder model has them for the decoder's
            tokens.

    Raises:
        BadInputError: the model gives no logits for its tokens.
    """
    if logits.ndim != 3 or len(logits) != 1:
        raise BadInputError(
            f"The model's logits are {tuple(logits.shape)}; expected (1, tokens, vocabulary): one "
            "prompt, and a prediction after each of its tokens."
        )
    count = logits.shape[1]
    ids = ids_of(tracer, count)
    words = [] if ids is None else token_texts(getattr(model, "tokenizer", None), ids)
    return Along("position", range(count), words or None)


def ids_of(tracer: Any, count: int) -> list[int] | None:
    """The ids of the `count` tokens that a trace runs on; `None` where they cannot be told."""
    for name in ("input_ids", "decoder_input_ids"):
        ids = tracer.inputs.get(name)
        if ids is not None and tuple(ids.shape) == (1, count):
            return ids[0].tolist()
    return None


def model_words(model: Any, prompt: Any) -> dict[str, str]:
    """What a result says of the model and the prompt that it comes from."""
    source = getattr(model, "_source", None)
    name = getattr(source, "name", None) or type(model._root).__name__
    return {"model": str(name), "prompt": prompt if isinstance(prompt, str) else repr(prompt)}


def notices_of(model: Any) -> tuple[str, ...]:
    """What the reader of a result should know of the model's state."""
    found = []
    if model.module.training:
        found.append(
            "the model is in training mode: dropout makes its numbers random; model.eval()"
        )
    if model.edits.in_force:
        names = ", ".join(edit.name for edit in model.edits.in_force)
        found.append(f"with the model's edits in force: {names}")
    return tuple(found)
