"""Two prompts that differ in one fact, token beside token: a clean one and a corrupt one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Any

import torch

from nnsight_magic.errors import BadInputError
from nnsight_magic.language.tokens import token_texts


@dataclass(frozen=True)
class Pair:
    """What is read from, and what is written into.

    Attributes:
        source, target: ids, `(1, tokens)`.
        source_texts, target_texts: the tokens' texts.
        positions: pairs (position in the source, position in the target), in the target's order.
    """

    source: torch.Tensor
    target: torch.Tensor
    source_texts: tuple[str, ...]
    target_texts: tuple[str, ...]
    positions: tuple[tuple[int, int], ...]


def pair_of(model: Any, source: Any, target: Any, align: Sequence | str | None = None) -> Pair:
    """The two prompts, position by position.

    Args:
        model: its tokenizer reads prompts that are texts.
        source, target: texts or token ids.
        align: pairs of positions `[(0, 0), (5, 4)]` where the lengths differ, or `"same"`: the
            tokens that both have in the same order.

    Raises:
        BadInputError: the prompts have different lengths and nothing aligns them, or positions
            that are none.
    """
    ids = [ids_of_prompt(model, each) for each in (source, target)]
    texts = [texts_of(model, each) for each in ids]
    lengths = [each.shape[1] for each in ids]
    if align is None:
        if lengths[0] != lengths[1]:
            raise BadInputError(
                f"The prompts have {lengths[0]} and {lengths[1]} tokens, so a position of one is "
                f"none of the other:\n{beside(*texts)}\nGive prompts of one length, or say what "
                'belongs together: align="same" for the tokens that both have, or pairs of '
                "positions, align=[(0, 0), (5, 4)]."
            )
        positions = [(k, k) for k in range(lengths[0])]
    elif align == "same":
        positions = _alike(*(each[0].tolist() for each in ids))
    else:
        positions = [_checked(each, lengths) for each in align]
    if not positions:
        raise BadInputError(f"Nothing of these prompts belongs together:\n{beside(*texts)}")
    in_order = tuple(sorted(positions, key=lambda each: each[1]))
    return Pair(ids[0], ids[1], texts[0], texts[1], in_order)


def ids_of_prompt(model: Any, prompt: Any) -> torch.Tensor:
    """One prompt as ids `(1, tokens)`.

    Raises:
        BadInputError: it is none, or it is several.
    """
    if isinstance(prompt, str):
        tokenizer = getattr(model, "tokenizer", None)
        if tokenizer is None:
            raise BadInputError(
                f"{prompt!r} is a text, and this model has no tokenizer.\nGive token ids, or the "
                "model a tokenizer: LanguageModel(model, tokenizer=…)."
            )
        found = tokenizer(prompt, return_tensors="pt")["input_ids"]
    else:
        try:
            found = torch.as_tensor(prompt)
        except (TypeError, ValueError, RuntimeError):
            raise BadInputError(f"A prompt is a text or token ids; found {prompt!r}.") from None
        found = found[None] if found.ndim == 1 else found
    if found.ndim != 2 or len(found) != 1 or not found.numel() or found.is_floating_point():
        raise BadInputError(
            f"A prompt is one text, or ids of the shape (1, tokens); found {tuple(found.shape)}."
        )
    return found.long().to(model.module.device)


def texts_of(model: Any, ids: torch.Tensor) -> tuple[str, ...]:
    """The texts of the tokens `(1, tokens)`; their numbers where there is no tokenizer."""
    return tuple(token_texts(getattr(model, "tokenizer", None), ids[0].tolist()))


def beside(one: Sequence[str], other: Sequence[str]) -> str:
    """Two lists of tokens in columns, those that both have side by side."""
    matcher = SequenceMatcher(a=list(one), b=list(other), autojunk=False)
    lines = []
    for kind, i, i_end, j, j_end in matcher.get_opcodes():
        for k in range(max(i_end - i, j_end - j)):
            left = f"{i + k:>3} {one[i + k]!r}" if i + k < i_end else ""
            right = f"{j + k:>3} {other[j + k]!r}" if j + k < j_end else ""
            lines.append((left, right, " " if kind == "equal" else "*"))
    width = max(len(left) for left, _, _ in lines)
    return "\n".join(f"  {mark} {left:<{width}}   {right}" for left, right, mark in lines)


def _alike(one: list[int], other: list[int]) -> list[tuple[int, int]]:
    matcher = SequenceMatcher(a=one, b=other, autojunk=False)
    return [
        (block.a + k, block.b + k)
        for block in matcher.get_matching_blocks()
        for k in range(block.size)
    ]


def _checked(pair: Any, lengths: Sequence[int]) -> tuple[int, int]:
    try:
        one, other = (int(each) for each in pair)
    except (TypeError, ValueError):
        raise BadInputError(
            f"align takes pairs of positions, such as (5, 4); found {pair!r}."
        ) from None
    for at, length in zip((one, other), lengths, strict=True):
        if not -length <= at < length:
            raise BadInputError(f"There is no position {at}: the prompt has {length} tokens.")
    return one % lengths[0], other % lengths[1]
