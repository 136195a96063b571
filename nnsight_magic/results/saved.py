"""A saved value in words, for the table of what a cell saved."""

from __future__ import annotations

import weakref
from typing import Any

from nnsight_magic.results.record import SavedVariable

MOST_STACKED = 1 << 26  # bytes of a list of tensors that is looked at as one


def describe_saved(name: str, where: str, value: Any, stepped: bool = False) -> SavedVariable:
    """What a table can say about a saved value."""
    import torch

    if isinstance(value, torch.Tensor):
        return SavedVariable(
            name,
            "tensor",
            tuple(value.shape),
            str(value.dtype).removeprefix("torch."),
            str(value.device),
            where,
            value.numel() * value.element_size(),
            weakref.ref(value),
            stepped,
        )
    if hasattr(value, "dims") and hasattr(value, "nbytes"):  # numbers with named axes
        shape, dtype = tuple(value.shape), str(value.dtype)
        kind = type(value).__name__
        return SavedVariable(name, kind, shape, dtype, "cpu", where, int(value.nbytes))
    tensors = list(_tensors_in(value))
    size = sum(each.numel() * each.element_size() for each in tensors)
    kind = type(value).__name__
    if isinstance(value, list | tuple | dict | set):
        kind = f"{kind} of {len(value)}"
    elif isinstance(value, int | float | bool | str):
        text = repr(value)
        kind = f"{kind} {text if len(text) < 30 else text[:29] + '…'}"
    shapes = {tuple(each.shape) for each in tensors}
    shape = next(iter(shapes)) if len(shapes) == 1 else None
    dtypes = {str(each.dtype).removeprefix("torch.") for each in tensors}
    devices = {str(each.device) for each in tensors}
    refs = ()
    if isinstance(value, list | tuple) and len(tensors) == len(value) and size <= MOST_STACKED:
        alike = shape is not None and len(dtypes) == len(devices) == 1
        refs = tuple(map(weakref.ref, tensors)) if alike else ()
    dtype, device = ", ".join(sorted(dtypes)), ", ".join(sorted(devices))
    parts = () if refs or not tensors else _parts(name, value)
    return SavedVariable(name, kind, shape, dtype, device, where, size, refs=refs, parts=parts)


def _parts(name: str, value: Any) -> tuple[SavedVariable, ...]:
    """The tensors in a container by their names, such as `h['a'][0]`."""
    # Here, since lists of what is saved are printed before anything has loaded numpy.
    from nnsight_magic.views.data.containers import found_in, is_container

    if not is_container(value):
        return ()
    tensors = found_in(value, name).tensors.items()
    return tuple(describe_saved(own, own, each) for own, each in tensors)


def _tensors_in(value: Any, depth: int = 4):
    import torch

    if isinstance(value, torch.Tensor):
        yield value
    elif depth and isinstance(value, list | tuple | set):
        for item in value:
            yield from _tensors_in(item, depth - 1)
    elif depth and isinstance(value, dict):
        for item in value.values():
            yield from _tensors_in(item, depth - 1)
