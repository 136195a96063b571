"""Anything that holds numbers as a plain torch tensor, sharing its memory where it can."""

from __future__ import annotations

import re
import weakref
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from nnsight_magic.errors import BadInputError

LARGEST = 1 << 26  # values that are written out of a layout of few
# What the eight magnitudes of a four-bit float are; the fourth bit is the sign.
FLOAT4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def as_tensor(value: Any) -> Any:
    """A torch tensor of ordinary numbers in rows, from a tensor, an array, a number or lists.

    A nested or masked tensor has NaN where it has no value; two packed four-bit floats are two
    values.
    """
    import torch

    try:
        if isinstance(value, torch.Tensor):
            return _dense(value)
        if is_list_of_tensors(value):
            return torch.stack([_dense(each).detach() for each in value])
    except (RuntimeError, NotImplementedError) as error:
        first = value if isinstance(value, torch.Tensor) else value[0]
        raise BadInputError(
            f"torch cannot read the values of this tensor ({first.dtype}, {first.layout}): "
            f"{str(error).splitlines()[0][:160]}; convert it first, such as x.to_dense().float()"
        ) from None
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


def reader(given: Any, tensor: Any) -> Callable[[], Any]:
    """Reads `tensor`, made of `given`, and keeps neither alive: `None` once it is gone."""
    if is_list_of_tensors(given):
        return partial(_stacked, [weakref.ref(each) for each in given])
    import torch

    if isinstance(given, torch.Tensor) and tensor is not given:
        return partial(_converted, weakref.ref(given))
    return weakref.ref(tensor)


def is_list_of_tensors(value: Any) -> bool:
    """Whether it is a list or tuple of torch tensors, all of one shape."""
    import torch

    if not isinstance(value, list | tuple) or not value:
        return False
    tensors = all(isinstance(each, torch.Tensor) for each in value)
    return tensors and len({_shape(each) for each in value}) == 1


def _shape(tensor: Any) -> Any:
    """Its shape, or itself where it is nested and has none."""
    return tensor if tensor.is_nested else tensor.shape


def _stacked(refs: Sequence[weakref.ref]) -> Any:
    import torch

    tensors = [ref() for ref in refs]
    if any(each is None for each in tensors):
        return None
    return torch.stack([_dense(each).detach() for each in tensors])


def _converted(ref: weakref.ref) -> Any:
    tensor = ref()
    return None if tensor is None else _dense(tensor)


def _dense(tensor: Any) -> Any:
    """Every layout and every packed type in full; what has no values cannot be shown."""
    import torch

    if tensor.is_meta:
        shape = "" if tensor.is_nested else f" of shape {tuple(tensor.shape)}"
        raise BadInputError(
            f"this tensor{shape} is on the meta device: it has a shape and "
            "no values; load the weights or run a trace first"
        )
    if type(tensor).__name__ == "MaskedTensor":
        return _unmasked(tensor)
    if tensor.is_nested:
        with torch.no_grad():
            rows = [_floating(each.detach()) for each in tensor.unbind()]
            if not any(each.numel() for each in rows):  # torch pads none of those
                longest = [max(sizes) for sizes in zip(*(each.shape for each in rows), strict=True)]
                return torch.zeros(len(rows), *longest)
            return torch.nested.nested_tensor(rows).to_padded_tensor(float("nan"))
    kind: Any = type(tensor)
    plain: Any = torch.Tensor
    if kind.__torch_dispatch__ is not plain.__torch_dispatch__:
        return _dense(_unwrapped(tensor))
    if tensor.layout != torch.strided:
        if tensor.numel() > LARGEST:
            raise BadInputError("a sparse tensor this large cannot be shown; slice it first")
        tensor = _written_out(tensor.detach())
    if tensor.is_quantized:
        return tensor.dequantize()
    if "float4" in str(tensor.dtype):
        return _unpacked(tensor)
    if tensor.dtype == torch.complex32:
        return tensor.to(torch.complex64)
    name = str(tensor.dtype).removeprefix("torch.")
    if re.fullmatch("bits.*|u?int[1-7]", name):
        raise BadInputError(
            f"found a tensor of {name}, whose bits torch does not read as numbers; view it as "
            "torch.uint8 and unpack it first"
        )
    return tensor


def _unwrapped(tensor: Any) -> Any:
    """What stands for the numbers of a quantised or distributed tensor, by its class's own word."""
    import torch

    for name in ("dequantize", "full_tensor"):
        way = getattr(type(tensor), name, None)
        if way is not None and way is not getattr(torch.Tensor, name, None):
            plain = way(tensor.detach())
            if type(plain) is not type(tensor):
                return plain
    raise BadInputError(
        f"a {type(tensor).__name__} keeps its numbers in a form of its own; turn it into a plain "
        "tensor first, such as x.dequantize()"
    )


def _written_out(tensor: Any) -> Any:
    """A sparse tensor in full; torch does not write out every dtype as it is."""
    import torch

    try:
        return tensor.to_dense()
    except (RuntimeError, NotImplementedError):
        floating = tensor.dtype.is_floating_point
        return tensor.to(torch.float32 if floating else torch.int64).to_dense()


def _floating(tensor: Any) -> Any:
    """With a NaN among its numbers, where an integer has none."""
    import torch

    tensor = _dense(tensor)
    wide = torch.float64 if tensor.element_size() > 2 else torch.float32
    return tensor if tensor.is_floating_point() or tensor.is_complex() else tensor.to(wide)


def _unmasked(tensor: Any) -> Any:
    data, mask = _floating(tensor.get_data().detach()), tensor.get_mask()
    return data.masked_fill(~mask, float("nan"))


def _unpacked(tensor: Any) -> Any:
    """The first of two packed values is in the lower half of the byte."""
    import torch

    table = torch.tensor([*FLOAT4, *(-each for each in FLOAT4)], device=tensor.device)
    pairs = tensor.detach().view(torch.uint8).int()
    both = torch.stack([pairs & 15, pairs >> 4], dim=-1)
    return table[both].flatten(-2) if tensor.ndim else table[both]
