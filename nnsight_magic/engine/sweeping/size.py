"""How many variants of a sweep make one batch: bounded by tokens, and by bytes.

More than 1,024 rows times tokens make a forward on a CPU no cheaper per row. But the logits of
1,024 tokens over a vocabulary of 256,000 are 1 GB, the patterns of 64 heads over two rows of 1,024
tokens half of that, and a graph has what every block leaves for the backward pass.
"""

from __future__ import annotations

from math import isqrt
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.insides import transformers_insides
from nnsight_magic.engine.running.sizes import query_heads
from nnsight_magic.engine.running.text_config import text_config

TOKENS_PER_BATCH = 1024
BYTES_PER_BATCH = 2**28  # 256 MB beside the weights: 6 % of a machine with 4 GB


def variants_per_batch(
    module: nn.Module, tokens: int, rows: int, kwargs: dict[str, Any], *, packed: bool = False
) -> int:
    """How many variants run in one forward.

    Args:
        module: the model.
        tokens: of each row.
        rows: of each variant.
        kwargs: of the model's forward; `logits_to_keep` tells how many positions have logits.
        packed: whether they may stand in one row, where the patterns grow with its square.
    """
    by_tokens = TOKENS_PER_BATCH // max(1, tokens * rows)
    largest = bytes_of_logits(module, tokens, kwargs), bytes_of_patterns(module, tokens)
    by_bytes = BYTES_PER_BATCH // max(1, rows * max(largest))
    if packed and (each := bytes_of_patterns(module, 1)):
        # Every token has scores with all that are packed, and with those that are remembered.
        by_bytes = min(by_bytes, isqrt(BYTES_PER_BATCH // (each * rows)) // max(1, tokens) - 1)
    return max(1, min(by_tokens, by_bytes))


def graphs_per_batch(graph: int) -> int:
    """How many variants are recorded in one forward, by the bytes that one's graph takes."""
    return max(1, BYTES_PER_BATCH // max(1, graph))


def bytes_of_logits(module: nn.Module, tokens: int, kwargs: dict[str, Any]) -> int:
    """What the logits of one row take; 0 where the model's configuration names no vocabulary."""
    vocabulary = getattr(text_config(module), "vocab_size", None)
    if not isinstance(vocabulary, int):
        return 0
    kept = kwargs.get("logits_to_keep", 0)
    if isinstance(kept, torch.Tensor):
        kept = kept.numel()
    width = min(kept, tokens) if isinstance(kept, int) and kept else tokens
    return width * vocabulary * _bytes_of_number(module)


def bytes_of_patterns(module: nn.Module, tokens: int) -> int:
    """What the patterns of one block take for one row, where they stand in memory at all.

    Scores and the pattern that a softmax makes of them stand there together.
    """
    if transformers_insides.attention_of(getattr(module, "config", None)) != "eager":
        return 0
    heads = query_heads(module) or 0
    return 2 * heads * tokens * tokens * _bytes_of_number(module)


def _bytes_of_number(module: nn.Module) -> int:
    weight = next(module.parameters(), None)
    return 4 if weight is None else weight.element_size()


def row_count(args: tuple, kwargs: dict[str, Any]) -> int:
    """How many rows a call of the model has."""
    for value in [*args, *kwargs.values()]:
        if isinstance(value, torch.Tensor) and value.ndim:
            return value.shape[0]
    return 1


def token_count(kwargs: dict[str, Any]) -> int:
    """How many tokens each of its rows has."""
    for value in kwargs.values():
        if isinstance(value, torch.Tensor) and value.ndim > 1:
            return value.shape[1]
    return 1
