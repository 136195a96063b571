"""Attention patterns a block at a time: what is kept of each, and any of them once more.

The patterns of 9 heads on 2,000 tokens are 144 MB, those of 30 blocks 4.3 GB. So none is
held while the next is computed, what is kept of it is small, and a block that is looked at later is
run again.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from nnsight_magic.engine.running.fused import has_sink
from nnsight_magic.engine.values.value import plain
from nnsight_magic.errors import (
    BadInputError,
    NeverRanError,
    NoSuchModuleError,
    NoSuchOperationError,
)
from nnsight_magic.views.data.pooling import pool

SMALL = 16  # rows and columns of a small multiple
SAME = 1e-3  # mean weights that differ by more are those of another model
NO_PATTERN = (NoSuchModuleError, NoSuchOperationError, NeverRanError, AttributeError)


@dataclass(frozen=True)
class Block:
    """What is kept of one block's patterns.

    Attributes:
        layer: its number.
        size: heads, tokens, and keys: the tokens, and one more where heads have a sink.
        scores: by their name, `(heads,)` each.
        small: pooled patterns `(heads, rows, columns)`.
        whole: `(heads, tokens, keys)` where patterns are few, else `None`.
    """

    layer: int
    size: tuple[int, int, int]
    scores: Mapping[str, np.ndarray]
    small: np.ndarray
    whole: torch.Tensor | None

    @property
    def has_sink(self) -> bool:
        return self.size[2] > self.size[1]


@dataclass(frozen=True)
class Head:
    """A head that has more of a score than any other, with its pattern `(tokens, keys)`."""

    layer: int
    head: int
    score: float
    pattern: torch.Tensor


def blocks_of(
    model: Any,
    repeated: int,
    best: dict[str, Head],
    *,
    layers: Sequence[int] | None = None,
    keep: bool,
    few: int,
) -> Iterator[Block]:
    """What is kept of each block that attends, inside a trace of one prompt.

    Args:
        repeated: how many tokens at the end are a copy of those before them; 0 for none.
        layers: the blocks that are looked at; all by default.
        best: where no patterns are kept, the head with most of each score is put here.
        keep: keep the whole patterns, however many.
        few: the number of values of all patterns up to which they are kept all the same.

    Raises:
        BadInputError: the run is of several prompts, or there is no such block.
    """
    chosen = range(len(model.layers)) if layers is None else sorted(set(layers))
    wrong = [layer for layer in chosen if not 0 <= layer < len(model.layers)]
    if wrong:
        raise BadInputError(f"There is no block {wrong[0]}: there are {len(model.layers)}.")
    for layer in chosen:
        pattern = pattern_of_block(model, layer)
        if pattern is None:
            continue
        whole = keep or pattern.numel() * len(chosen) <= few
        found = _block(layer, pattern, repeated, whole=whole)
        if not whole:
            _improve(best, found, pattern)
        del pattern  # before the next one is computed
        yield found


def _improve(best: dict[str, Head], block: Block, pattern: torch.Tensor) -> None:
    for name, values in block.scores.items():
        head, known = int(values.argmax()), best.get(name)
        if known is None or values[head] > known.score:
            best[name] = Head(block.layer, head, float(values[head]), pattern[head].clone())


def pattern_of_block(model: Any, layer: int) -> torch.Tensor | None:
    """The pattern of one block in a trace, `(heads, tokens, keys)`, float32 on the CPU.

    Where heads have a sink (gpt-oss), its weight is the last column: it takes weight and gives no
    value, and is what the weights on the tokens lack.

    Returns:
        `None` where the block does not attend with heads that are known.

    Raises:
        BadInputError: the run is of several prompts.
    """
    try:
        attention = model.layers[layer].attn
        pattern = plain(attention.pattern)
    except NO_PATTERN:
        return None
    if pattern.ndim != 4:
        return None
    if len(pattern) != 1:
        raise BadInputError(
            f"This analysis is of one prompt; found {len(pattern)}.\n"
            "Run it for each: [analyses.attention(model, prompt) for prompt in prompts]."
        )
    own = pattern[0].float().cpu()[..., : pattern.shape[2]]
    if not has_sink(attention.module):
        return own
    return torch.cat([own, (1 - own.sum(-1, keepdim=True)).clamp(0, 1)], -1)


def _block(layer: int, pattern: torch.Tensor, repeated: int, *, whole: bool) -> Block:
    small = np.stack([pooled(head) for head in pattern])
    heads, tokens, keys = pattern.shape
    kept = pattern if whole else None
    return Block(layer, (heads, tokens, keys), scores_of(pattern, repeated), small, kept)


def scores_of(pattern: torch.Tensor, repeated: int) -> dict[str, np.ndarray]:
    """The mean weights by which heads are known, `(heads,)` each: see `attention`.

    Args:
        pattern: `(heads, tokens, keys)`.
    """
    tokens = pattern.shape[1]
    own = pattern[..., :tokens]
    scores = {
        "previous": _mean_at(own, 1, range(1, tokens)),
        "first": own[:, 1:, 0].mean(-1).numpy() if tokens > 1 else np.zeros(len(own)),
    }
    if repeated:
        second = range(tokens - repeated, tokens)
        scores["induction"] = _mean_at(own, repeated - 1, second)
        scores["duplicate"] = _mean_at(own, repeated, second)
    if pattern.shape[-1] > tokens:
        scores["sink"] = pattern[..., tokens].mean(-1).numpy()
    return scores


def _mean_at(pattern: torch.Tensor, back: int, queries: range) -> np.ndarray:
    """The mean weight on the token `back` places before, `(heads,)`."""
    if not len(queries):
        return np.zeros(len(pattern))
    at = torch.tensor(queries)
    return pattern[:, at, at - back].mean(-1).numpy()


def pooled(pattern: torch.Tensor) -> np.ndarray:
    """The greatest of several tokens, in at most `SMALL` rows and columns.

    A single bright cell stays to be seen, and a sink stays a column of its own.

    Args:
        pattern: `(tokens, keys)`.
    """
    tokens = len(pattern)
    side = -(-tokens // SMALL)
    small = pool(pattern[:, :tokens], side, side)[1]
    sink = pattern[:, tokens:]
    return np.concatenate([small, pool(sink, side, 1)[1]], 1) if sink.numel() else small


class Again:
    """The patterns of a prompt by their block, run again for each.

    Args:
        model: a `LanguageModel`, or a weak reference to one.
        inputs: the prompt, as a trace takes it.
        blocks: what was kept of the blocks when they first ran.
        repeated: as in `blocks_of`.
    """

    def __init__(self, model: Any, inputs: Any, blocks: Sequence[Block], repeated: int) -> None:
        self._model: Callable[[], Any] = model if isinstance(model, weakref.ref) else lambda: model
        self._inputs, self._repeated = inputs, repeated
        self._scores = {block.layer: block.scores for block in blocks}

    def weakly(self) -> Again:
        """The same without keeping the model alive: a view lives as long as its kernel."""
        again = Again(weakref.ref(self._model()), self._inputs, (), self._repeated)
        again._scores = self._scores
        return again

    @property
    def is_busy(self) -> bool:
        """Whether a cell is running the model just now."""
        model = self._model()
        return model is not None and model._turn.locked()

    def __call__(self, layer: int) -> torch.Tensor:
        """`(heads, tokens, keys)` of one block.

        Raises:
            BadInputError: the model is gone, or gives other patterns now.
        """
        model = self._model()
        if model is None:
            raise BadInputError("The model was deleted; run the cell again for other heads.")
        if layer not in self._scores:
            raise BadInputError(f"There is no pattern of block {layer}.")
        with torch.no_grad(), model.trace(self._inputs):
            pattern = pattern_of_block(model, layer)
        if pattern is None or not self._is_the_same(layer, pattern):
            raise BadInputError(
                f"Block {layer} attends otherwise now than when this was made: the model's "
                "weights, edits or settings have changed. Run the analysis again."
            )
        return pattern

    def _is_the_same(self, layer: int, pattern: torch.Tensor) -> bool:
        then, now = self._scores[layer], scores_of(pattern, self._repeated)
        return then.keys() == now.keys() and all(
            len(then[name]) == len(now[name]) and np.allclose(then[name], now[name], atol=SAME)
            for name in then
        )
