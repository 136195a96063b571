"""Grids of numbers as analyses give them, for pictures: maps, one that is not full, and bars."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from nnsight_magic.analyses import Along, Result, with_axes

TOKENS = ["The", " Col", "osse", "um", " is", " in", " the", " city", " of"]


def _values(generator: np.random.Generator, *shape: int) -> np.ndarray:
    """Mostly small, with a few that stand out to both sides."""
    values = 0.2 * generator.standard_normal(shape)
    flat = values.reshape(-1)
    flat[[flat.size // 3, flat.size // 2]] = 4.0, -2.5
    return values


def _grid(name: str, values: np.ndarray, along: list[Along], **attrs: Any) -> Result:
    title = "change of the logit difference ' Paris' - ' Rome'"
    return with_axes(values, along, name, {"title": title, "baseline": -8.7, **attrs})


def grids() -> dict[str, Result]:
    """The results, by what they are."""
    numbers = partial(_values, np.random.default_rng(3))  # the same in light and in dark
    layer, position = Along("layer", range(30)), Along("position", range(9), TOKENS)
    part = numbers(30, 9)
    part[15:] = np.nan
    few = [Along("layer", range(0, 30, 6)), position, Along("head", range(4))]
    names = ["embed", *(f"{half} {k}" for k in range(8) for half in ("attn", "mlp"))]
    errors = _grid("ablated", numbers(30), [layer])
    spread = 0.1 + 0.2 * np.abs(numbers(30)).astype(np.float32)
    return {
        "layer and position": _grid("patched", numbers(30, 9), [layer, position], reference=2.9),
        "stopped": _grid("effect", part, [layer, position], points=270, run=135),
        "three axes": _grid("patched", numbers(5, 9, 4), few),
        "parts": _grid("dla", numbers(17), [Along("part", names)]),
        "with errors": errors.assign_coords(standard_error=("layer", spread)),
    }
