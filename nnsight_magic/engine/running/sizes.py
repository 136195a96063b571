"""A model's sizes, by the names that configurations have for them."""

from __future__ import annotations

from typing import Any

from nnsight_magic.engine.running.head_counts import COUNTS
from nnsight_magic.engine.running.text_config import text_config

_HIDDEN = ("hidden_size", "n_embd", "d_model", "dim", "embed_dim")
_HEADS = ("decoder_attention_heads", *COUNTS, "attention_heads", "encoder_attention_heads")
_KEY_VALUE = ("num_key_value_heads", "num_kv_heads", "n_head_kv")


def hidden_size(root: Any) -> int | None:
    """How long the vector of a token is in the residual stream."""
    return _first(text_config(root), _HIDDEN)


def query_heads(root: Any) -> int | None:
    """With how many heads each block attends, where there is attention at all."""
    if not any("att" in type(module).__name__.lower() for module in root.modules()):
        return None  # Mamba-2's heads are others
    return _first(text_config(root), _HEADS)


def key_value_heads(root: Any) -> int | None:
    """How many heads have keys and values of their own: fewer where queries share them."""
    config, heads = text_config(root), query_heads(root)
    newer = getattr(config, "new_decoder_architecture", False)
    if heads is None:
        return None
    if getattr(config, "multi_query", False) and not newer:
        return 1  # Falcon, GPT-BigCode
    if getattr(config, "model_type", "") == "falcon" and not newer:
        return heads  # whatever it says besides
    return _by_projection(root) or _first(config, _KEY_VALUE) or heads


def _by_projection(root: Any) -> int | None:
    """How many heads a key projection makes: a configuration may name a number nobody uses."""
    for module in root.modules():
        width = getattr(module._modules.get("k_proj"), "out_features", None)
        size = getattr(module, "head_dim", None)
        if isinstance(width, int) and isinstance(size, int) and size > 0 and width % size == 0:
            return width // size
    return None


def _first(config: Any, names: tuple[str, ...]) -> int | None:
    found = (getattr(config, name, None) for name in names)
    return next((n for n in found if isinstance(n, int) and n > 0), None)
