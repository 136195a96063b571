"""Some numbers of every weight, to notice writes that leave no other trace.

A write through `.data`, through memory that numpy shares or by a kernel of another library leaves
a tensor's identity, address and version as they are. So numbers of it are compared: of a matrix of
R rows and C columns max(R, C) of them, which lie on a lattice.

    index (i, i·g mod C) for every row i          g about C / 1.618, without a factor in common

It meets every row and every column, so a row, a column or a head that is overwritten shows; and
as the lattice is spread as evenly as can be, so does any rectangle of more than some 3·min(R, C)
numbers. A few single numbers can escape. To read every number would cost a third of what a short
prompt's forward costs on a CPU.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import nn

from nnsight_magic.engine.values.inner_tensors import inner_tensors, plain_alias
from nnsight_magic.engine.values.plainly import plainly

MOST = 1 << 20  # numbers of one tensor; only packed and very large ones have more on the lattice
_GOLDEN = (math.sqrt(5) - 1) / 2
_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Weights:
    """The numbers of a model's weights that are looked at, part by part.

    Args:
        modules: the modules of each part, by its number.
    """

    def __init__(self, modules: Callable[[int], list[nn.Module]]):
        self._modules = modules
        self._looks: dict[int, _Look] = {}
        self._then: dict[int, list[torch.Tensor]] = {}
        self._lattices: dict[Any, torch.Tensor] = {}  # by the layout of a tensor

    def hold(self, parts: Iterable[int]) -> bool:
        """Whether the numbers of these parts are those of the first look at each."""
        for part in parts:
            now = self.now(part)
            then = self._then.setdefault(part, now)
            if then is not now and not all(map(torch.equal, now, then)):
                return False
        return True

    def now(self, part: int) -> list[torch.Tensor]:
        """The numbers as they are, in bits; one tensor for each width and device."""
        look = self._looks.get(part)
        if look is None:
            look = self._looks[part] = _Look(self._modules(part), self._lattices)
        return look.now()


class _Look:
    """Where the numbers of some modules' tensors are."""

    def __init__(self, modules: list[nn.Module], lattices: dict[Any, torch.Tensor]):
        # Of a vector every number is looked at: nothing has to be picked out of it.
        groups: dict[tuple, list[tuple[torch.Tensor, torch.Tensor | None]]] = {}
        for tensor in _tensors_of(modules):
            bits = _bits(tensor)
            if bits.ndim == 1 and bits.is_contiguous() and len(bits) <= MOST:
                groups.setdefault((bits.dtype, bits.device), []).append((bits, None))
                continue
            layout = (bits.shape, bits.stride(), bits.device)
            if layout not in lattices:
                lattices[layout] = lattice(bits.shape, bits.stride()).to(bits.device)
            span = 1 + sum((n - 1) * step for n, step in zip(*layout[:2], strict=True))
            flat = bits.as_strided((span,), (1,))
            groups.setdefault((bits.dtype, bits.device), []).append((flat, lattices[layout]))
        self._groups = [*groups.values()]

    def now(self) -> list[torch.Tensor]:
        return [
            torch.cat([flat if at is None else flat.index_select(0, at) for flat, at in group])
            for group in self._groups
        ]


def lattice(shape: Iterable[int], strides: Iterable[int]) -> torch.Tensor:
    """Offsets into the memory of a tensor: of its two longest axes, for every index of the others.

    A vector is looked at as a whole.

    >>> lattice((3, 5), (5, 1)).tolist()
    [0, 11, 7, 3, 14]
    """
    axes = sorted(zip(shape, strides, strict=True))
    length, step = axes.pop() if axes else (1, 0)
    width, step_across = axes.pop() if axes else (1, 0)
    shift = _shift(width)
    along = torch.arange(length)
    offsets = along * step + (along * shift % width) * step_across
    for count, stride in axes:
        offsets = (torch.arange(count)[:, None] * stride + offsets).reshape(-1)
    offsets = offsets[:: -(-len(offsets) // MOST)]
    return offsets.int() if int(offsets.max()) < 2**31 else offsets


def _shift(width: int) -> int:
    """How far the lattice moves across at every index: evenly spread where quotients are small.

    Euclid's algorithm on shift and width gives them; only with a greatest common divisor of 1 is
    every index met.
    """
    middle, found = round(width * _GOLDEN), {}
    for shift in range(max(1, middle - 16), min(width, middle + 17)):
        greater, less, largest = width, shift, 0
        while less:
            largest = max(largest, greater // less)
            greater, less = less, greater % less
        if greater == 1:
            found[shift] = largest
    return min(found, key=found.__getitem__, default=1)


def _tensors_of(modules: list[nn.Module]) -> Iterator[torch.Tensor]:
    """Parameters, buffers and other tensors of these modules themselves, without doubles."""
    held = {
        id(each): each
        for module in modules
        for each in (
            *module._parameters.values(), *module._buffers.values(), *vars(module).values()
        )
        if isinstance(each, torch.Tensor)
    }  # fmt: skip
    for tensor in held.values():
        yield from _plain_parts(tensor)


def _plain_parts(tensor: torch.Tensor) -> Iterator[torch.Tensor]:
    """The memory that a tensor's numbers are in, as plain tensors."""
    for held in map(plain_alias, inner_tensors(tensor)):
        for part in _dense_parts(_of_no_class(held)):
            if part.numel() and part.device.type != "meta" and not part.is_quantized:
                yield part


def _of_no_class(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor without its graph, as one of torch's own: a subclass is not asked any more."""
    numbers = plainly(torch.Tensor.detach, tensor)
    if type(numbers) is torch.Tensor:
        return numbers
    return plainly(torch.Tensor.as_subclass, numbers, torch.Tensor)


def _dense_parts(tensor: torch.Tensor) -> list[torch.Tensor]:
    """A sparse tensor's values and their places; any other itself."""
    if tensor.layout is torch.strided:
        return [] if tensor.is_nested else [tensor]
    if tensor.layout is torch.sparse_coo:
        return [tensor._indices(), tensor._values()]
    if tensor.layout in (torch.sparse_csr, torch.sparse_bsr):
        return [tensor.crow_indices(), tensor.col_indices(), tensor.values()]
    if tensor.layout in (torch.sparse_csc, torch.sparse_bsc):
        return [tensor.ccol_indices(), tensor.row_indices(), tensor.values()]
    return []


def _bits(tensor: torch.Tensor) -> torch.Tensor:
    """The same memory as integers: whatever is not a number is equal to itself too."""
    if tensor.is_complex():
        tensor = torch.view_as_real(tensor.resolve_conj())
    return tensor.view(_BITS[tensor.element_size()])
