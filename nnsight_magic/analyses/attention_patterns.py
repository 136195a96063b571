"""Attention patterns of all heads, and what each head looks at.

A head's pattern tells how much of each earlier token's value it moves to each token (Elhage et al.
2021, "A Mathematical Framework for Transformer Circuits"). Scores sort the heads by what their
patterns do, as in Olsson et al. 2022, "In-context Learning and Induction Heads".
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from nnsight_magic.analyses.attention_blocks import Again, Block, Head, blocks_of
from nnsight_magic.analyses.attention_shown import Attention
from nnsight_magic.analyses.prompt import model_words, notices_of, positions_of, run_on
from nnsight_magic.analyses.recipe import RECIPE, recipe_of_reading
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.engine.running.text_config import text_config
from nnsight_magic.errors import BadInputError

KEPT = 1 << 22  # values of all patterns up to which they are kept, 16 MB
REPEATED = 25  # random tokens that are repeated
SINK = -1  # the place of a sink on the axis of the tokens attended to


def attention(
    model: Any,
    prompt: Any = None,
    *,
    layers: Sequence[int] | None = None,
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
        layers: the blocks whose heads are looked at; all by default.
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
    ran = repeated_tokens(model, repeated, seed) if induction else run_on(prompt)
    second = repeated if induction else 0
    best: dict[str, Head] = {}
    with torch.no_grad(), model.trace(ran) as tracer:
        blocks = list(blocks_of(model, second, best, layers=layers, keep=keep, few=KEPT))
        if not blocks:
            which = "No block of this model" if layers is None else "None of these blocks"
            raise BadInputError(f"{which} attends with heads that are known.")
        positions = positions_of(model, tracer, torch.empty(1, blocks[0].size[1], 0))
    told = "repeated random tokens" if induction else prompt
    again = Again(model, ran, blocks, second)
    sink = any(block.has_sink for block in blocks)
    recipe = recipe_of_reading("attention", model, ran, repeated=second, sink=sink)
    return _assembled(model, told, recipe, blocks, positions, again, list(best.values()))


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


# -- all blocks together --------------------------------------------------------------------------


def _assembled(
    model: Any,
    told: Any,
    recipe: str,
    blocks: list[Block],
    positions: Along,
    again: Again,
    best: list[Head],
) -> Attention:
    heads = max(block.size[0] for block in blocks)
    keys = max(block.size[2] for block in blocks)
    down = Along("layer", [block.layer for block in blocks])
    across = Along("head", range(heads))
    attrs = {"title": "attention", **model_words(model, told), RECIPE: recipe}
    names = list(dict.fromkeys(name for block in blocks for name in block.scores))
    values = np.array([[_score(block, name, heads) for block in blocks] for name in names])
    known = [name for name in names if name != "sink"]
    scores = with_axes(values[: len(known)], [Along("score", known), down, across], "scores", attrs)
    sinks = None
    if "sink" in names:
        title = attrs | {"title": "weight on the sink"}
        sinks = with_axes(values[names.index("sink")], [down, across], "sinks", title)
    query = Along("from", positions.places, positions.words)
    key = _keys(positions, sink=keys > len(positions.places))
    patterns = None
    if all(block.whole is not None and block.size[0] == heads for block in blocks):
        stacked = torch.stack([_wide(block.whole, keys) for block in blocks])
        patterns = with_axes(stacked, [down, across, query, key], "pattern", attrs)
    columns = max(block.small.shape[2] for block in blocks)
    small = np.stack([_filled(_wide(block.small, columns), heads) for block in blocks])

    def pattern_of(layer: int, pattern: torch.Tensor) -> Result:
        own = Along("head", range(len(pattern)))
        title = attrs | {"title": f"attention of block {layer}"}
        return with_axes(_wide(pattern, keys), [own, query, key], "pattern", title)

    notices = notices_of(model)
    modules = [str(model.layers[block.layer].attn.path) for block in blocks]
    return Attention(
        scores, sinks, patterns, small, positions, key, notices, again, pattern_of, best, modules
    )


def _score(block: Block, name: str, heads: int) -> np.ndarray:
    return _filled(block.scores.get(name, np.zeros(0)), heads)


def _keys(positions: Along, *, sink: bool) -> Along:
    """The axis of what is attended to: the tokens, and behind them the sink."""
    if not sink:
        return Along("to", positions.places, positions.words)
    words = positions.words or [str(each) for each in positions.places]
    return Along("to", [*positions.places, SINK], [*words, "sink"])


def _wide(values: Any, columns: int) -> Any:
    """With as many columns as there are anywhere: NaN where a block has no sink."""
    missing = columns - values.shape[-1]
    if not missing:
        return values
    nothing = np.full((*values.shape[:-1], missing), np.nan, np.float32)
    if isinstance(values, torch.Tensor):
        return torch.cat([values, torch.from_numpy(nothing)], -1)
    return np.concatenate([values, nothing], -1)


def _filled(values: np.ndarray, heads: int) -> np.ndarray:
    """As many heads as there are anywhere; what a block has fewer is NaN."""
    missing = np.full((heads - len(values), *values.shape[1:]), np.nan)
    return np.concatenate([values, missing]).astype(np.float32)
