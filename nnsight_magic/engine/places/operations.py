"""Operations inside a module's forward, as the user writes them: `attn.ops.softmax[0].output`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NoReturn

from nnsight_magic.engine.places.place import Place, raise_what_failed
from nnsight_magic.engine.places.source import Source, source_of
from nnsight_magic.engine.sites.site import Operation
from nnsight_magic.errors import NoSuchModuleError, NoSuchOperationError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed, Tree


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

    def __init__(self, handle: Tree):
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


class OperationHandle(Place):
    """One operation of a module's forward; `.output`, `.input` and `.inputs` read and write.

    `input` is the operation's first argument, `inputs` are `(args, kwargs)`. An operation that
    writes into a tensor (`add_`, `setitem`) has that tensor as its output.
    """

    # Other places may have none; this is one.
    __slots__ = ("_called", "_operation")  # pyright: ignore[reportIncompatibleVariableOverride]
    _operation: Operation

    def __init__(self, place: Placed, name: str, index: int = 0, called: str | None = None):
        super().__init__(place._model, place.path, place.call)
        object.__setattr__(self, "_operation", Operation(name, index))
        object.__setattr__(self, "_called", called)

    @property
    def name(self) -> str:
        """As a user writes it: `layers[3].attn.ops.softmax[0]`."""
        name, index = self._operation if self._called is None else Operation("softmax", 0)
        module = super().name
        return f"{module}.ops.{name}[{index}]" if module else f"ops.{name}[{index}]"

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
        return OperationHandle(self, name, index)

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

    def __reduce__(self) -> NoReturn:
        raise TypeError("An operation belongs to the trace of a model and cannot be pickled.")
