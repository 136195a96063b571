"""A tensor as views see it: any rank and kind, drawn two axes at a time, never copied whole."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsight_magic.errors import BadInputError, GoneError
from nnsight_magic.views.data.dense import as_tensor, reader
from nnsight_magic.views.data.levels import Coded, encode
from nnsight_magic.views.data.pooling import CHUNK, numbers, pool
from nnsight_magic.views.data.statistics import statistics_of, totals
from nnsight_magic.views.data.wire import Statistics

PARTS = ("real", "imag", "abs", "angle")
SAMPLE = 1 << 16
EXACT_STATISTICS = 1 << 22  # values up to which statistics look at every one
MOST_LOOKED_AT = 1 << 29  # values up to which they can be made to
MOST_SORTED = 1 << 26  # values of a plane whose columns can be ordered by their norm
DRAWN = (256, 512)  # blocks of a picture, about
SOME_PLANES, SOME_VALUES = 8, 1 << 22  # that are looked at for what pictures of a tensor show


@dataclass(frozen=True)
class Ends:
    """The least and the greatest value of every block, as in `Plane`."""

    low: np.ndarray
    high: np.ndarray
    window: tuple[int, int, int, int]
    block: tuple[int, int]
    sampled: bool = False


@dataclass(frozen=True)
class Plane:
    """Two axes of a tensor, or a window of them, pooled to a size that can be drawn.

    `low` and `high` have the same shape `(rows, columns)` and are the same array where nothing was
    pooled. `window` is `(top, bottom, left, right)` in values; `block` the values that one number
    stands for, down and across.
    """

    low: Coded
    high: Coded | None
    window: tuple[int, int, int, int]
    block: tuple[int, int]
    sampled: bool


class Array:
    """Reads a tensor on behalf of a view.

    `tensor` may be a torch tensor on any device, a numpy array, a number, nested lists, or a list
    of tensors of one shape. With `weak` the tensor, or any in the list, may go away, and reading
    it then raises `GoneError`. A list is stacked whenever it is read; no copy of it stays.
    """

    def __init__(self, tensor: Any, weak: bool = False) -> None:
        given, tensor = tensor, as_tensor(tensor)
        self.shape: tuple[int, ...] = tuple(tensor.shape)
        self.dtype = str(tensor.dtype).removeprefix("torch.")
        self.device = str(tensor.device)
        self.size = tensor.numel()
        self.bytes = self.size * tensor.element_size()
        self.complex = tensor.is_complex()
        self.integer = not (tensor.is_complex() or tensor.is_floating_point())
        self._tensor: Callable[[], Any] = reader(given, tensor) if weak else lambda: tensor

    @property
    def tensor(self) -> Any:
        """The torch tensor itself."""
        tensor = self._tensor()
        if tensor is None:
            raise GoneError(
                "the tensor was deleted: this shows what was stored; run its cell again for more"
            )
        return tensor

    def release(self) -> None:
        """Lets go of the tensor."""
        self._tensor = lambda: None

    def real(self, part: str = "real") -> Any:
        """The tensor as real numbers: itself, or that part of a complex one."""
        tensor = self.tensor.detach()
        if not self.complex:
            return tensor
        import torch

        ways = {"real": torch.real, "imag": torch.imag, "abs": torch.abs, "angle": torch.angle}
        if part not in ways:
            raise BadInputError(f"no part {part!r} of a complex tensor; there are {PARTS}")
        return ways[part](tensor.resolve_conj())

    def slice(self, axes: Sequence[int], index: Sequence[int], part: str = "real") -> Any:
        """A rank 2 view: `axes` are the axis drawn down (-1 for none) and the one across."""
        rows, columns = axes
        picked = self.selector(axes, index)
        tensor = self.tensor.detach()
        if tensor.ndim == 0:
            return Array(tensor).real(part).reshape(1, 1)
        plane = tensor[picked]
        plane = Array(plane).real(part)
        if plane.ndim == 1:
            return plane[None] if rows < 0 else plane[:, None]
        return plane.T if rows > columns else plane

    def selector(self, axes: Sequence[int], index: Sequence[int]) -> tuple[Any, ...]:
        """What picks a plane of the tensor; raises `BadInputError` for one that is not there."""
        rank = len(self.shape)
        drawn = [axis for axis in axes if axis >= 0]
        if len(set(drawn)) != len(drawn) or any(axis >= rank for axis in drawn):
            raise BadInputError(f"axes {list(axes)} cannot be drawn of a tensor of rank {rank}")
        if len(index) != rank:
            raise BadInputError(f"{len(index)} indices for a tensor of rank {rank}")
        for axis, at in enumerate(index):
            if axis not in drawn and not 0 <= at < self.shape[axis]:
                raise BadInputError(f"index {at} of axis {axis} of size {self.shape[axis]}")
        return tuple(slice(None) if axis in drawn else int(at) for axis, at in enumerate(index))

    def plane(
        self,
        axes: Sequence[int],
        index: Sequence[int],
        window: Sequence[int] | None = None,
        size: tuple[int, int] = (256, 256),
        part: str = "real",
        order: np.ndarray | None = None,
    ) -> Plane:
        """What is drawn, in at most `size` numbers down and across, as codes.

        `order` rearranges the columns.
        """
        ends = self.ends(axes, index, window, size, part, order)
        if ends.low is ends.high:
            coded, above = encode(ends.low), None
        else:
            both = encode(np.stack([ends.low, ends.high]))
            coded, above = Coded(both.levels, both.codes[0]), Coded(both.levels, both.codes[1])
        return Plane(coded, above, ends.window, ends.block, ends.sampled)

    def ends(
        self,
        axes: Sequence[int],
        index: Sequence[int],
        window: Sequence[int] | None = None,
        size: tuple[int, int] = (256, 256),
        part: str = "real",
        order: np.ndarray | None = None,
    ) -> Ends:
        """The same exactly."""
        plane = self.slice(axes, index, part)
        if order is not None:
            plane = _reordered(plane, order)
        height, width = plane.shape
        top, bottom, left, right = window or (0, height, 0, width)
        top, left = max(0, min(top, height)), max(0, min(left, width))
        bottom, right = max(top, min(bottom, height)), max(left, min(right, width))
        rows = max(1, -(-(bottom - top) // max(1, size[0])))
        columns = max(1, -(-(right - left) // max(1, size[1])))
        low, high, sampled = pool(plane[top:bottom, left:right], rows, columns)
        return Ends(low, high, (top, bottom, left, right), (rows, columns), sampled)

    def some_planes(
        self, axes: Sequence[int], index: Sequence[int], part: str = "real", without: bool = False
    ) -> Iterator[Ends]:
        """A few planes along these axes, from all over the tensor, pooled as a picture is.

        The one at `index` is the first; `without` leaves it out.
        """
        if not without:
            yield self.ends(axes, index, None, DRAWN, part)
        rest = [axis for axis in range(len(self.shape)) if axis not in axes]
        count = math.prod(self.shape[axis] for axis in rest)
        plane = self.size // max(1, count)
        for k in range(1, min(count, SOME_PLANES, 1 + SOME_VALUES // max(1, plane))):
            at = list(index)
            places = np.unravel_index(
                k * count // SOME_PLANES if count > SOME_PLANES else k,
                [self.shape[axis] for axis in rest],
            )
            for axis, place in zip(rest, places, strict=True):
                at[axis] = int(place)
            yield self.ends(axes, at, None, DRAWN, part)

    def order(self, axes: Sequence[int], index: Sequence[int], part: str = "real") -> np.ndarray:
        """The columns by their norm, the largest first."""
        plane = self.slice(axes, index, part)
        if plane.numel() > MOST_SORTED:
            raise BadInputError("too large to be sorted by norm; slice it first")
        squares = np.zeros(plane.shape[1])
        at_once = max(1, CHUNK // max(1, plane.shape[1]))
        for top in range(0, plane.shape[0], at_once):
            values = numbers(plane[top : top + at_once]).astype(np.float64)
            squares += np.nan_to_num(values * values, nan=np.inf, posinf=np.inf).sum(axis=0)
        return np.argsort(-squares, kind="stable")

    def text(self, index: Sequence[int]) -> str:
        """One value exactly, as Python writes it."""
        self.selector((), index)
        value = self.tensor.detach()[tuple(map(int, index))]
        if "float8" in self.dtype:
            value = value.float()
        return f"{value.item():.9g}" if self.dtype == "float32" else repr(value.item())

    def sample(self, part: str = "real") -> np.ndarray:
        """Some tens of thousands of values from all over the tensor, or all of a smaller one."""
        tensor = self.tensor.detach()
        # Along the largest axis first, and without making anything contiguous.
        while tensor.numel() > SAMPLE:
            axis = max(range(tensor.ndim), key=lambda a: tensor.shape[a])
            excess = tensor.numel() / SAMPLE
            step = min(tensor.shape[axis], max(2, int(excess)))
            step = step + 1 if step % 2 == 0 and step < tensor.shape[axis] else step
            tensor = tensor[(slice(None),) * axis + (slice(None, None, step),)]
        return numbers(Array(tensor).real(part)).ravel()

    def statistics(self, part: str = "real", exact: bool = False) -> Statistics:
        """Count, ends, mean, deviation, NaN and infinities, and a histogram.

        A large tensor is sampled, so its ends and its NaN may be missed; `exact` looks at every
        value all the same, a few million at a time.
        """
        if self.size <= EXACT_STATISTICS:
            return statistics_of(numbers(self.real(part)).ravel(), self.size)
        stats = statistics_of(self.sample(part), self.size)
        if exact and self.size <= MOST_LOOKED_AT:
            stats |= totals(self._chunks(part))
            stats["looked_at"] = self.size
        return stats

    def _chunks(self, part: str) -> Iterator[np.ndarray]:
        """All values, a few million at a time."""
        tensor = self.tensor.detach()
        if not tensor.is_contiguous():
            waiting = [tensor]
            while waiting:
                each = waiting.pop()
                if each.numel() <= CHUNK or each.ndim == 1:
                    for piece in each.split(CHUNK) if each.ndim else [each]:
                        yield numbers(Array(piece).real(part)).ravel()
                else:
                    waiting += each.unbind(0)
            return
        for piece in tensor.reshape(-1).split(CHUNK):
            yield numbers(Array(piece).real(part))


def _reordered(plane: Any, order: np.ndarray) -> Any:
    import torch

    return plane[:, torch.from_numpy(order).to(plane.device)]
