"""From what a user hands over (text, texts, ids, tensors, dicts) to a model's arguments."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnsight_magic.errors import BadInputError


@dataclass
class Inputs:
    """The prepared arguments of one call; `prompts` where text was given."""

    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] | None = None


# Arguments of a forward or of `generate` that say what it is run on.
_MAIN = ("inputs", "input_ids", "inputs_embeds", "pixel_values", "input_features", "input_values")
_BESIDE = ("attention_mask", "token_type_ids", "position_ids")


def inputs_among(kwargs: dict[str, Any], module: nn.Module) -> dict[str, Any] | None:
    """Take what a model is run on out of its keyword arguments; `None` if it is not there.

    `inputs` is what `generate` of transformers calls a model's main input.
    """
    main = getattr(module, "main_input_name", None) or "input_ids"
    names = dict.fromkeys((*_MAIN, main))
    if all(kwargs.get(name) is None for name in names):
        return None
    found = {n: kwargs.pop(n) for n in (*names, *_BESIDE) if kwargs.get(n) is not None}
    if "inputs" in found and "inputs" not in inspect.signature(module.forward).parameters:
        found[main] = found.pop("inputs")
    return found


def prepare(given: Any, module: nn.Module, tokenizer: Any) -> Inputs:
    """Arguments for `module` from a prompt, prompts, token ids, a tensor or a dict.

    Several prompts make a batch, padded on the tokenizer's padding side. Everything is put on
    the device of the model's first parameter.

    Raises:
        BadInputError: nothing can be run on what was given; the message says why.
    """
    device = device_of(module)
    if isinstance(given, str):
        given = [given]
    if _is_texts(given):
        encoded = _tokenized(list(given), tokenizer)
        return Inputs(kwargs=_on(encoded, device), prompts=list(given))
    if isinstance(given, Mapping):
        return Inputs(kwargs=_on(dict(given), device))
    if isinstance(given, list | tuple) and given and _is_ids(given):
        given = torch.tensor(given if isinstance(given[0], list | tuple) else [given])
    name = getattr(module, "main_input_name", None)
    if isinstance(given, torch.Tensor) and name is not None:
        if name == "input_ids" and given.ndim == 1:
            given = given[None]
        return Inputs(kwargs={name: given.to(device)})
    if isinstance(given, tuple):
        return Inputs(args=tuple(_to(item, device) for item in given))
    return Inputs(args=(_to(given, device),))


def device_of(module: nn.Module) -> torch.device:
    """Where the first parameter lies that is not on the meta device."""
    for parameter in module.parameters():
        if parameter.device.type != "meta":
            return parameter.device
    return torch.device("cpu")


def with_positions(kwargs: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Add position ids where padding stands on the left.

    A forward counts positions from the first column, padding included; only `generate` looks at
    the mask. Counting real tokens makes a batch agree with its prompts taken one by one.
    """
    mask = kwargs.get("attention_mask")
    if mask is None or "position_ids" in kwargs or mask.ndim != 2 or bool(mask[:, 0].all()):
        return kwargs
    if "position_ids" not in inspect.signature(module.forward).parameters:
        return kwargs
    positions = (mask.long().cumsum(-1) - 1).clamp(min=0)
    padding = _position_of_padding(module)
    if padding is not None:
        positions = torch.where(mask.bool(), positions + padding + 1, padding)
    return {**kwargs, "position_ids": positions}


def _position_of_padding(module: nn.Module) -> int | None:
    """What RoBERTa and its like keep for padding: their tokens are counted from behind it."""
    for name, part in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(part, nn.Embedding):
            return part.padding_idx
    return None


def _is_texts(given: Any) -> bool:
    return (
        isinstance(given, list | tuple) and bool(given) and all(isinstance(t, str) for t in given)
    )


def _is_ids(given: Any) -> bool:
    rows = given if isinstance(given[0], list | tuple) else [given]
    return all(isinstance(i, int) for row in rows for i in row) and len({len(r) for r in rows}) == 1


def _tokenized(texts: list[str], tokenizer: Any) -> dict[str, torch.Tensor]:
    if tokenizer is None:
        raise BadInputError(
            "Text was given, but this model has no tokenizer.\n"
            "Give token ids, or pass one: LanguageModel(model, tokenizer=…)."
        )
    encoded = tokenizer(texts, return_tensors="pt", padding=len(texts) > 1)
    if encoded["input_ids"].shape[-1] == 0:
        if tokenizer.bos_token_id is None:
            raise BadInputError(
                "The prompt is empty: it has no token, and this tokenizer has no token that stands "
                "for the beginning of a text.\nGive at least one character."
            )
        encoded = tokenizer([tokenizer.bos_token] * len(texts), return_tensors="pt")
    kwargs = {key: encoded[key] for key in ("input_ids", "attention_mask") if key in encoded}
    if "attention_mask" in kwargs and bool(kwargs["attention_mask"].all()):
        del kwargs["attention_mask"]  # without padding it says nothing, and costs a mask
    return kwargs


def _on(kwargs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {key: _to(item, device) for key, item in kwargs.items()}


def _to(item: Any, device: torch.device) -> Any:
    return item.to(device) if isinstance(item, torch.Tensor) else item
