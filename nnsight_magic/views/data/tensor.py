"""A tensor as a view has it: its values while it is there, and the picture of it that is stored.

The stored picture is what a view shows first, and all that it shows in a saved notebook or when the
tensor is gone: all values of a small tensor, else one plane, pooled.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsight_magic.views.data.array import Array, Ends, Plane
from nnsight_magic.views.data.colouring import all_seen, automatic, marks_of, standing_out
from nnsight_magic.views.data.cut import Cut, Window
from nnsight_magic.views.data.labels import Labels
from nnsight_magic.views.data.levels import (
    MINUS_INFINITY,
    NAN,
    PLUS_INFINITY,
    Coded,
    encode,
    pack,
)
from nnsight_magic.views.data.pooling import numbers
from nnsight_magic.views.data.wire import PlaneFacts, Statistics, StoredPicture

# What a view stores of its tensor, in values: all of a small one, else one pooled plane of half as
# many pairs.
STORED = 1 << 16


@dataclass(frozen=True)
class _First:
    """The stored picture, as codes: all values of a tensor, or the plane that `cut` tells."""

    part: str
    low: Coded
    high: Coded | None = None
    cut: Cut | None = None
    window: Window = (0, 0, 0, 0)
    block: tuple[int, int] = (1, 1)


class TensorData:
    """A tensor, the words on its axes, and what is stored of it.

    Attributes:
        array: reads the tensor; it raises `GoneError` once that is gone.
        labels: the words on the axes.
        budget: how many values are stored.
        stored: what the stored picture is of.
        stats: of the whole tensor, with what colours need to know of the planes that are drawn.
    """

    def __init__(self, array: Array, labels: Labels, budget: int = STORED) -> None:
        self.array, self.labels, self.budget = array, labels, budget
        self.stored: StoredPicture = {"form": "empty"}
        self.stats: Statistics = {"count": 0}
        self._first: _First | None = None
        self._orders: dict[tuple, np.ndarray] = {}

    @property
    def cells(self) -> int:
        """How many blocks a still picture may have: as many as are stored."""
        return self.budget if self.array.size <= self.budget else self.budget // 2

    def release(self) -> None:
        """Lets go of the tensor; what is stored stays."""
        self.array.release()
        self._orders.clear()

    # -- what is stored -----------------------------------------------------------------------

    def store(self, drawn: list[int], index: list[int], part: str) -> dict[str, Any]:
        """Makes the picture that is stored; gives it as a view's traits hold it.

        Raises:
            BadInputError: a plane that the tensor does not have.
        """
        traits, self._first = self._picture(drawn, index, part, self.budget)
        self.stored, self.stats = traits["stored"], traits["stats"]
        return traits

    def stored_in(self, drawn: list[int], index: list[int], part: str, budget: int) -> dict:
        """The same traits in another number of values; nothing of it is kept."""
        return self._picture(drawn, index, part, budget)[0]

    def _picture(
        self, drawn: list[int], index: list[int], part: str, budget: int
    ) -> tuple[dict[str, Any], _First | None]:
        """Statistics and codes as traits hold them, and the codes as they are."""
        array = self.array
        if not array.size:
            return {"stats": {"count": 0}, "stored": {"form": "empty"}}, None
        array.selector(drawn, index)
        form: StoredPicture = {"form": "none", "part": part, "axes": drawn}
        if not budget:
            return {"stats": self.statistics(part, drawn, index), "stored": form}, None
        if array.size <= budget:
            coded = encode(numbers(array.real(part)))
            stats = self.statistics(part, drawn, index)
            form["form"] = "whole"
            first, codes = _First(part, coded), coded.codes
        else:
            plane = self._pooled(drawn, index, part, budget // 2)
            stats = self.statistics(part, drawn, index, plane)
            form |= {"form": "plane", **facts_of(plane), "drawn": drawn, "index": index}
            cut = self._cut(drawn, index, part)
            first = _First(part, plane.low, plane.high, cut, plane.window, plane.block)
            coded, codes = plane.low, both(plane)
            _widen(stats, plane)
        traits = {"stats": stats, "stored": form}
        return traits | {"levels": pack(coded.levels), "codes": pack(codes)}, first

    def _pooled(self, drawn: list[int], index: list[int], part: str, budget: int) -> Plane:
        """One plane in at most `budget` pairs of numbers, shaped as the plane is."""
        height = self.array.shape[drawn[0]] if drawn[0] >= 0 else 1
        rows = min(height, math.isqrt(budget))
        return self.array.plane(drawn, index, size=(rows, budget // max(1, rows)), part=part)

    def _cut(self, drawn: list[int], index: list[int], part: str) -> Cut:
        """A whole plane."""
        down, across = drawn
        rows, columns = (self.array.shape[axis] if axis >= 0 else 1 for axis in (down, across))
        size, window = (rows, columns), (0, rows, 0, columns)
        return Cut((down, across), tuple(index), size, window, part, None)

    @property
    def first_cut(self) -> Cut | None:
        """The plane that was stored; `None` where all values were, or none."""
        return None if self._first is None else self._first.cut

    def first_ends(self, cut: Cut) -> Ends | None:
        """What was stored of a cut, as the page has it; `None` where that was not stored."""
        first = self._first
        if first is None or first.part != cut.part:
            return None
        values = first.low.values
        if first.cut is None:
            if values.ndim:
                values = values[self.array.selector(cut.drawn, cut.index)]
                if values.ndim == 2 and cut.drawn[0] > cut.drawn[1]:
                    values = values.T
            values = values.reshape(cut.size)
            if cut.order is not None:
                values = values[:, cut.order]
            return Ends(values, values, (0, cut.size[0], 0, cut.size[1]), (1, 1))
        same = all(
            at == there
            for axis, (at, there) in enumerate(zip(cut.index, first.cut.index, strict=True))
            if axis not in cut.drawn
        )
        if not same or cut.drawn != first.cut.drawn or cut.order is not None:
            return None
        above = values if first.high is None else first.high.values
        return Ends(values, above, first.window, first.block)

    # -- what is read -------------------------------------------------------------------------

    def statistics(
        self, part: str, drawn: list[int], index: list[int], plane: Plane | None = None
    ) -> Statistics:
        """Those of the array, and what colours need to know of the planes along `drawn`.

        `plane` is the one at `index`, where it is at hand.
        """
        stats = self.array.statistics(part)
        size = [self.array.shape[axis] if axis >= 0 else 1 for axis in drawn]
        if "min" not in stats or all_seen(size):
            return stats
        limits, palette = automatic(stats, (1, 1))
        pairs = [(plane.low.values, (plane.high or plane.low).values)] if plane else []
        pairs += [
            (ends.low, ends.high)
            for ends in self.array.some_planes(drawn, index, part, without=plane is not None)
        ]
        values = [standing_out(*pair, limits, palette).ravel() for pair in pairs]
        return stats | {"drawn": marks_of(np.concatenate(values))}

    def order(self, axes: list[int], index: list[int], part: str) -> np.ndarray:
        """The columns of a plane by their norm, as last asked for."""
        key = (*axes, *index, part)
        if key not in self._orders:
            self._orders = {key: self.array.order(axes, index, part)}
        return self._orders[key]


def both(plane: Plane) -> np.ndarray:
    """The codes of the least values, and behind them those of the greatest."""
    if plane.high is None:
        return plane.low.codes
    return np.stack([plane.low.codes, plane.high.codes])


def facts_of(plane: Plane) -> PlaneFacts:
    """What the browser has to know of a plane besides its codes."""
    rows, columns = plane.low.codes.shape
    return {
        "rows": rows,
        "columns": columns,
        "window": list(plane.window),
        "block": list(plane.block),
        "pair": plane.high is not None,
        "sampled": plane.sampled,
    }


def _widen(stats: Statistics, plane: Plane) -> None:
    """Adds what the plane shows and a sample may have missed: ends, and that there are NaN."""
    if len(plane.low.levels) and "min" in stats and "max" in stats:
        stats["min"] = min(stats["min"], float(plane.low.levels[0]))
        stats["max"] = max(stats["max"], float(plane.low.levels[-1]))
    codes = both(plane)
    for name, marks in (("nan", (NAN,)), ("inf", (PLUS_INFINITY, MINUS_INFINITY))):
        if np.isin(codes, marks).any():
            stats["some"] = [*stats.get("some", ()), name]
