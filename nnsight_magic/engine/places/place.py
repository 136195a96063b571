"""What every place in a model has, a module's and an operation's alike: values, a name, a path."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

from torch import nn

from nnsight_magic.engine.places.own_names import VALUES
from nnsight_magic.engine.sites.site import Operation
from nnsight_magic.errors import NoSuchModuleError, NoTraceError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed, Root, Trace
    from nnsight_magic.engine.values.value import Value


# What the getter of a `touching` has raised, until the `__getattr__` that Python calls right
# behind it in the same thread.
_raised = threading.local()


class touching(property):
    """A property whose getter runs the model, where an AttributeError means what it says.

    Python takes an AttributeError in a property for a missing attribute, drops it and calls
    `__getattr__`, which would hide an error of the model behind "has no 'output'". So the error is
    handed to that very call, of this property on this place, and shown by no other.
    """

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __get__(self, place: Any, owner: type | None = None) -> Any:
        try:
            return super().__get__(place, owner)
        except AttributeError as error:
            _raised.by = (place, self._name, error)
            raise


def raise_what_failed(place: Place, name: str) -> None:
    """Raise again what the getter of `name` has just raised, if it is a property that touches."""
    failed = getattr(_raised, "by", None)
    if failed is None:
        return
    _raised.by = None
    if failed[0] is place and failed[1] == name:
        raise failed[2]


def running_at(place: Placed, kind: str) -> Trace:
    """This thread's trace of the model, of which `kind` of a place is wanted.

    Raises:
        NoTraceError: there is none.
    """
    turn = place._model._turn
    trace = turn.running()
    if trace is not None:
        return trace
    where = place._called or (f"{place.name}.{kind}" if place.name else kind)
    if turn.owner is not None:
        raise NoTraceError(
            f"{where} was touched in a thread that has no trace: the one that runs on this "
            "model belongs to another thread.\n"
            "Touch modules in the thread that began the trace, or begin one here: it waits "
            "until the other has ended."
        )
    raise NoTraceError(
        f"{where} has a value only while the model runs.\n"
        f"Read it inside a trace:\n    with model.trace(…):\n        x = model.{where}"
        f"{_child_of_that_name(place, kind)}"
    )


def _child_of_that_name(place: Placed, kind: str) -> str:
    if kind not in VALUES or place.ancestors()[-1]._modules.get(kind) is None:
        return ""
    return f'\nThe module\'s own child of that name: {place.name or "model"}["{kind}"]'


class Place:
    """A module of a wrapped model, or an operation in a module's forward.

    Attributes:
        path: the real dotted path of the module, `"model.layers.3.mlp"`; `""` for the root.
        parts: the same as a tuple of names.
        call: which call of it is meant, where it runs more than once in a forward.
        name: as a user writes it, `"layers[3].mlp"`.
        module: the `torch.nn.Module` itself.
    """

    __slots__ = ("__weakref__", "_model", "call", "parts", "path")
    _operation: Operation | None = None  # see operations.py
    _called: str | None = None  # what a value is called that has a name of its own
    _takes_edits = False  # of an operation: whether an edit may be of it
    _hides: frozenset[str] = frozenset()  # names of ours that the model's children hide
    _model: Root
    path: str
    parts: tuple[str, ...]
    call: int

    def __init__(self, model: Root, path: str, call: int = 0):
        put = object.__setattr__
        put(self, "_model", model)
        put(self, "path", path)
        put(self, "parts", tuple(path.split(".")) if path else ())
        put(self, "call", call)

    # ── values ───────────────────────────────────────────────────────────────────────────

    @touching
    def output(self) -> Value:
        """What the module returns; assign to it, or into it, to change what flows on.

        A tensor is `(batch, tokens, features)` for most modules of a language model. Tuples,
        dicts and model outputs are given as `Parts`.
        """
        return running_at(self, "output").read(self, "output")

    @output.setter
    def output(self, new: Any) -> None:
        running_at(self, "output").write(self, "output", new)

    @touching
    def _output(self) -> Value:
        """The raw return value, without the meaning that `[0]` has on a block."""
        return running_at(self, "output").read(self, "output", raw=True)

    @_output.setter
    def _output(self, new: Any) -> None:
        running_at(self, "output").write(self, "output", new, raw=True)

    @touching
    def input(self) -> Value:
        """The first argument that the module is called with."""
        return running_at(self, "input").read_input(self)

    @input.setter
    def input(self, new: Any) -> None:
        running_at(self, "input").write_input(self, new)

    @touching
    def inputs(self) -> Value:
        """All arguments: `(args, kwargs)`."""
        return running_at(self, "input").read(self, "input")

    @inputs.setter
    def inputs(self, new: Any) -> None:
        running_at(self, "input").write(self, "input", new)

    def next(self) -> Self:
        """Move on to the following step of a generation; gives the handle back."""
        running_at(self, "next").advance(self)
        return self

    # ── where it is ──────────────────────────────────────────────────────────────────────

    @property
    def module(self) -> nn.Module:
        """The real module (on the meta device until the weights are loaded)."""
        return self.ancestors()[-1]

    @property
    def is_attached(self) -> bool:
        """Whether the user attached this module, or one that it lies in, to the tree."""
        attached = self._model._handles.attached
        return bool(attached) and any(
            self.path == path or self.path.startswith(f"{path}.") for path in attached
        )

    @property
    def name(self) -> str:
        """The path as a user writes it, with standard names where there are any."""
        return self._model._handles.written(self.path)

    @property
    def is_block(self) -> bool:
        """Whether this is one of the model's decoder blocks."""
        return False

    def ancestors(self) -> list[nn.Module]:
        """The modules from the root down to this one."""
        module = self._model._root
        ancestry = [module]
        for depth, part in enumerate(self.parts, 1):
            child = module._modules.get(part)
            if child is None:
                child = self._model._handles.attached[".".join(self.parts[:depth])]
            module = child
            ancestry.append(module)
        return ancestry

    def __setattr__(self, name: str, new: Any) -> None:
        if isinstance(getattr(type(self), name, None), property):
            object.__setattr__(self, name, new)
            return
        where = f"{self.name}.{name}" if self.name else name
        raise NoSuchModuleError(
            f"{where} cannot be assigned.\n"
            "What can be written is output, input and inputs of a module, such as "
            f"{self.name or 'model'}.output = x. A torch.nn.Module is attached to the tree."
        )

    def __bool__(self) -> bool:
        return True
