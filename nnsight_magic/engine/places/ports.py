"""What a place asks of the model that it lies in, and of the trace that runs there.

The model and its traces are built on places, so places know them by these interfaces alone. Names
begin with an underscore where the model is the user's object too: whatever a module of theirs is
called, no attribute of ours hides it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import nn

    from nnsight_magic.engine.places.findings import Findings
    from nnsight_magic.engine.places.standard_names import StandardNames
    from nnsight_magic.engine.sites.site import Operation


class Placed(Protocol):
    """A module or an operation in the tree of a model; `Place` is what it is.

    Attributes:
        path: the real dotted path of the module, `""` for the root.
        name: as a user writes it.
        call: which call of a module that runs more than once in a forward.
    """

    path: str
    call: int
    parts: tuple[str, ...]

    @property
    def name(self) -> str: ...
    @property
    def module(self) -> nn.Module: ...
    @property
    def is_block(self) -> bool: ...
    @property
    def is_attached(self) -> bool: ...
    @property
    def _model(self) -> Root: ...
    @property
    def _operation(self) -> Operation | None: ...
    @property
    def _takes_edits(self) -> bool: ...
    @property
    def _called(self) -> str | None: ...
    def ancestors(self) -> list[nn.Module]:
        """The modules from the root down to this one."""
        ...


class Tree(Placed, Protocol):
    """The place of a module, from which one gets to those inside it."""

    @property
    def ops(self) -> Any: ...
    def __getitem__(self, key: Any, /) -> Any: ...
    def children(self) -> Mapping[str, Any]: ...
    def _children(self) -> list[str]: ...
    def _child(self, name: str) -> Any: ...
    def _has_attached(self, name: str) -> bool: ...
    def _standard(self, name: str, module: nn.Module) -> str | None: ...


class Trace(Protocol):
    """What runs on a model while its places are touched: a trace, or what stands in its place.

    A scan stands there and knows shapes alone; so does what records an edit.
    """

    def read(self, place: Any, /, kind: str, path: tuple = (), raw: bool = False) -> Any: ...
    def write(
        self, place: Any, /, kind: str, new: Any, path: tuple = (), raw: bool = False
    ) -> None: ...
    def read_input(self, place: Any, /) -> Any: ...
    def write_input(self, place: Any, /, new: Any) -> None: ...
    def read_part(self, place: Any, /) -> Any:
        """A value that has a name of its own, `NamedPart`."""
        ...

    def write_part(self, place: Any, /, new: Any) -> None: ...
    def skip(self, place: Any, /, value: Any) -> None: ...
    def advance(self, place: Any, /) -> None: ...
    def call(self, place: Any, /, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run the module in the user's own code, beside the forward."""
        ...

    def model_call(self) -> Callable[[], Any] | None:
        """What runs the model once on the inputs of the trace, if one forward is all that it is."""
        ...


class Editable(Protocol):
    """A forward, as far as edits go; one of a sweep carries them out for each variant."""

    @property
    def whole(self) -> Any:
        """The forward of the whole batch, with its `root`; itself, where it is one."""
        ...

    def edit(
        self,
        ancestry: list[nn.Module],
        kind: str,
        change: Callable[[Any, int, int], Any],
        inside: Operation | None = None,
        /,
    ) -> None: ...


class InForce(Protocol):
    """The edits of a model."""

    @property
    def in_force(self) -> list[Any]: ...
    def values(self) -> Iterable[Any]: ...
    def _add(self, edit: Any, /) -> None: ...
    def _remove(self, name: str, /) -> None: ...
    def tell(self, forward: Editable) -> None:
        """Have a forward carry out those that are switched on."""
        ...


class Turns(Protocol):
    """Whose turn it is on a model: one trace at a time; `tracing.turn.Turn` is one."""

    @property
    def owner(self) -> int | None:
        """The thread that traces the model."""
        ...

    @property
    def active(self) -> Any:
        """What runs there, in whichever thread."""
        ...

    def running(self) -> Trace | None:
        """What runs in this thread."""
        ...

    def begin(self, trace: Any, parent: Any, /) -> None:
        """From here on this one runs, inside `parent` if there is one."""
        ...

    def end(self, trace: Any, parent: Any, /) -> None: ...


class Places(Protocol):
    """The handles of a model by their paths; `handles.Handles` is one."""

    attached: dict[str, nn.Module]  # what the user hung onto the tree, by path
    rename: dict[str, str | list[str]]  # other names of the user's for children

    def at(self, path: str, /) -> Any: ...
    def items(self, path: str, numbers: Iterable[int], /) -> list[Any]:
        """Those of the modules of a list, by their numbers."""
        ...

    def paths(self) -> dict[int, str]:
        """The real path of every module, by its `id`."""
        ...

    def written(self, path: str, /) -> str:
        """A path as a user writes it."""
        ...


class Root(Tree, Protocol):
    """A wrapped model, as places, edits, traces and sweeps know it."""

    block_index_zero: bool
    _root: nn.Module  # as it stands there, with or without weights

    @property
    def _turn(self) -> Turns: ...
    @property
    def _handles(self) -> Places: ...
    @property
    def _findings(self) -> Findings: ...
    @property
    def module(self) -> nn.Module:
        """The real module, with its weights."""
        ...

    @property
    def names(self) -> StandardNames: ...
    @property
    def blocks(self) -> list[Any]: ...
    @property
    def block_count(self) -> int: ...
    @property
    def edits(self) -> InForce: ...
    @property
    def resume(self) -> Any:
        """The memory of block outputs; `memory.resume.Resume`."""
        ...

    def _edited_copy(self) -> Any:
        """Another wrapper of the same module, with the edits so far and its own from then on."""
        ...

    def _trace_of(
        self, place: Any, inputs: tuple, kwargs: dict, full: bool, grad: bool | None, /
    ) -> Any:
        """A trace of one module alone."""
        ...
