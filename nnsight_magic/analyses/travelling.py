"""Functions of a notebook that go to other processes, with the variables that they use.

A function that a worker can import goes as its name, one of a notebook as its code and copies of
what it uses. The model is not among them: it goes as its own name, and is loaded once.
"""

from __future__ import annotations

import dis
import io
import pickle
from collections.abc import Iterator, Mapping
from types import CellType, CodeType, FunctionType, ModuleType
from typing import Any

import cloudpickle
import numpy as np
import torch

from nnsight_magic.errors import CannotTravelError

_MODEL = "the model"
_DEEP = 4
_SMALL = 2**20  # bytes of an array that are looked at


def packed(thing: Any, model: Any, variables: Mapping[str, Any]) -> bytes:
    """A thing as bytes, of which the model is no part.

    Args:
        thing: functions, prompts, places, plain data.
        model: what stands for itself.
        variables: what of the user's is in it, by name; told of where it cannot travel.

    Raises:
        CannotTravelError: something in it cannot be pickled.
    """
    try:
        return _bytes(thing, model)
    except Exception as error:
        for name, value in variables.items():
            try:
                _bytes(value, model)
            except Exception as its:
                told = f"{name}, a {type(value).__name__}, cannot go to another process: {its}"
                refused = CannotTravelError(
                    f"{told}\nMake it inside of the function, or keep numbers, texts and tensors "
                    "in the variable instead; or run without on=."
                )
                refused.variable = name
                raise refused from None
        raise CannotTravelError(
            f"This sweep cannot go to another process: {error}\nWhat travels is functions, "
            "numbers, texts, tensors and models that have a name; or run without on=."
        ) from None


def _bytes(thing: Any, model: Any) -> bytes:
    file = io.BytesIO()
    _Pickler(file, model).dump(thing)
    return file.getvalue()


def unpacked(content: bytes, model: Any) -> Any:
    """The thing again, with this model in the place of the one that it was packed with."""
    return _Unpickler(io.BytesIO(content), model).load()


class _Pickler(cloudpickle.Pickler):
    def __init__(self, file: Any, model: Any):
        super().__init__(file)
        self._model = model

    def persistent_id(self, obj: Any) -> Any:
        return _MODEL if obj is self._model else None


class _Unpickler(pickle.Unpickler):
    def __init__(self, file: Any, model: Any):
        super().__init__(file)
        self._model = model

    def persistent_load(self, pid: Any) -> Any:
        return self._model


# ── what a function uses, and whether it changes that ────────────────────────────────────


def variables_of(function: Any) -> dict[str, Any]:
    """The notebook's variables that a function uses, by name; nothing of one that is no code."""
    if not isinstance(function, FunctionType):
        return {}
    held = zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
    # A cell that is empty belongs to a name of a function around it that has no value yet.
    found = {name: cell.cell_contents for name, cell in held if cell != CellType()}
    return used_by(function.__code__, function.__globals__) | found


def used_by(code: CodeType, namespace: Mapping[str, Any]) -> dict[str, Any]:
    """The variables of a namespace that code reads, itself or in functions that it uses."""
    found: dict[str, Any] = {}
    _gather(code, namespace, found)
    return found


def _gather(code: CodeType, namespace: Mapping[str, Any], found: dict[str, Any]) -> None:
    for name in names_in(code):
        if name in namespace and name not in found:
            value = found[name] = namespace[name]
            if isinstance(value, FunctionType) and value.__globals__ is namespace:
                _gather(value.__code__, namespace, found)


def names_in(code: CodeType) -> Iterator[str]:
    """Names that code looks up, that of functions inside of it too; no attributes."""
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for each in code.co_consts:
        if isinstance(each, CodeType):
            yield from names_in(each)


def state_of(variables: Mapping[str, Any]) -> dict[str, Any]:
    """What tells whether one of these was changed in place."""
    return {
        name: _state(value)
        for name, value in variables.items()
        if not isinstance(value, ModuleType | FunctionType | type)
    }


def _state(value: Any, deep: int = 0) -> Any:
    if deep > _DEEP:
        return None
    if isinstance(value, torch.Tensor):
        return id(value), value._version
    if isinstance(value, np.ndarray):
        return id(value), value.tobytes() if value.nbytes <= _SMALL else None
    if isinstance(value, list | tuple):
        return [_state(each, deep + 1) for each in value]
    if isinstance(value, dict):
        return [(_state(k, deep + 1), _state(v, deep + 1)) for k, v in value.items()]
    if isinstance(value, bool | int | float | str | bytes):
        return value
    return (id(value), len(value)) if isinstance(value, set) else id(value)
