"""A run of a model on inputs that nobody gave: a few tokens, or an empty picture."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode


def made_up_run(root: nn.Module) -> Callable[[], Any] | None:
    """A run of a transformers model on four tokens, or on an empty picture.

    `None` for a model of which it is not known what it takes. The weights may be on the meta
    device.
    """
    config: Any = getattr(root, "config", None)
    inputs: dict[str, Any]
    device = next((parameter.device for parameter in root.parameters()), None)
    match getattr(root, "main_input_name", None):
        case "input_ids":
            special = (config.pad_token_id, config.bos_token_id, config.eos_token_id)
            plain = [token for token in range(12) if token not in special]
            ids = torch.tensor([plain[:4]], device=device)
            inputs = {"input_ids": ids}
            if getattr(config, "is_encoder_decoder", False):
                inputs["decoder_input_ids"] = ids
            if hasattr(config, "use_cache"):
                inputs["use_cache"] = False
        case "pixel_values" if hasattr(config, "image_size"):
            size = config.image_size
            height, width = size if isinstance(size, tuple | list) else (size, size)
            shape = (1, getattr(config, "num_channels", 3), height, width)
            dtype = next(root.parameters()).dtype
            inputs = {"pixel_values": torch.zeros(shape, device=device, dtype=dtype)}
        case _:
            return None

    def run() -> None:
        with _NoPadding():
            root(**inputs)

    return run


class _NoPadding(TorchFunctionMode):
    """Answers what transformers asks about tokens on the meta device: none of them is padding."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in (torch.Tensor.__bool__, torch.Tensor.__contains__) and args[0].is_meta:
            return func is torch.Tensor.__bool__
        return func(*args, **(kwargs or {}))
