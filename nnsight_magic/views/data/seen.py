"""What a tensor view shows now: its state, made sound, and the values that it draws.

A view's state may also come from the page, where anything can be set. What makes no sense counts as
not set, as it does in the live view.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.array import Ends, GoneError
from nnsight_magic.views.data.colouring import Limits, automatic, outside, standing_out

if TYPE_CHECKING:
    from nnsight_magic.views.live.tensor import TensorView

Window = tuple[int, int, int, int]


@dataclass(frozen=True)
class Place:
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


@dataclass(frozen=True)
class Drawn:
    """The values of a picture, one a block, and how they are coloured.

    `outside` tells whether values lie below the limits and above them.
    """

    values: np.ndarray
    place: Place
    window: Window
    block: tuple[int, int]
    limits: Limits
    palette: str
    outside: tuple[bool, bool]


def axes_of(view: TensorView) -> list[dict[str, Any]]:
    """Roles and labels of all axes, those of the prompt that is looked at."""
    shape = view.array.shape
    drawn, index = _drawn_of(view), _index_of(view)
    given = list(view.axes) if len(view.axes) == len(shape) else [{}] * len(shape)
    axes = []
    for k, (size, axis) in enumerate(zip(shape, given, strict=True)):
        labels = axis.get("labels")
        words = view.labels.of(k, drawn, index)
        sound = isinstance(labels, list | tuple) and all(isinstance(w, str) for w in labels)
        role = axis.get("role")
        axes.append(
            {
                "role": role if isinstance(role, str) and role else "axis",
                "size": size,
                "labels": words if words is not None else list(labels) if sound else [],
            }
        )
    return axes


def place_of(view: TensorView) -> Place:
    """The place that the view is at."""
    shape = view.array.shape
    (down, across), index = _drawn_of(view), _index_of(view)
    size = (shape[down] if down >= 0 else 1, shape[across] if across >= 0 else 1)
    part = view.part if view.array.complex else "real"
    order = None
    if view.ordered and across >= 0:
        order = _order(view, [down, across], list(index), part)
    return Place((down, across), index, size, _window(view.window, size), part, order)


def _drawn_of(view: TensorView) -> tuple[int, int]:
    """The axis down and the one across: those set, those drawn at first, or the last two."""
    rank = len(view.array.shape)
    if not rank:
        return -1, -1
    drawn = _drawn(view.drawn, rank) or _drawn(view.stored.get("drawn"), rank)
    return drawn or ((-1, 0) if rank == 1 else (rank - 2, rank - 1))


def _index_of(view: TensorView) -> tuple[int, ...]:
    shape = view.array.shape
    fits = len(view.index) == len(shape)
    return tuple(
        at if fits and 0 <= at < size else 0
        for at, size in zip(view.index if fits else shape, shape, strict=True)
    )


def _drawn(given: Sequence[int] | None, rank: int) -> tuple[int, int] | None:
    if not given or len(given) != 2:
        return None
    named = [axis for axis in given if axis != -1]
    sound = all(0 <= axis < rank for axis in named) and len(set(named)) == len(named)
    return (given[0], given[1]) if sound and (named or not rank) else None


def _window(given: Sequence[int], size: tuple[int, int]) -> Window:
    if len(given) == 4:
        top, bottom, left, right = given
        if 0 <= top < bottom <= size[0] and 0 <= left < right <= size[1]:
            return top, bottom, left, right
    return 0, size[0], 0, size[1]


def _order(view: TensorView, axes: list[int], index: list[int], part: str) -> np.ndarray | None:
    try:
        return view.order(axes, index, part)
    except (BadInputError, GoneError):
        return None


def colouring_of(view: TensorView, place: Place) -> tuple[Limits, str]:
    """Limits and palette: those chosen, else those that fit."""
    limits, palette = automatic(view.scale or _stats(view, place), place.size)
    chosen = tuple(view.limits)
    if len(chosen) == 2 and all(map(math.isfinite, chosen)) and chosen[0] < chosen[1]:
        limits = chosen
    return limits, palette if view.palette == "auto" else view.palette


def _stats(view: TensorView, place: Place) -> Mapping[str, Any]:
    """Of the part and the axes that are drawn; of those at first where the tensor is gone."""
    stored = view.stored
    if stored.get("part", "real") == place.part and stored.get("axes") == list(place.drawn):
        return view.stats
    try:
        return view.statistics(place.part, list(place.drawn), list(place.index))
    except GoneError:
        return view.stats


def drawn_by(view: TensorView, size: tuple[int, int]) -> Drawn | None:
    """What the view shows, in at most `size` blocks; `None` where nothing is left to show."""
    if not view.array.size:
        return None
    place = place_of(view)
    found = ends_of(view, place, size)
    if found is None:
        return None
    ends, place = found
    limits, palette = colouring_of(view, place)
    values = standing_out(ends.low, ends.high, limits, palette)
    beyond = outside(np.concatenate([ends.low, ends.high]), limits)
    return Drawn(values, place, ends.window, ends.block, limits, palette, beyond)


def ends_of(view: TensorView, place: Place, size: tuple[int, int]) -> tuple[Ends, Place] | None:
    """The ends of the blocks, from the tensor or, where it is gone, from what was stored of it.

    The place comes back as it is: another one where nothing else was stored.
    """
    stored = view.first_ends(place)
    if stored is not None and stored.low.shape != stored.high.shape:
        stored = None
    if stored is not None and place.window == stored.window and _fine(stored, size):
        return _fewer(stored, size), place
    try:
        ends = view.array.ends(
            place.drawn, place.index, place.window, size, place.part, place.order
        )
        return ends, place
    except (GoneError, BadInputError):
        pass
    if stored is not None:
        return _fewer(_within(stored, place.window), size), place
    return _at_first(view, place, size)


def _fine(ends: Ends, size: tuple[int, int]) -> bool:
    """Whether these blocks are pooled, and as small as is asked for."""
    top, bottom, left, right = ends.window
    asked = [-(-(bottom - top) // max(1, size[0])), -(-(right - left) // max(1, size[1]))]
    pooled = ends.low is not ends.high
    return pooled and ends.block[0] <= asked[0] and ends.block[1] <= asked[1]


def _at_first(view: TensorView, place: Place, size: tuple[int, int]) -> tuple[Ends, Place] | None:
    """The plane that was stored, where the tensor is gone and another one is wanted."""
    if view.stored.get("form") != "plane":
        return None
    shape = view.array.shape
    drawn = tuple(view.stored["drawn"])
    rows, columns = (shape[axis] if axis >= 0 else 1 for axis in drawn)
    first = Place(
        drawn,
        tuple(view.stored["index"]),
        (rows, columns),
        (0, rows, 0, columns),
        view.stored["part"],
        None,
    )
    ends = view.first_ends(first)
    return None if ends is None else (_fewer(ends, size), first)


def _within(ends: Ends, window: Window) -> Ends:
    """The blocks in which a window lies."""
    top, bottom, left, right = window
    (high, wide), (first, _, start, _) = ends.block, ends.window
    rows = slice((top - first) // high, -(-(bottom - first) // high))
    columns = slice((left - start) // wide, -(-(right - start) // wide))
    low = ends.low[rows, columns]
    above = low if ends.low is ends.high else ends.high[rows, columns]
    return Ends(low, above, window, ends.block)


def _fewer(ends: Ends, size: tuple[int, int]) -> Ends:
    """At most `size` blocks."""
    down, across = (
        max(1, -(-have // max(1, most))) for have, most in zip(ends.low.shape, size, strict=True)
    )
    if down == across == 1:
        return ends
    low, high = (
        reduce.reduceat(
            reduce.reduceat(values, np.arange(0, values.shape[0], down), axis=0),
            np.arange(0, values.shape[1], across),
            axis=1,
        )
        for reduce, values in ((np.minimum, ends.low), (np.maximum, ends.high))
    )
    return Ends(low, high, ends.window, (ends.block[0] * down, ends.block[1] * across))
