"""From what a user hands over (text, texts, ids, tensors, dicts) to a model's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.running.options import takes
from nnsight_magic.errors import BadInputError


@dataclass
class Inputs:
    """The prepared arguments of one call; `prompts` where text was given."""

    args: tuple = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    prompts: list[str] | None = None


class WholeText(str):
    """A text that has its special tokens already: a chat template writes its own."""

    __slots__ = ()


# Arguments of a forward or of `generate` that say what it is run on.
_MAIN = ("inputs", "input_ids", "inputs_embeds", "pixel_values", "input_features", "input_values")
_BESIDE = ("attention_mask", "token_type_ids", "position_ids")


def inputs_among(kwargs: dict[str, Any], module: nn.Module) -> dict[str, Any] | None:
    """Take what a model is run on out of its keyword arguments; `None` if it is not there.

    `inputs` is what `generate` of transformers calls a model's main input.
    """
    names = _main_names(module)
    if all(kwargs.get(name) is None for name in names):
        return None
    found = {n: kwargs.pop(n) for n in (*names, *_BESIDE) if kwargs.get(n) is not None}
    if "inputs" in found and not takes(module, "inputs"):
        found[_main_name(module)] = found.pop("inputs")
    return found


def without_inputs(kwargs: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """The options alone, without what a model is run on: for a run on something else."""
    belong = {*_main_names(module), *_BESIDE}
    return {name: value for name, value in kwargs.items() if name not in belong}


def refuse_twice(prepared: Inputs, kwargs: dict[str, Any], module: nn.Module) -> None:
    """What the user says beside the prompt goes before what follows from the prompt.

    Raises:
        BadInputError: it is another prompt.
    """
    for name in prepared.kwargs.keys() & kwargs.keys():
        if kwargs[name] is None:
            continue
        if name in _main_names(module):
            raise BadInputError(
                f"What to run on was given twice: as the first argument, and as {name}=….\n"
                "Give it once."
            )
        del prepared.kwargs[name]


def refuse_more(call: str, first: Any, more: tuple) -> None:
    """A language model runs on one prompt, or on several as one list.

    Raises:
        BadInputError: there are others behind the first.
    """
    if not more:
        return
    kinds = ", ".join(type(each).__name__ for each in (first, *more))
    raise BadInputError(
        f"{call}() takes what to run on as one argument; found {len(more) + 1}: {kinds}.\n"
        f"Several prompts go into a list, {call}([…, …]), and the model's own arguments have "
        "names."
    )


def _main_name(module: nn.Module) -> str:
    return getattr(module, "main_input_name", None) or "input_ids"


def _main_names(module: nn.Module) -> tuple[str, ...]:
    return tuple(dict.fromkeys((*_MAIN, _main_name(module))))


def prepare(given: Any, module: nn.Module, tokenizer: Any) -> Inputs:
    """Arguments for `module` from a prompt, prompts, token ids, a tensor or a dict.

    Several prompts make a batch, padded on the tokenizer's padding side. Everything is put on
    the device of the model's first parameter.

    Raises:
        BadInputError: nothing can be run on what was given; the message says why.
    """
    device = device_of(module)
    name = getattr(module, "main_input_name", None)
    if isinstance(given, str):
        given = [given]
    if _is_texts(given):
        encoded = _tokenized(list(given), tokenizer)
        return Inputs(kwargs=_on(encoded, device), prompts=list(given))
    if isinstance(given, Mapping):
        if not given:
            raise BadInputError(_no_input("an empty dict"))
        if isinstance(given.get("input_ids"), torch.Tensor):
            _check_ids(given["input_ids"], module)
        named = {name: _by_row(name, value) for name, value in given.items()}
        return Inputs(kwargs=_on(named, device))
    if name == "input_ids":
        _check_ids(given, module)
    if isinstance(given, list | tuple) and given and _is_ids(given):
        given = torch.tensor(given if isinstance(given[0], list | tuple) else [given])
    if isinstance(given, torch.Tensor) and name is not None:
        if name == "input_ids" and given.ndim == 1:
            given = given[None]
        return Inputs(kwargs={name: given.to(device)})
    if isinstance(given, tuple):
        return Inputs(args=tuple(_to(item, device) for item in given))
    return Inputs(args=(_to(given, device),))


def _by_row(name: str, value: Any) -> Any:
    """Ids and what comes with them as `(batch, tokens)`: tokenizers give lists and arrays too.

    Raises:
        BadInputError: the rows of a list are of several lengths.
    """
    taken = isinstance(value, list | tuple) or type(value).__module__ == "numpy"
    if not taken or name not in ("input_ids", *_BESIDE):
        return value
    try:
        rows = torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise BadInputError(
            f"{name} is no table of numbers with one row a prompt: the rows may be of several "
            'lengths.\nPad them: tokenizer(prompts, padding=True, return_tensors="pt").'
        ) from None
    return rows[None] if rows.ndim == 1 else rows


def device_of(module: nn.Module) -> torch.device:
    """Where the first parameter lies that is not on the meta device."""
    for parameter in module.parameters():
        if parameter.device.type != "meta":
            return parameter.device
    return torch.device("cpu")


def with_positions(kwargs: dict[str, Any], module: nn.Module) -> dict[str, Any]:
    """Add position ids where padding is on the left.

    A forward counts positions from the first column, padding included; only `generate` looks at
    the mask. Counting real tokens makes a batch agree with its prompts taken one by one.
    """
    mask = kwargs.get("attention_mask")
    if mask is None or "position_ids" in kwargs or mask.ndim != 2 or bool(mask[:, 0].all()):
        return kwargs
    if not takes(module, "position_ids"):
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
    if not all(isinstance(row, list | tuple) for row in rows):
        return False
    return all(isinstance(i, int) for row in rows for i in row) and len({len(r) for r in rows}) == 1


def _no_input(found: str) -> str:
    return (
        f"A language model runs on text or on token ids.\nFound: {found}.\n"
        'Expected: a prompt, "…"; a list of prompts; ids as a list of numbers, a list of lists of '
        "one length, or a tensor (batch, tokens)."
    )


def _check_ids(given: Any, module: nn.Module) -> None:
    """Refuse what no embedding of tokens takes.

    Raises:
        BadInputError: says what was found and what is expected.
    """
    if isinstance(given, torch.Tensor):
        if given.is_floating_point() or given.is_complex() or given.dtype == torch.bool:
            raise BadInputError(_no_input(f"a tensor of {given.dtype}".replace("torch.", "")))
        if not given.numel() or given.ndim not in (1, 2):
            raise BadInputError(_no_input(f"a tensor of shape {tuple(given.shape)}"))
        if not given.is_meta:
            _check_range(int(given.min()), int(given.max()), module)
        return
    if not isinstance(given, list | tuple):
        raise BadInputError(_no_input(f"{type(given).__name__}, {str(given)[:40]!r}"))
    if not given:
        raise BadInputError(_no_input("an empty list"))
    if _is_ids(given):
        _check_ids(torch.tensor(given), module)
        return
    rows = [row for row in given if isinstance(row, list | tuple)]
    if len(rows) == len(given) and all(type(i) is int for row in rows for i in row):
        lengths = ", ".join(str(len(row)) for row in rows[:6])
        raise BadInputError(
            f"Lists of token ids of different length make no batch by themselves: {lengths}.\n"
            "Pad them to one length and give the mask, {'input_ids': …, 'attention_mask': …}, or "
            "give the prompts as text."
        )
    if any(isinstance(item, torch.Tensor) for item in given):
        return  # arguments of a forward, one after another
    kinds = ", ".join(dict.fromkeys(type(item).__name__ for item in given))
    raise BadInputError(_no_input(f"a {type(given).__name__} of {kinds}"))


def _check_range(least: int, greatest: int, module: nn.Module) -> None:
    get = getattr(module, "get_input_embeddings", None)
    try:
        rows = get().num_embeddings if get is not None else None
    except (NotImplementedError, AttributeError):
        return
    if rows is not None and (least < 0 or greatest >= rows):
        if takes(module, "pixel_values"):
            return  # a picture's place may have an id beyond the embedding
        found = least if least < 0 else greatest
        raise BadInputError(
            f"There is no token {found}: this model's vocabulary has the ids 0 to {rows - 1}.\n"
            "Ids come from the model's own tokenizer: model.tokenizer(prompt).input_ids."
        )


def _tokenized(texts: list[str], tokenizer: Any) -> dict[str, torch.Tensor]:
    if tokenizer is None:
        raise BadInputError(
            "Text was given, but this model has no tokenizer.\n"
            "Give token ids, or pass one: LanguageModel(model, tokenizer=…)."
        )
    for text in texts:
        _check_text(text)
    _check_empty(texts, tokenizer)
    whole = all(isinstance(text, WholeText) for text in texts)
    encoded = tokenizer(
        texts, return_tensors="pt", padding=len(texts) > 1, add_special_tokens=not whole
    )
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


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadInputError(
            f"The prompt has half of a character at position {error.start} "
            f"({text[error.start]!r}, a lone surrogate), which no tokenizer takes.\n"
            "It comes from text that was cut or decoded wrongly: text.encode(errors='replace')."
        ) from None


def _check_empty(texts: list[str], tokenizer: Any) -> None:
    """An empty prompt beside others would be a row of padding alone."""
    if len(texts) < 2:
        return
    empty = [number for number, text in enumerate(texts, 1) if not tokenizer(text).input_ids]
    if empty:
        raise BadInputError(
            f"Prompt {empty[0]} of {len(texts)} is empty: it has no token, and its row would be "
            "padding alone.\nGive it at least one character, or leave it out."
        )


def _on(kwargs: dict[str, Any], device: torch.device) -> dict[str, Any]:
    return {key: _to(item, device) for key, item in kwargs.items()}


def _to(item: Any, device: torch.device) -> Any:
    return item.to(device) if isinstance(item, torch.Tensor) else item
