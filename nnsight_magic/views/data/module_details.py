"""What a module has of its own: parameters with their statistics, and the text of its `forward`."""

from __future__ import annotations

import inspect
import textwrap
from typing import Any

from nnsight_magic.views.data.array import Array

SOURCE = 20_000  # characters
TENSORS = 64


def details(module: Any) -> dict[str, Any]:
    """What a tree shows beside a module that is selected.

    Returns:
        `tensors`, the first parameters and buffers of the module itself, each with its name, shape,
        dtype, device, and statistics where it has values; `source` and `where`, as
        `forward_source` gives them.
    """
    own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
    source, where = forward_source(module)
    tensors = [_summary(name, tensor) for name, tensor in own[:TENSORS]]
    return {"tensors": tensors, "source": source, "where": where}


def _summary(name: str, tensor: Any) -> dict[str, Any]:
    """A parameter or buffer with its statistics, where it has values."""
    facts: dict[str, Any] = {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "device": str(tensor.device),
        "grad": bool(tensor.requires_grad),
    }
    if not tensor.is_meta and tensor.numel():
        facts["stats"] = Array(tensor.detach()).statistics("abs" if tensor.is_complex() else "real")
    return facts


def forward_source(module: Any) -> tuple[str, str]:
    """The text of a module's `forward` and the file and line it is at; "" where it has none."""
    import torch

    forward = getattr(module.forward, "__func__", module.forward)
    forward = inspect.unwrap(forward)
    if forward is torch.nn.Module.forward:  # of a container, which only raises
        return "", ""
    try:
        lines, first = inspect.getsourcelines(forward)
        file = inspect.getsourcefile(forward) or ""
    except (OSError, TypeError):
        return "", ""
    return textwrap.dedent("".join(lines))[:SOURCE], f"{file}:{first}"
