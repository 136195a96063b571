"""A model's edits in a safetensors file: its tensors, and all else as JSON in the header.

A file may come from anywhere, so nothing of it is taken on trust: each value is looked at for its
kind and size here, before an edit is made of it. What a file says that no edit could say is an
error that names the entry, and the model's edits stay as they were.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from nnsight_magic.errors import EditError

_FORMAT = "nnsight_magic edits 1"
_LARGEST = 2**63 - 1  # what torch takes as an index


class StoredWrite(NamedTuple):
    """One write as a file holds it; see `edits.Write` for what its parts mean."""

    path: str
    kind: str
    index: tuple
    operation: str
    value: Any
    call: int


class StoredEdit(NamedTuple):
    """One edit as a file holds it."""

    name: str
    enabled: bool
    steps: tuple[int, ...] | None
    writes: list[StoredWrite]


def store(path: str | Path, edits: Iterable[StoredEdit]) -> None:
    """Write edits to a file."""
    tensors: dict[str, torch.Tensor] = {}
    entries = []
    for edit in edits:
        writes = []
        for write in edit.writes:
            value = write.value
            if isinstance(value, torch.Tensor):
                name = f"tensor {len(tensors)}"
                tensors[name] = value.contiguous()
                value = {"tensor": name}
            index = [to_json(each) for each in write.index]
            writes.append([write.path, write.kind, index, write.operation, value, write.call])
        steps = None if edit.steps is None else list(edit.steps)
        entries.append(
            {"name": edit.name, "enabled": edit.enabled, "steps": steps, "writes": writes}
        )
    save_file(tensors, path, {"format": _FORMAT, "edits": json.dumps(entries)})


def stored(path: str | Path) -> list[StoredEdit]:
    """The edits that a file holds.

    Raises:
        EditError: the file holds none, or says something that cannot be an edit.
        OSError: the file cannot be read.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise EditError(f"{path} holds no edits: {error}.") from None
    if header.get("format") != _FORMAT:
        raise EditError(f"{path} holds no edits.\nWrite one with model.edits.save(path).")
    try:
        entries = json.loads(header["edits"])
        if not isinstance(entries, list):
            raise _Unusable("a list of edits", entries)
        return [_edit(entry, tensors) for entry in entries]
    except KeyError as error:
        raise EditError(_damaged(path, f"{error.args[0]!r} is missing")) from None
    except (_Unusable, ValueError, RecursionError) as error:
        raise EditError(_damaged(path, str(error))) from None


class _Unusable(Exception):
    """Something in a file that no edit could have written there."""

    def __init__(self, expected: str, found: Any):
        text = repr(found)
        super().__init__(
            f"expected {expected}, found {text if len(text) < 60 else text[:59] + '…'}"
        )


def _damaged(path: str | Path, why: str) -> str:
    return (
        f"{path} holds edits that cannot be read: {why}.\n"
        "Nothing of it was loaded. Write the file again with model.edits.save(path)."
    )


def _edit(entry: Any, tensors: dict[str, torch.Tensor]) -> StoredEdit:
    if not isinstance(entry, dict):
        raise _Unusable("an edit", entry)
    name, enabled, steps = entry["name"], entry["enabled"], entry["steps"]
    if not isinstance(name, str) or not name:
        raise _Unusable("the name of an edit", name)
    if not isinstance(enabled, bool):
        raise _Unusable("true or false", enabled)
    if steps is not None:
        if not isinstance(steps, list) or not all(_is_count(step) for step in steps):
            raise _Unusable("numbers of steps", steps)
        steps = tuple(steps)
    if not isinstance(entry["writes"], list):
        raise _Unusable("a list of writes", entry["writes"])
    return StoredEdit(name, enabled, steps, [_write(each, tensors) for each in entry["writes"]])


def _write(row: Any, tensors: dict[str, torch.Tensor]) -> StoredWrite:
    if not isinstance(row, list) or len(row) != 6:
        raise _Unusable("a write of six parts", row)
    path, kind, index, operation, value, call = row
    if not all(isinstance(each, str) for each in (path, kind, operation)):
        raise _Unusable("a module, a kind and an operation", row)
    if not isinstance(index, list):
        raise _Unusable("a list of indices", index)
    if not _is_count(call):
        raise _Unusable("the number of a call", call)
    if isinstance(value, dict):
        if not isinstance(value.get("tensor"), str) or value["tensor"] not in tensors:
            raise _Unusable("the name of a tensor in the file", value)
        value = tensors[value["tensor"]]
    elif not isinstance(value, bool | int | float):
        raise _Unusable("a number or a tensor", value)
    elif isinstance(value, int) and abs(value) > _LARGEST:
        raise _Unusable("a number that a tensor can hold", value)
    return StoredWrite(path, kind, tuple(map(_from_json, index)), operation, value, call)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST


def to_json(index: Any) -> Any:
    """An index as JSON can hold it.

    Raises:
        EditError: no tensor can be indexed by it, or it cannot be stored.
    """
    if index is None or isinstance(index, bool | str):
        return index
    if index is ...:
        return {"all": True}
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
    if abs(number) > _LARGEST:
        raise EditError(f"{number} is no place in a tensor: it is too large for an index.")
    return number


def _slice(parts: list[int | None]) -> list[int | None]:
    if parts[2] is not None and parts[2] < 1:
        raise EditError(
            f"A slice with the step {parts[2]} cannot index a tensor: the step must be 1 or more."
        )
    return parts


def _from_json(index: Any) -> Any:
    if index is None or isinstance(index, bool | str):
        return index
    if isinstance(index, int):
        return _stored_number(index)
    if not isinstance(index, dict) or len(index) != 1:
        raise _Unusable("an index", index)
    ((kind, items),) = index.items()
    if kind == "all":
        return ...
    if not isinstance(items, list):
        raise _Unusable("an index", index)
    match kind:
        case "slice":
            if len(items) != 3 or not all(each is None or type(each) is int for each in items):
                raise _Unusable("start, stop and step of a slice", items)
            try:
                return slice(*_slice([_number(each) for each in items]))
            except EditError as error:
                raise ValueError(error.message.rstrip(".")) from None
        case "tensor":
            return torch.tensor(_numbers(items))
        case "tuple":
            return tuple(map(_from_json, items))
        case "list":
            return [_single(each) for each in items]
    raise _Unusable("an index", index)


def _stored_number(number: int) -> int:
    if abs(number) > _LARGEST:
        raise _Unusable("a place in a tensor", number)
    return number


def _numbers(items: Any) -> list:
    """Whole numbers or a mask, at any depth."""
    if isinstance(items, list):
        return [_numbers(each) if isinstance(each, list) else _single(each) for each in items]
    raise _Unusable("a list of places", items)


def _single(item: Any) -> int | bool:
    if isinstance(item, bool):
        return item
    if type(item) is int:
        return _stored_number(item)
    raise _Unusable("a place in a tensor", item)
