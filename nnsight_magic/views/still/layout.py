"""How large a plane is drawn, and which of its rows and columns are named.

The front end's `tensor/viewport.ts` lays out the live views in the same way.
"""

from __future__ import annotations

import itertools

LARGEST_CELL = 44.0
WIDENED = 360.0  # a map of few columns is made this wide


def plot_size(room: float, tallest: float, rows: int, columns: int) -> tuple[int, int]:
    """Width and height in pixels.

    Planes of like sides get square values, or, where they are few columns, broader ones; others
    fill the width.
    """
    ratio = rows / columns
    if 0.34 < ratio < 4:
        cell = min(room / columns, tallest / rows, LARGEST_CELL)
        width, height = cell * columns, cell * rows
        if rows > columns:
            width = max(width, min(3 * width, columns * LARGEST_CELL, WIDENED, room))
    elif ratio >= 4:
        width = min(room, max(columns * 6, min(columns * LARGEST_CELL, 200)))
        height = min(tallest, rows * LARGEST_CELL)
    else:
        width = min(room, columns * LARGEST_CELL)
        height = min(tallest, max(rows * 5, min(rows * 18, 280), 28))
    return max(8, round(width)), max(14, round(height))


def ticks(begin: int, end: int, pixels: float, apart: float) -> list[int]:
    """Places along an axis that are named: a round step apart, so that names do not touch."""
    least = (end - begin) / max(1, int(pixels // apart))
    step = 1
    for k in itertools.count():
        if step >= least:
            break
        step = (1, 2, 5)[k % 3] * 10 ** (k // 3)
    return list(range(-(-begin // step) * step, end, step))
