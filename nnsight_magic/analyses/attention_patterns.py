"""Attention patterns of all heads, and what each head looks at.

A head's pattern tells how much of each earlier token's value it moves to each token (Elhage et al.
2021, "A Mathematical Framework for Transformer Circuits"). Scores sort the heads by what their
patterns do, as in Olsson et al. 2022, "In-context Learning and Induction Heads".
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nnsight_magic.analyses.attention_shown import Attention
from nnsight_magic.analyses.prompt import model_words, notices_of, positions_of, run_on
from nnsight_magic.analyses.result import Along, with_axes
from nnsight_magic.engine.running.text_config import text_config
from nnsight_magic.engine.values.value import plain
from nnsight_magic.errors import (
    BadInputError,
    NeverRanError,
    NoSuchModuleError,
    NoSuchOperationError,
)
from nnsight_magic.views.data.pooling import pool

KEPT = 1 << 22  # values of all patterns up to which they are kept, 16 MB
SMALL = 16  # rows and columns of a small multiple
REPEATED = 25  # random tokens that are repeated
NO_PATTERN = (NoSuchModuleError, NoSuchOperationError, NeverRanError, AttributeError)


def attention(
    model: Any,
    prompt: Any = None,
    *,
    induction: bool = False,
    repeated: int = REPEATED,
    seed: int = 0,
    keep: bool = False,
) -> Attention:
    """The patterns of all heads, and scores of what they look at.

    Patterns are read one block at a time; all of them are kept where they are few.

    Args:
        model: a `LanguageModel`.
        prompt: one prompt: a text or token ids.
        induction: run on random tokens that are repeated, and score heads on the second copy.
        repeated: how many random tokens are repeated.
        seed: where the random numbers begin that choose them.
        keep: keep all patterns, however many: 500 tokens of the demo model are 270 MB.

    Raises:
        BadInputError: there is no prompt, or two, or no block attends.

    >>> from nnsight_magic import LanguageModel
    >>> found = attention(LanguageModel("demo"), "The Eiffel Tower is in the city of")
    >>> found.scores.dims, found.patterns.shape
    (('score', 'layer', 'head'), (30, 9, 9, 9))
    """
    if induction == (prompt is not None):
        raise BadInputError(
            "Give a prompt, or ask for induction, which makes one of random tokens: one of them."
        )
    ids = repeated_tokens(model, repeated, seed) if induction else None
    blocks: list[_Block] = []
    with torch.no_grad(), model.trace(run_on(prompt) if ids is None else ids) as tracer:
        for layer, pattern in _patterns(model):
            few = pattern.numel() * len(model.layers) <= KEPT
            sink = hasattr(model.layers[layer].attn.module, "sinks")
            blocks.append(_block(layer, pattern, ids, repeated, whole=keep or few, sink=sink))
        if not blocks:
            raise BadInputError("No block of this model attends with heads that are known.")
        positions = positions_of(model, tracer, blocks[0].queries)
    told = "repeated random tokens" if induction else prompt
    return _assembled(model, told, blocks, positions, prompt if ids is None else ids)


def repeated_tokens(model: Any, count: int, seed: int = 0) -> torch.Tensor:
    """Random tokens, and the same once more: `(1, 2 count)`, or one more with BOS before them.

    No token is drawn twice, and no special one; a tokenizer without a token for the beginning of a
    text gets none.

    Raises:
        BadInputError: there are not so many tokens.
    """
    tokenizer = getattr(model, "tokenizer", None)
    size = getattr(text_config(model._root), "vocab_size", None) or 0
    special = set(getattr(tokenizer, "all_special_ids", ()))
    known = torch.tensor([each for each in range(size) if each not in special])
    if not 2 <= count <= len(known):
        raise BadInputError(f"{count} random tokens of a vocabulary of {len(known)}.")
    order = torch.randperm(len(known), generator=torch.Generator().manual_seed(seed))
    drawn = known[order[:count]]
    begin = getattr(tokenizer, "bos_token_id", None)
    first = [] if begin is None else [torch.tensor([begin])]
    return torch.cat([*first, drawn, drawn])[None]


# -- one block at a time --------------------------------------------------------------------------


@dataclass(frozen=True)
class _Block:
    """What is kept of one block's patterns `(heads, tokens, tokens)`."""

    layer: int
    scores: dict[str, np.ndarray]
    sinks: np.ndarray | None
    small: np.ndarray
    whole: torch.Tensor | None
    queries: torch.Tensor


