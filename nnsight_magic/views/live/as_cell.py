"""A place of a view as the text of a cell, where somebody can write one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.live.view import Answer

Cells = Callable[[int, int], str]  # of two places, such as a row and a position


def cell_at(cells: Cells | None, at: Any, size: Sequence[int]) -> Answer:
    """The answer to the question `cell`.

    Args:
        cells: who writes the cell.
        at: the places, as a page may send anything.
        size: how many of each there are.

    Raises:
        BadInputError: there is no such place, or nobody writes one.
    """
    if cells is None:
        raise BadInputError("There is no cell for this: nothing says what was run.")
    sound = isinstance(at, list | tuple) and len(at) == len(size)
    sound = sound and all(type(k) is int and 0 <= k < n for k, n in zip(at, size, strict=True))
    if not sound:
        raise BadInputError(f"There is no place {at!r:.60} among {tuple(size)}.")
    return {"text": str(cells(at[0], at[1]))}, []
