"""`layer.output` is what the layer gives; some layers have a child of that name as well.

BERT's attention has a child called `output`. Whoever asks the value for what only that child has
meant the child, and is told how it is reached.
"""

from __future__ import annotations

from typing import Any

from torch import nn

_OF_HANDLES = ("output", "input", "inputs")


def child_meant(pause: Any, name: str) -> str:
    """What to write for the child that `name` was meant of; empty where there is none."""
    touch = getattr(pause, "touch", None)
    if touch is None or touch.called is not None:
        return ""
    kinds = ("input", "inputs") if touch.kind == "input" else ("output",)
    held = pause.site.module._modules
    kind = next((kind for kind in kinds if isinstance(held.get(kind), nn.Module)), None)
    if kind is None or not (name in _OF_HANDLES or hasattr(held[kind], name)):
        return ""
    module = touch.name or "model"
    return (
        f"\n{module}.{kind} is what flows here. The module's own child of that name: "
        f'{module}["{kind}"].{name}'
    )
