"""Indices of edits: what may be in brackets, how it is stored, and what is changed by it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from nnsight_magic.engine.editing.behind_first import BEHIND_FIRST, BehindFirst
from nnsight_magic.engine.values.value import plain
from nnsight_magic.errors import EditError

LARGEST = 2**63 - 1  # what torch takes as an index
_BY_NAME = {"all": ..., "behind first": BEHIND_FIRST}  # what a file calls by a name


def frozen(index: Any) -> Any:
    """An index that the user's later changes do not reach: tensors, arrays and lists are copied."""
    if isinstance(index, tuple):
        return tuple(map(frozen, index))
    if isinstance(index, list | np.ndarray):
        return index.copy()
    return plain(index.detach()).clone() if isinstance(index, torch.Tensor) else index


def with_change(
    old: torch.Tensor, index: Sequence[Any], operation: str, value: Any
) -> torch.Tensor:
    """A copy of `old` with one part of it changed; `old` itself stays as it is.

    Args:
        index: one item a pair of brackets, `[0][:, -1]` as `[0, (slice(None), -1)]`; empty for all.
        operation: "set", "add" or "scale".
        value: a number, or a tensor that broadcasts to the part.

    Raises:
        EditError: there is no such part, or the value does not broadcast to it.

    >>> with_change(torch.zeros(2, 3), [(slice(None), -1)], "add", 5).tolist()
    [[0.0, 0.0, 5.0], [0.0, 0.0, 5.0]]
    """
    new = old.clone()
    if isinstance(value, torch.Tensor):
        value = value.to(device=old.device, dtype=old.dtype)
    part = new
    try:
        index = [_indexing(each) for each in index] or [...]
        for each in index[:-1]:
            part = part[each]
        at = index[-1]
        if operation == "add":
            value = part[at] + value
        elif operation == "scale":
            value = part[at] * value
        part[at] = value
    except (RuntimeError, IndexError, TypeError, ValueError, OverflowError) as error:
        raise EditError(
            f"What stands there has the shape {tuple(old.shape)}.\n"
            f"Found: {str(error).strip().splitlines()[0]}"
        ) from None
    return new


def _indexing(index: Any) -> Any:
    """Lists as tensors: torch takes some for the indices of several axes, and an empty one too.

    Raises:
        TypeError: it is a name, which torch would take for a sequence of letters.
    """
    if isinstance(index, str):
        raise TypeError(f"a tensor has no item {index!r}")
    if isinstance(index, tuple):
        return tuple(map(_indexing, index))
    if isinstance(index, list):
        mask = bool(index) and all(isinstance(each, bool) for each in index)
        return torch.tensor(index, dtype=torch.bool if mask else torch.long)
    return index


class Unusable(Exception):
    """Something in a file that no edit could have written there."""

    def __init__(self, expected: str, found: Any):
        text = repr(found)
        super().__init__(
            f"expected {expected}, found {text if len(text) < 60 else text[:59] + '…'}"
        )


def to_json(index: Any) -> Any:
    """An index as JSON can hold it.

    Raises:
        EditError: no tensor can be indexed by it, or it cannot be stored.
    """
    if index is None or isinstance(index, bool | str):
        return index
    if index is ...:
        return {"all": True}
    if isinstance(index, BehindFirst):
        return {"behind first": True}
    if isinstance(index, slice):
        return {"slice": _slice([_number(each) for each in (index.start, index.stop, index.step)])}
    if isinstance(index, torch.Tensor):
        if index.is_floating_point() or index.is_complex():
            raise EditError(f"A tensor of {index.dtype} is no index: give integers or a mask.")
        return {"tensor": index.tolist()}
    if isinstance(index, tuple):
        return {"tuple": [to_json(each) for each in index]}
    if hasattr(index, "__index__"):
        return _number(index)
    if isinstance(index, Iterable):
        items = list(index)
        if all(isinstance(each, bool) for each in items):  # a mask, and not rows 0 and 1
            return {"list": items}
        if all(hasattr(each, "__index__") for each in items):
            return {"list": [_number(each) for each in items]}
    raise EditError(
        f"{index!r} cannot be the index of an edit: it takes numbers, slices and lists."
    )


def _number(index: Any) -> int | None:
    if index is None:
        return None
    number = index.__index__()
    if abs(number) > LARGEST:
        raise EditError(f"{number} is no place in a tensor: it is too large for an index.")
    return number


def _slice(parts: list[int | None]) -> list[int | None]:
    if parts[2] is not None and parts[2] < 1:
        raise EditError(
            f"A slice with the step {parts[2]} cannot index a tensor: the step must be 1 or more."
        )
    return parts


def from_json(index: Any) -> Any:
    """The index that `to_json` stored.

    Raises:
        Unusable: it is none that `to_json` gives.
        ValueError: it is a slice by which no tensor can be indexed.

    >>> from_json(to_json((slice(1, None), [0, 2])))
    (slice(1, None, None), [0, 2])
    """
    if index is None or isinstance(index, bool | str):
        return index
    if isinstance(index, int):
        return _stored_number(index)
    if not isinstance(index, dict) or len(index) != 1:
        raise Unusable("an index", index)
    ((kind, items),) = index.items()
    if kind in _BY_NAME:
        return _BY_NAME[kind]
    if not isinstance(items, list):
        raise Unusable("an index", index)
    match kind:
        case "slice":
            if len(items) != 3 or not all(each is None or type(each) is int for each in items):
                raise Unusable("start, stop and step of a slice", items)
            try:
                return slice(*_slice([_number(each) for each in items]))
            except EditError as error:
                raise ValueError(error.message.rstrip(".")) from None
        case "tensor":
            return torch.tensor(_numbers(items))
        case "tuple":
            return tuple(map(from_json, items))
        case "list":
            return [_single(each) for each in items]
    raise Unusable("an index", index)


def _stored_number(number: int) -> int:
    if abs(number) > LARGEST:
        raise Unusable("a place in a tensor", number)
    return number


def _numbers(items: Any) -> list:
    """Whole numbers or a mask, at any depth."""
    if isinstance(items, list):
        return [_numbers(each) if isinstance(each, list) else _single(each) for each in items]
    raise Unusable("a list of places", items)


def _single(item: Any) -> int | bool:
    if isinstance(item, bool):
        return item
    if type(item) is int:
        return _stored_number(item)
    raise Unusable("a place in a tensor", item)
