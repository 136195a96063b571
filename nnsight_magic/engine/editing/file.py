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

from nnsight_magic.engine.editing.index import LARGEST, Unusable, from_json, to_json
from nnsight_magic.errors import EditError

_FORMAT = "nnsight_magic edits 1"


class StoredWrite(NamedTuple):
    """One write as a file holds it; see `edits.Write` for what its parts mean."""

    path: str
    kind: str
    index: tuple  # pyright: ignore[reportIncompatibleMethodOverride] - which tuples have too
    operation: str
    value: Any
    call: int
    inside: tuple[str, int] | None = None


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
            row = [write.path, write.kind, index, write.operation, value, write.call]
            writes.append(row if write.inside is None else [*row, list(write.inside)])
        steps = None if edit.steps is None else list(edit.steps)
        entries.append(
            {"name": edit.name, "enabled": edit.enabled, "steps": steps, "writes": writes}
        )
    save_file(tensors, path, {"format": _FORMAT, "edits": json.dumps(entries)})


def load(path: str | Path) -> list[StoredEdit]:
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
            raise Unusable("a list of edits", entries)
        return [_edit(entry, tensors) for entry in entries]
    except KeyError as error:
        raise EditError(_damaged(path, f"{error.args[0]!r} is missing")) from None
    except (Unusable, ValueError, RecursionError) as error:
        raise EditError(_damaged(path, str(error))) from None


def _damaged(path: str | Path, why: str) -> str:
    return (
        f"{path} holds edits that cannot be read: {why}.\n"
        "Nothing of it was loaded. Write the file again with model.edits.save(path)."
    )


def _edit(entry: Any, tensors: dict[str, torch.Tensor]) -> StoredEdit:
    if not isinstance(entry, dict):
        raise Unusable("an edit", entry)
    name, enabled, steps = entry["name"], entry["enabled"], entry["steps"]
    if not isinstance(name, str) or not name:
        raise Unusable("the name of an edit", name)
    if not isinstance(enabled, bool):
        raise Unusable("true or false", enabled)
    if steps is not None:
        if not isinstance(steps, list) or not all(_is_count(step) for step in steps):
            raise Unusable("numbers of steps", steps)
        steps = tuple(steps)
    if not isinstance(entry["writes"], list):
        raise Unusable("a list of writes", entry["writes"])
    return StoredEdit(name, enabled, steps, [_write(each, tensors) for each in entry["writes"]])


def _write(row: Any, tensors: dict[str, torch.Tensor]) -> StoredWrite:
    if not isinstance(row, list) or len(row) not in (6, 7):
        raise Unusable("a write of six or seven parts", row)
    path, kind, index, operation, value, call = row[:6]
    if not all(isinstance(each, str) for each in (path, kind, operation)):
        raise Unusable("a module, a kind and an operation", row)
    if not isinstance(index, list):
        raise Unusable("a list of indices", index)
    if not _is_count(call):
        raise Unusable("the number of a call", call)
    if isinstance(value, dict):
        if not isinstance(value.get("tensor"), str) or value["tensor"] not in tensors:
            raise Unusable("the name of a tensor in the file", value)
        value = tensors[value["tensor"]]
    elif not isinstance(value, bool | int | float):
        raise Unusable("a number or a tensor", value)
    elif isinstance(value, int) and abs(value) > LARGEST:
        raise Unusable("a number that a tensor can hold", value)
    inside = _inside(row[6]) if len(row) > 6 else None
    return StoredWrite(path, kind, tuple(map(from_json, index)), operation, value, call, inside)


def _inside(found: Any) -> tuple[str, int]:
    if isinstance(found, list) and len(found) == 2:
        name, number = found
        if isinstance(name, str) and _is_count(number):
            return name, number
    raise Unusable("the name and number of an operation", found)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST
