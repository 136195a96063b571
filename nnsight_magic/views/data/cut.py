"""Which plane is cut out of a tensor for a picture."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

Window = tuple[int, int, int, int]  # top, bottom, left, right, in values


@dataclass(frozen=True)
class Cut:
    """Which plane of a tensor is drawn, and which part of that plane.

    `drawn` is the axis down and the one across, -1 for none; `size` the plane's rows and columns,
    `window` the values of it that are seen. `order` has the columns by their norm, or is `None`.
    """

    drawn: tuple[int, int]
    index: tuple[int, ...]
    size: tuple[int, int]
    window: Window
    part: str
    order: np.ndarray | None
