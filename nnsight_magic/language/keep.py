"""What stays in the notebook after a cell: plain tensors that hold nothing of the run."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.tracing.step import Step
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.plainly import TENSOR, plainly
from nnsight_magic.engine.values.value import Value, plain
from nnsight_magic.language.program import Program
from nnsight_magic.language.rows import RowParts

_MISSING = object()


@dataclass(frozen=True)
class Saved:
    """One saved variable. `where` is the text of what was assigned; `value` is what it holds.

    `modules` are the paths of the modules that it was computed from; "" is the whole model.
    """

    name: str
    where: str
    value: Any
    modules: tuple[str, ...] = ()


def without_run(value: Any, memo: dict[int, Any] | None = None) -> Any:
    """`value` without the run: tensors plain, without graph, with memory of their own size.

    Lists, tuples and dicts keep their type; lists and dicts are changed in place, so that other
    names for them see the same. What is not of the run comes back as it is.
    """
    memo = {} if memo is None else memo
    if id(value) in memo:
        return memo[id(value)][1]
    if isinstance(value, torch.Tensor):
        result = _tensor_without_run(value)
    elif isinstance(value, Parts | RowParts):
        result = without_run(value.value, memo)
    else:
        return _container_without_run(value, memo)
    memo[id(value)] = (value, result)  # the value too, so that its id is not used again
    return result


def _container_without_run(value: Any, memo: dict[int, Any]) -> Any:
    if type(value) is list:
        memo[id(value)] = (value, value)
        value[:] = [without_run(item, memo) for item in value]
        return value
    if isinstance(value, dict):
        memo[id(value)] = (value, value)
        for key in list(value):
            item = value[key]
            new = without_run(item, memo)
            if new is not item:
                value[key] = new
        return value
    if isinstance(value, tuple):
        items = [without_run(item, memo) for item in value]
        if all(a is b for a, b in zip(items, value, strict=True)):
            return value
        if hasattr(value, "_fields"):
            return type(value)(*items)
        return tuple(items) if type(value) is tuple else type(value)(items)
    if type(value) is set:
        return {without_run(item, memo) for item in value}
    return value


def _tensor_without_run(value: torch.Tensor) -> torch.Tensor:
    ours = isinstance(value, Value)
    if not ours and value.grad_fn is None:
        return value  # the user's own tensor
    source = (value if value._source is None else value._source) if ours else value
    has_one = source.is_leaf or source.retains_grad  # else torch warns
    gradient = plainly(TENSOR.grad.__get__, source) if has_one else None
    result = plain(value).detach()
    used = result.numel() * result.element_size()
    if result.layout is torch.strided and result.untyped_storage().nbytes() > used:
        result = result.clone()  # a slice must not keep the whole alive
    if gradient is not None and gradient.shape == result.shape:
        result.grad = _tensor_without_run(gradient)
    return result


def stacked(values: list[Any]) -> Any:
    """Values of several steps: one tensor `(steps, …)` where the shapes agree, else the list."""
    if not values or not all(isinstance(value, torch.Tensor) for value in values):
        return values
    first = values[0]
    same = all(v.shape == first.shape and v.dtype == first.dtype for v in values)
    return torch.stack(values) if same else values


class Notebook:
    """The notebook's variables while one cell runs, and how they are left behind."""

    def __init__(self, program: Program, namespace: dict[str, Any]) -> None:
        self.program = program
        self.namespace = namespace
        self.shapes: dict[str, tuple[int, ...]] = {}  # of values as they were read, by their names
        self._before = {name: namespace.get(name, _MISSING) for name in program.bound}

    def leave(self) -> tuple[Saved, ...]:
        """Scratch names get their old values back, all others become plain; lists what is new."""
        program, namespace = self.program, self.namespace
        memo: dict[int, Any] = {}
        saved = []
        for name, before in self._before.items():
            if name in program.scratch:
                if before is _MISSING:
                    namespace.pop(name, None)
                else:
                    namespace[name] = before
                continue
            now = namespace.get(name, _MISSING)
            if now is _MISSING:
                continue
            if isinstance(now, Step):
                del namespace[name]  # a step means nothing after its generation
                continue
            if isinstance(now, Value) and now.where:
                self.shapes[now.where.partition(" at step ")[0]] = tuple(now.shape)
            new = without_run(now, memo)
            if new is not now:
                namespace[name] = new
            if name in program.saved and now is not before:
                saved.append(Saved(name, program.expressions.get(name, ""), new))
        return tuple(saved)
