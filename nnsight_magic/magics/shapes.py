"""Shapes for hints: those seen last in a cell, and those that a scan of the model tells.

Kept by model, and no longer than the model lives.
"""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from nnsight_magic.errors import NnsightError

# What a scan is made on: sizes that no model has otherwise, so that they are known again.
BATCH, TOKENS = 3, 11
_AXES = {BATCH: "batch", TOKENS: "tokens"}


class Shapes:
    """Shapes by what stands in a cell, such as `layers[3].mlp.output`."""

    def __init__(self) -> None:
        self._seen: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()
        self._scanned: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()

    def note(self, model: Any, outcome: Any) -> None:
        """Remembers the shapes of everything that a cell touched."""
        seen = self._seen.setdefault(model, {})
        if outcome.report is not None:
            for touch in outcome.report.touches:
                if touch.shape is not None:
                    seen[touch.where.partition(" at step ")[0]] = tuple(touch.shape)
        seen.update(outcome.shapes)

    def seen(self, model: Any) -> Mapping[str, tuple[int, ...]]:
        """`(1, 10, 576)` and the like, of values that cells have touched."""
        return self._seen.get(model, {})

    def known(self, model: Any) -> dict[str, str]:
        """All shapes as text: those seen last, and `(batch, tokens, 576)` where a scan was made."""
        seen = {name: str(shape) for name, shape in self.seen(model).items()}
        return {**self._scanned.get(model, {}), **seen}

    def scanned_before(self, model: Any) -> dict[str, str]:
        """Shapes of a scan that was made; none is made for it."""
        return self._scanned.get(model, {})

    def scanned(self, model: Any) -> dict[str, str]:
        """The same by a scan, which is made once: about a second for a model of 30 blocks."""
        if model not in self._scanned:
            try:
                self._scanned[model] = _scan(model)
            except (NnsightError, AttributeError, TypeError):
                self._scanned[model] = {}  # it takes no token ids, or looks at numbers
        return self._scanned[model]


def _scan(model: Any) -> dict[str, str]:
    import torch

    if not hasattr(model, "tokenizer"):
        return {}
    found = {}
    scan = model.scan(torch.zeros(BATCH, TOKENS, dtype=torch.long))
    for path, scanned in scan.items():
        name = model[path].name if path else ""
        for kind in ("input", "output"):
            shape = _shape_in(getattr(scanned, kind))
            if shape is not None:
                found[f"{name}.{kind}" if name else kind] = shape
    return found


def _shape_in(value: Any) -> str | None:
    """The shape of a scanned tensor, or of the first in a tuple, with its first axes named."""
    shape = getattr(value, "shape", None)
    if shape is None:
        inside = value if isinstance(value, tuple) else ()
        return next(filter(None, map(_shape_in, inside)), None)
    axes = [_AXES.get(size, str(size)) for size in shape]
    return f"({', '.join(axes)}{',' if len(axes) == 1 else ''})"
