"""How many variants of a sweep make one batch: bounded by tokens, and by bytes.

More than 1,024 rows times tokens make a forward on a CPU no cheaper per row. But the logits of
1,024 tokens over a vocabulary of 256,000 are 1 GB.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.running.text_config import text_config

TOKENS_PER_BATCH = 1024
BYTES_PER_BATCH = 2**28  # 256 MB of logits beside the weights: 6 % of a machine with 4 GB


def variants_per_batch(module: nn.Module, tokens: int, rows: int, kwargs: dict[str, Any]) -> int:
    """How many variants run in one forward.

    Args:
        module: the model.
        tokens: of each row.
        rows: of each variant.
        kwargs: of the model's forward; `logits_to_keep` tells how many positions have logits.
    """
    by_tokens = TOKENS_PER_BATCH // max(1, tokens * rows)
    by_bytes = BYTES_PER_BATCH // max(1, rows * bytes_of_logits(module, tokens, kwargs))
    return max(1, min(by_tokens, by_bytes))


def bytes_of_logits(module: nn.Module, tokens: int, kwargs: dict[str, Any]) -> int:
    """What the logits of one row take; 0 where the model's configuration names no vocabulary."""
    vocabulary = getattr(text_config(module), "vocab_size", None)
    if not isinstance(vocabulary, int):
        return 0
    kept = kwargs.get("logits_to_keep", 0)
    if isinstance(kept, torch.Tensor):
        kept = kept.numel()
    width = min(kept, tokens) if isinstance(kept, int) and kept else tokens
    weight = next(module.parameters(), None)
    each = 4 if weight is None else weight.element_size()
    return width * vocabulary * each