def _patterns(model: Any) -> Iterator[tuple[int, torch.Tensor]]:
    """The blocks that attend, each with its pattern `(heads, tokens, keys)`."""
    for layer, block in enumerate(model.layers):
        try:
            pattern = plain(block.attn.pattern)
        except NO_PATTERN:
            continue
        if pattern.ndim == 4 and len(pattern) == 1:
            yield layer, pattern[0].float().cpu()


def _block(
    layer: int,
    pattern: torch.Tensor,
    ids: torch.Tensor | None,
    repeated: int,
    *,
    whole: bool,
    sink: bool,
) -> _Block:
    """Scores and a small picture of one block's patterns.

    Args:
        sink: whether the heads have one: it takes weight and gives no value (gpt-oss), and is what
            the weights on the tokens lack.
    """
    tokens = pattern.shape[1]
    own = pattern[..., :tokens]
    sinks = (1 - own.sum(-1)).mean(-1).numpy() if sink else None
    scores = {
        "previous": _mean_at(own, 1, range(1, tokens)),
        "first": own[:, 1:, 0].mean(-1).numpy() if tokens > 1 else np.zeros(len(own)),
    }
    if ids is not None:
        second = range(tokens - repeated, tokens)
        scores["induction"] = _mean_at(own, repeated - 1, second)
        scores["duplicate"] = _mean_at(own, repeated, second)
    side = -(-tokens // SMALL)
    small = np.stack([pool(head, side, side)[1] for head in own])
    return _Block(layer, scores, sinks, small, own if whole else None, own[:1])


def _mean_at(pattern: torch.Tensor, back: int, queries: range) -> np.ndarray:
    """The mean weight on the token `back` places before, `(heads,)`."""
    if not len(queries):
        return np.zeros(len(pattern))
    at = torch.tensor(queries)
    return pattern[:, at, at - back].mean(-1).numpy()


def _assembled(
    model: Any, told: Any, blocks: list[_Block], positions: Along, run_again: Any
) -> Attention:
    heads = max(len(block.small) for block in blocks)
    down = Along("layer", [block.layer for block in blocks])
    across = Along("head", range(heads))
    attrs = {"title": "attention", **model_words(model, told)}
    names = list(blocks[0].scores)
    values = [[_filled(block.scores[name], heads) for block in blocks] for name in names]
    scores = with_axes(np.array(values), [Along("score", names), down, across], "scores", attrs)
    sinks = None
    if any(block.sinks is not None for block in blocks):
        rows = [_filled(np.zeros(0) if b.sinks is None else b.sinks, heads) for b in blocks]
        told_of = attrs | {"title": "weight on the sink"}
        sinks = with_axes(np.array(rows), [down, across], "sinks", told_of)
    query = Along("from", positions.places, positions.words)
    key = Along("to", positions.places, positions.words)
    patterns = None
    if all(block.whole is not None and len(block.whole) == heads for block in blocks):
        stacked = torch.stack([block.whole for block in blocks if block.whole is not None])
        patterns = with_axes(stacked, [down, across, query, key], "pattern", attrs)
    small = np.stack([_filled(block.small, heads) for block in blocks])

    def again(layer: int) -> Any:
        with torch.no_grad(), model.trace(run_on(run_again)):
            pattern = plain(model.layers[layer].attn.pattern)[0].float()
        own = Along("head", range(len(pattern)))
        title = attrs | {"title": f"attention of block {layer}"}
        return with_axes(pattern[..., : pattern.shape[1]], [own, query, key], "pattern", title)

    return Attention(scores, sinks, patterns, small, positions, notices_of(model), again)


def _filled(values: np.ndarray, heads: int) -> np.ndarray:
    """As many heads as there are anywhere; what a block has fewer is NaN."""
    missing = np.full((heads - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([values, missing]).astype(np.float32)
