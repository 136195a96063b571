"""What a tensor view shows now: its state, made sound, and the values that it draws.

A view's state may also come from the page, where anything can be set. What makes no sense counts as
not set, as it does in the live seen.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsight_magic.errors import BadInputError, GoneError
from nnsight_magic.views.data.array import Ends
from nnsight_magic.views.data.colouring import Limits, automatic, outside, standing_out
from nnsight_magic.views.data.cut import Cut, Window
from nnsight_magic.views.data.tensor import TensorData
from nnsight_magic.views.data.wire import AxisState


@dataclass(frozen=True)
class Seen:
    """A tensor, and the state of its view as it is set, sound or not; see `live.tensor.TensorView`
    for what each part of the state means."""

    tensor: TensorData
    title: str
    expression: str
    axes: Sequence[Mapping[str, Any]]
    drawn: Sequence[int]
    index: Sequence[int]
    window: Sequence[int]
    part: str
    ordered: bool
    limits: Sequence[float]
    palette: str
    scale: Mapping[str, Any]
    empty: str = ""
    spread: tuple[float, ...] = ()

    @property
    def in_words(self) -> str:
        """`resid (1, 9, 576) float32, cpu`."""
        array = self.tensor.array
        return f"{self.title or 'tensor'} {tuple(array.shape)} {array.dtype}, {array.device}"


@dataclass(frozen=True)
class Drawn:
    """The values of a picture, one a block, and how they are coloured.

    `outside` tells whether values lie below the limits and above them.
    """

    values: np.ndarray
    cut: Cut
    window: Window
    block: tuple[int, int]
    limits: Limits
    palette: str
    outside: tuple[bool, bool]


def axes_of(seen: Seen) -> list[AxisState]:
    """Roles and labels of all axes, those of the prompt that is looked at."""
    shape = seen.tensor.array.shape
    drawn, index = _drawn_of(seen), _index_of(seen)
    given = list(seen.axes) if len(seen.axes) == len(shape) else [{}] * len(shape)
    axes: list[AxisState] = []
    for k, (size, axis) in enumerate(zip(shape, given, strict=True)):
        labels: Any = axis.get("labels")
        words = seen.tensor.labels.of(k, drawn, index)
        if words is None:
            sound = isinstance(labels, list | tuple) and all(isinstance(w, str) for w in labels)
            words = [*labels] if sound else []
        role = axis.get("role")
        axes.append(
            {
                "role": role if isinstance(role, str) and role else "axis",
                "size": size,
                "labels": words,
            }
        )
    return axes


def cut_of(seen: Seen) -> Cut:
    """Which plane the view shows, and which part of it."""
    shape = seen.tensor.array.shape
    (down, across), index = _drawn_of(seen), _index_of(seen)
    size = (shape[down] if down >= 0 else 1, shape[across] if across >= 0 else 1)
    part = seen.part if seen.tensor.array.complex else "real"
    order = None
    if seen.ordered and across >= 0:
        order = _order(seen, [down, across], list(index), part)
    return Cut((down, across), index, size, _window(seen.window, size), part, order)


def _drawn_of(seen: Seen) -> tuple[int, int]:
    """The axis down and the one across: those set, those drawn at first, or the last two."""
    rank = len(seen.tensor.array.shape)
    if not rank:
        return -1, -1
    drawn = _drawn(seen.drawn, rank) or _drawn(seen.tensor.stored.get("drawn"), rank)
    return drawn or ((-1, 0) if rank == 1 else (rank - 2, rank - 1))


def _index_of(seen: Seen) -> tuple[int, ...]:
    shape = seen.tensor.array.shape
    fits = len(seen.index) == len(shape)
    return tuple(
        at if fits and 0 <= at < size else 0
        for at, size in zip(seen.index if fits else shape, shape, strict=True)
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


def _order(seen: Seen, axes: list[int], index: list[int], part: str) -> np.ndarray | None:
    try:
        return seen.tensor.order(axes, index, part)
    except (BadInputError, GoneError):
        return None


def colouring_of(seen: Seen, cut: Cut) -> tuple[Limits, str]:
    """Limits and palette: those chosen, else those that fit."""
    limits, palette = automatic(seen.scale or _stats(seen, cut), cut.size)
    chosen = tuple(seen.limits)
    if len(chosen) == 2 and all(map(math.isfinite, chosen)) and chosen[0] < chosen[1]:
        limits = chosen
    return limits, palette if seen.palette == "auto" else seen.palette


def _stats(seen: Seen, cut: Cut) -> Mapping[str, Any]:
    """Of the part and the axes that are drawn; of those at first where the tensor is gone."""
    stored = seen.tensor.stored
    if stored.get("part", "real") == cut.part and stored.get("axes") == list(cut.drawn):
        return seen.tensor.stats
    try:
        return seen.tensor.statistics(cut.part, list(cut.drawn), list(cut.index))
    except GoneError:
        return seen.tensor.stats


def drawn_by(seen: Seen, size: tuple[int, int]) -> Drawn | None:
    """What the view shows, in at most `size` blocks; `None` where nothing is left to show."""
    if not seen.tensor.array.size:
        return None
    cut = cut_of(seen)
    found = ends_of(seen, cut, size)
    if found is None:
        return None
    ends, cut = found
    limits, palette = colouring_of(seen, cut)
    values = standing_out(ends.low, ends.high, limits, palette)
    beyond = outside(np.concatenate([ends.low, ends.high]), limits)
    return Drawn(values, cut, ends.window, ends.block, limits, palette, beyond)


def ends_of(seen: Seen, cut: Cut, size: tuple[int, int]) -> tuple[Ends, Cut] | None:
    """The ends of the blocks, from the tensor or, where it is gone, from what was stored of it.

    With them the cut that they are of: another one where nothing else was stored.
    """
    stored = seen.tensor.first_ends(cut)
    if stored is not None and stored.low.shape != stored.high.shape:
        stored = None
    if stored is not None and cut.window == stored.window and _fine(stored, size):
        return _fewer(stored, size), cut
    try:
        ends = seen.tensor.array.ends(cut.drawn, cut.index, cut.window, size, cut.part, cut.order)
        return ends, cut
    except (GoneError, BadInputError):
        pass
    if stored is not None:
        return _fewer(_within(stored, cut.window), size), cut
    return _at_first(seen, cut, size)


def _fine(ends: Ends, size: tuple[int, int]) -> bool:
    """Whether these blocks are pooled, and as small as is asked for."""
    top, bottom, left, right = ends.window
    asked = [-(-(bottom - top) // max(1, size[0])), -(-(right - left) // max(1, size[1]))]
    pooled = ends.low is not ends.high
    return pooled and ends.block[0] <= asked[0] and ends.block[1] <= asked[1]


def _at_first(seen: Seen, cut: Cut, size: tuple[int, int]) -> tuple[Ends, Cut] | None:
    """The plane that was stored, where the tensor is gone and another one is wanted."""
    first = seen.tensor.first_cut
    if first is None:
        return None
    ends = seen.tensor.first_ends(first)
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
