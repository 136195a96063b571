"""Sweeps that were stopped: the same cell run again goes on where it was.

A cell is the same if its code, its prompts, the model's weights and edits, and the variables that
it uses are. Where that cannot be told, it begins anew.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterator
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

import numpy as np
import torch

from nnsight_magic.analyses.points import Grid
from nnsight_magic.engine.memory.fingerprint import Fingerprint
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.sweep import Cell

KEPT = 8  # sweeps that were stopped, the newest
_PLAIN = (bool, int, float, complex, str, bytes, type(None))
_DEEP = 4


class NotComparable(Exception):
    """A value that cannot be told from another one."""


class Unfinished:
    """Results of sweeps that were stopped, by what they were measured with."""

    def __init__(self) -> None:
        self._kept: OrderedDict[Any, tuple[dict[int, Any], Any]] = OrderedDict()

    def of(self, key: Any) -> dict[int, Any]:
        """What is known of a sweep; nothing of one that is not."""
        return dict(self._kept[key][0]) if key is not None and key in self._kept else {}

    def keep(self, key: Any, results: dict[int, Any], alive: Any) -> None:
        """Keep the points that are finished; those that failed are run again."""
        if key is None:
            return
        good = {n: each for n, each in results.items() if not isinstance(each, Exception)}
        self._kept[key] = (good, alive)
        while len(self._kept) > KEPT:
            self._kept.popitem(last=False)

    def forget(self, key: Any) -> None:
        self._kept.pop(key, None)


def key_of(cell: Cell, points: Grid) -> tuple[Any, Any]:
    """What a sweep is told by, `None` where it cannot be; and what has to live as long."""
    model = cell.asked.model
    fingerprint = Fingerprint(model.module)
    weights = fingerprint.take(Forward)
    if weights is None:
        return None, None
    try:
        told = digest_of(cell, points)
    except NotComparable:
        return None, None
    edits = tuple((edit.name, id(edit)) for edit in model.edits.in_force)
    # What the weights are told by are addresses: they hold as long as the fingerprint lives.
    return (id(model), hash(weights), edits, told), (fingerprint, weights)


def digest_of(cell: Cell, points: Grid) -> str:
    """What a cell is told by beside the model: code, prompts, options, axes and variables.

    Raises:
        NotComparable: a variable that it uses cannot be told from another.
    """
    namespace = cell.asked.namespace
    told = hashlib.sha256()
    for part in _told((cell.program.source, cell.inputs, cell.names, *_how(cell.asked.line))):
        told.update(part)
    for axis in points.axes:
        for part in _told((axis.name, axis.values)):
            told.update(part)
    for name in sorted({use.name for use in cell.program.uses}):
        if name in namespace and name not in cell.program.bound:
            for part in _told((name, namespace[name])):
                told.update(part)
    return told.hexdigest()


def _how(line: Line) -> tuple[Any, ...]:
    """The options that have a say in the numbers."""
    texts = None if line.new_tokens is None else (line.new_tokens, line.seed, line.generation)
    return bool(line.grad), texts


def _told(value: Any, deep: int = 0) -> Iterator[bytes]:
    """Bytes that a value is told by.

    Raises:
        NotComparable: there are none.
    """
    if deep > _DEEP:
        raise NotComparable
    yield type(value).__name__.encode()
    if isinstance(value, _PLAIN):
        yield repr(value).encode()
    elif isinstance(value, torch.Tensor):
        array = value.detach().cpu().contiguous()
        yield repr((array.dtype, tuple(array.shape))).encode()
        yield array.flatten().view(torch.uint8).numpy().tobytes() if array.numel() else b""
    elif isinstance(value, np.ndarray) and value.dtype != object:
        yield repr((value.dtype, value.shape)).encode()
        yield value.tobytes()
    elif isinstance(value, list | tuple | range):
        for item in value:
            yield from _told(item, deep + 1)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _told((key, item), deep + 1)
    elif isinstance(value, ModuleType | BuiltinFunctionType | type):
        yield f"{getattr(value, '__module__', '')}.{value.__name__}".encode()
    elif isinstance(value, FunctionType):
        yield from _told_function(value, deep)
    else:
        raise NotComparable


def _told_function(function: FunctionType, deep: int) -> Iterator[bytes]:
    """A function's code, and what of the notebook it uses."""
    code = function.__code__
    yield code.co_code
    constants = [each for each in code.co_consts if isinstance(each, _PLAIN)]
    if len(constants) != len(code.co_consts) or function.__closure__:
        raise NotComparable  # it makes functions of its own, or holds what nobody sees
    yield from _told((constants, code.co_names, function.__defaults__), deep + 1)
    for name in code.co_names:
        if name in function.__globals__:
            yield from _told(function.__globals__[name], deep + 1)
