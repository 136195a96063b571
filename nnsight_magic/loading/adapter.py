"""PEFT adapters: a folder with the few weights that were trained on top of a model.

The adapter's modules are put into the model itself, as transformers does it, so that the paths of
the tree stay those of the model: `layers[3].attn.q_proj` then holds `base_layer` and `lora_A`.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

from nnsight_magic.errors import LoadError


def add_adapter(model: Any, folder: str) -> None:
    """Put an adapter's modules into a model of transformers, without its weights."""
    _require_peft(folder)
    from peft import PeftConfig

    model.add_adapter(PeftConfig.from_pretrained(folder))


def load_adapter(model: Any, folder: str) -> None:
    """Put an adapter into a model of transformers, with its weights.

    Raises:
        LoadError: PEFT is not installed, or the adapter's weights do not fit the model.
    """
    _require_peft(folder)
    model.load_adapter(folder)


def _require_peft(folder: str) -> None:
    if find_spec("peft") is None:
        raise LoadError(f"{folder} holds a PEFT adapter.\nInstall what reads it:  pip install peft")
