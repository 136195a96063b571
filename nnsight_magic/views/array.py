"""A tensor as views see it: any rank and kind, drawn two axes at a time, never copied whole."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.levels import Coded, encode
from nnsight_magic.views.pooling import CHUNK, numbers, pool

PARTS = ("real", "imag", "abs", "angle")
SAMPLE = 1 << 16
EXACT_STATISTICS = 1 << 22  # values up to which statistics look at every one
MOST_LOOKED_AT = 1 << 29  # values up to which they can be made to
MOST_SORTED = 1 << 26  # values of a plane whose columns can stand by their norm
RANKED = 1 << 14  # values that the marks of the colour scale are looked up in
BINS = 48


class GoneError(Exception):
    """The tensor is no longer in memory."""


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
        self.boolean = self.dtype == "bool"
        self._tensor: Callable[[], Any]
        if not weak:
            self._tensor = lambda: tensor
        elif is_list_of_tensors(given):
            self._tensor = partial(_stacked, [weakref.ref(each) for each in given])
        else:
            self._tensor = weakref.ref(tensor)

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
        picked = self._picked(axes, index)
        tensor = self.tensor.detach()
        if tensor.ndim == 0:
            return Array(tensor).real(part).reshape(1, 1)
        plane = tensor[picked]
        plane = Array(plane).real(part)
        if plane.ndim == 1:
            return plane[None] if rows < 0 else plane[:, None]
        return plane.T if rows > columns else plane

    def _picked(self, axes: Sequence[int], index: Sequence[int]) -> tuple[Any, ...]:
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
        """What is drawn, in at most `size` numbers down and across.

        `order` rearranges the columns.
        """
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
        if low is high:
            coded, above = encode(low), None
        else:
            both = encode(np.stack([low, high]))
            coded, above = Coded(both.levels, both.codes[0]), Coded(both.levels, both.codes[1])
        return Plane(coded, above, (top, bottom, left, right), (rows, columns), sampled)

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
        self._picked((), index)
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

    def statistics(self, part: str = "real", exact: bool = False) -> dict[str, Any]:
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


def totals(chunks: Iterable[np.ndarray]) -> dict[str, Any]:
    """What can be summed up chunk by chunk: ends, mean, deviation, norm, NaN, infinities, zeros."""
    low, high, total, squares = np.inf, -np.inf, 0.0, 0.0
    counts = {"nan": 0, "inf": 0, "zero": 0}
    finite = 0
    for chunk in chunks:
        values = chunk
        if chunk.dtype.kind == "f":
            mask = np.isfinite(chunk)
            if not mask.all():
                nan = int(np.isnan(chunk).sum())
                counts["nan"] += nan
                counts["inf"] += int(len(chunk) - mask.sum()) - nan
                values = chunk[mask]
        if not len(values):
            continue
        low, high = min(low, float(values.min())), max(high, float(values.max()))
        wide = values.astype(np.float64)
        total += float(wide.sum())
        squares += float(np.dot(wide, wide))
        counts["zero"] += int(len(values) - np.count_nonzero(values))
        finite += len(values)
    if not finite:
        return counts
    mean = total / finite
    deviation = max(0.0, squares / finite - mean * mean) ** 0.5
    ends = {"min": low, "max": high, "mean": mean, "std": deviation, "norm": squares**0.5}
    return counts | ends


def statistics_of(values: np.ndarray, size: int) -> dict[str, Any]:
    """Statistics of `values`, which stand for `size` values; finite numbers only, for JSON."""
    finite = values
    stats: dict[str, Any] = {"count": size, "looked_at": len(values)}
    if values.dtype.kind == "f":
        mask = np.isfinite(values)
        if not mask.all():
            stats["nan"] = int(np.isnan(values).sum())
            stats["inf"] = int(len(values) - mask.sum() - stats["nan"])
            finite = values[mask]
    if not len(finite):
        return stats
    wide = finite.astype(np.float64)
    low, high = float(wide.min()), float(wide.max())
    some = finite[:: max(1, len(finite) // RANKED)].astype(np.float64)
    marks = np.percentile(some, [0.5, 1, 50, 99, 99.5])
    if len(some) < 200:  # half a per cent of so few is less than one value: none is left out
        marks[0], marks[-1] = low, high
    bins, counts = histogram(wide, marks[0], marks[-1])
    stats |= {
        "min": low,
        "max": high,
        "mean": float(wide.mean()),
        "std": float(wide.std()),
        "norm": float(np.sqrt((wide * wide).sum())) if len(values) == size else None,
        "zero": int((wide == 0).sum()),
        "marks": [float(each) for each in marks],
        "bins": bins,
        "histogram": counts,
    }
    return stats


def histogram(values: np.ndarray, low: float, high: float) -> tuple[list[float], list[int]]:
    """Counts in even bins over the bulk of the values; what lies outside is in the end bins."""
    margin = (high - low) * 0.1
    low, high = max(low - margin, float(values.min())), min(high + margin, float(values.max()))
    if not 0 < high - low < np.inf:
        return [low, high], [len(values)]
    place = np.clip((values - low) / (high - low) * BINS, 0, BINS - 1).astype(np.int64)
    return [float(low), float(high)], np.bincount(place, minlength=BINS).tolist()


def _reordered(plane: Any, order: np.ndarray) -> Any:
    import torch

    return plane[:, torch.from_numpy(order).to(plane.device)]


def is_list_of_tensors(value: Any) -> bool:
    """Whether it is a list or tuple of torch tensors, all of one shape."""
    import torch

    if not isinstance(value, list | tuple) or not value:
        return False
    tensors = all(isinstance(each, torch.Tensor) for each in value)
    return tensors and len({each.shape for each in value}) == 1


def _stacked(refs: Sequence[weakref.ref]) -> Any:
    import torch

    tensors = [ref() for ref in refs]
    if any(each is None for each in tensors):
        return None
    return torch.stack([each.detach() for each in tensors])


def as_tensor(value: Any) -> Any:
    """Any array as a plain torch tensor, sharing its memory where that is possible."""
    import torch

    if isinstance(value, torch.Tensor):
        return _dense(value)
    if is_list_of_tensors(value):
        return torch.stack([_dense(each).detach() for each in value])
    if type(value).__module__.startswith("torch") and hasattr(value, "data"):
        value = value.data
    try:
        array = np.asarray(value)
        if array.dtype.kind in "OUSMmV":
            raise TypeError
        if array.dtype.byteorder not in "=|" and array.dtype.isnative is False:
            array = array.astype(array.dtype.newbyteorder("="))
        if not array.flags.writeable or any(stride < 0 for stride in array.strides):
            array = array.copy()
        return torch.from_numpy(array) if array.ndim else torch.tensor(array.item())
    except (TypeError, ValueError):
        raise BadInputError(
            f"found {type(value).__name__}; a tensor, an array or nested lists of numbers can be "
            "shown"
        ) from None


def _dense(tensor: Any) -> Any:
    """Sparse and quantized tensors in full; one without values cannot be shown."""
    import torch

    if tensor.is_meta:
        raise BadInputError(
            f"this tensor of shape {tuple(tensor.shape)} is on the meta device: it has a shape and "
            "no values; load the weights or run a trace first"
        )
    if tensor.layout != torch.strided:
        if tensor.numel() > 1 << 26:
            raise BadInputError("a sparse tensor this large cannot be shown; slice it first")
        tensor = tensor.detach().to_dense()
    return tensor.dequantize() if tensor.is_quantized else tensor
