"""Operations inside a module's forward, as the user writes them: `attn.ops.softmax[0].output`."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Iterator
from typing import Any

from torch import nn

from nnsight_magic.engine.places.handle import Handle, raise_what_failed
from nnsight_magic.engine.places.pattern import FUSED
from nnsight_magic.engine.places.source import Source, source_of, tally
from nnsight_magic.engine.sites.site import Operation, Touch
from nnsight_magic.errors import NoSuchModuleError, NoSuchOperationError

_STEPS = ("matmul", "bmm", "baddbmm", "dropout")  # of fused attention, besides its softmax


class Operations:
    """The torch operations of a module's forward: `handle.ops`.

    `ops["softmax", 0]`, `ops.softmax[0]` and `ops.softmax` are the first softmax that the
    module's own forward issues, functions that it calls included. What a submodule does is found
    on the submodule. All spellings share a name: `F.softmax(x)` and `x.softmax()` are "softmax",
    `a + b` is "add", `x += 1` is "add_", `x[0]` is "getitem".

    Printing shows what there is; iterating gives every operation in order.

    >>> import torch
    >>> from nnsight_magic.engine.model.model import Model
    >>> model = Model(torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softmax(-1)))
    >>> with model.trace(torch.zeros(1, 2)):
    ...     operation = model[1].ops.softmax
    ...     scores = operation.input
    ...     operation.output[:] = 0.25
    ...     result = model.output
    >>> result
    tensor([[0.2500, 0.2500]])
    """

    __slots__ = ("_handle",)

    def __init__(self, handle: Handle):
        self._handle = handle

    def __getitem__(self, which: str | tuple[str, int]) -> OperationHandle:
        name, index = which if isinstance(which, tuple) else (which, 0)
        return OperationHandle(self._handle, name)[index]

    def __getattr__(self, name: str) -> OperationHandle:
        if name.startswith(("__", "_ipython", "_repr")):
            raise AttributeError(name)
        return OperationHandle(self._handle, name)

    @property
    def _source(self) -> Source:
        return source_of(self._handle)

    def __iter__(self) -> Iterator[OperationHandle]:
        for issued in self._source.issued():
            yield self[issued.operation]

    def __len__(self) -> int:
        return len(self._source.issued())

    def __contains__(self, name: str) -> bool:
        return any(issued.operation.name == name for issued in self._source.issued())

    def __dir__(self) -> list[str]:
        names = {issued.operation.name for issued in self._source.operations}
        return sorted(name for name in names if name.isidentifier())

    def __repr__(self) -> str:
        return self._source.summary()


class OperationHandle(Handle):
    """One operation of a module's forward; `.output`, `.input` and `.inputs` read and write.

    `input` is the operation's first argument, `inputs` are `(args, kwargs)`. An operation that
    writes into a tensor (`add_`, `setitem`) has that tensor as its output.
    """

    __slots__ = ("_called", "_operation")

    def __init__(self, handle: Handle, name: str, index: int = 0, called: str | None = None):
        super().__init__(handle._model, handle.path, handle.call)
        object.__setattr__(self, "_operation", Operation(name, index))
        object.__setattr__(self, "_called", called)

    @property
    def name(self) -> str:
        """As a user writes it: `layers[3].attn.ops.softmax[0]`."""
        name, index = self._operation if self._called is None else Operation("softmax", 0)
        module = Handle.name.fget(self)
        return f"{module}.ops.{name}[{index}]" if module else f"ops.{name}[{index}]"

    @property
    def is_block(self) -> bool:
        return False

    def __getitem__(self, index: int) -> OperationHandle:
        name = self._operation.name
        if not isinstance(index, int) or isinstance(index, bool):
            raise NoSuchOperationError(
                f"{self.name}: operations are numbered, and {index!r} is no number.\n"
                f"Write {name}[0] for the first."
            )
        if index < 0:
            raise NoSuchOperationError(
                f"{name}[{index}]: operations are counted from the start of the forward, whose end "
                f"is not known before it has run.\nWrite {name}[0] for the first; ops lists them."
            )
        return OperationHandle(_module_handle(self), name, index)

    def __getattr__(self, name: str) -> Any:
        raise_what_failed(self, name)
        if name.startswith("_"):
            raise AttributeError(name)
        raise NoSuchModuleError(
            f"{self.name} has no {name!r}.\nIt is an operation: it has output, input and inputs."
        )

    def skip(self, value: Any) -> None:
        """Operations cannot be skipped; write to the output."""
        raise NoSuchOperationError(
            f"{self.name} cannot be skipped: it is one operation, not a module.\n"
            f"Write to it: {self.name}.output = x."
        )

    def __dir__(self) -> list[str]:
        return ["input", "inputs", "module", "name", "next", "output", "path"]

    def __iter__(self) -> Iterator[Any]:
        raise TypeError(f"{self.name} is one operation. Read its output: {self.name}.output.")

    def __len__(self) -> int:
        raise TypeError(f"{self.name} is one operation. Read its output: {self.name}.output.")

    def __repr__(self) -> str:
        return f"<{self.name}: output, input, inputs>"


def _module_handle(operation: OperationHandle) -> Handle:
    return Handle(operation._model, operation.path, operation.call)


def no_such_operation(touch: Touch, counts: Counter[str]) -> str:
    """What to tell about an operation that a module's forward did not issue."""
    name, index = Operation("softmax", 0) if touch.called else touch.site.operation
    where = touch.name.removesuffix(f".ops.{name}[{index}]")
    kind = type(touch.site.module).__name__
    lines = []
    if name in counts:
        last = counts[name] - 1
        there = f"{name}[0]" if last == 0 else f"{name}[0] to {name}[{last}]"
        lines.append(f"{where} ({kind}) has no {name}[{index}]: it ran {there} in this forward.")
    else:
        near = difflib.get_close_matches(name, counts, 1, 0.6)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        lines.append(f"{where} ({kind}) ran no operation {name!r} in this forward.{hint}")
        lines.append(f"It ran: {tally(counts)}.")
    if name in _STEPS and FUSED in counts:
        lines.append(
            "Attention runs fused into one operation here, of which only the softmax is at hand. "
            "To have\nit computed step by step: model.module.set_attn_implementation('eager')."
        )
    inside = _with_operations(touch.site.module)
    if inside:
        lines.append(f"What its submodules do is found on them: {', '.join(inside)}.")
    lines.append(f"Its forward with the operations beside their lines: print({where}.source)")
    return "\n".join(lines)


def _with_operations(module: nn.Module) -> list[str]:
    names = [name for name, child in module._modules.items() if child is not None]
    return [*names[:8], "…"] if len(names) > 8 else names
