"""Values that have a name of their own, whatever module gives them: `layers[3].attn.q`.

A name is an attribute of every handle, so that it is found by editors and by `help`. Which module
the value stands in, and how it is laid out there, is looked up for each architecture when the
name is used; where an architecture has no such value, that is said in words. A child, attribute or
attached module of the model's that is called so comes first, see `own_names`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from nnsight_magic.engine.places.place import Place, raise_what_failed, running_at, touching
from nnsight_magic.errors import NnsightError, NoSuchModuleError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Tree
    from nnsight_magic.engine.sites.site import Operation
    from nnsight_magic.engine.values.laid_out import Layout
    from nnsight_magic.engine.values.value import Value

# What finds the place of a value, by its name: raises in words where a handle has none.
Find = Callable[[Any, str], Any]


class NamedPart(Place):
    """A value by its own name; `output` is the value.

    Args:
        handle: the module that the name stands on, `layers[3].attn`.
        value: the name, `"q"`.
        module: the place of the module that the value stands in, `layers[3].attn.q_proj`.
        kind: whether it is in what that module gives or in what it takes first.
        layout: which part it is and how it is shown; `None` for the whole.
        operation: the operation of that module's forward that has it, if one has.
    """

    __slots__ = ("_called", "_operation", "handle", "kind", "layout", "value")

    def __init__(
        self,
        handle: Tree,
        value: str,
        module: Place,
        kind: str = "output",
        layout: Layout | None = None,
        operation: Operation | None = None,
    ):
        super().__init__(module._model, module.path, module.call)
        put = object.__setattr__
        put(self, "handle", handle)
        put(self, "value", value)
        put(self, "kind", kind)
        put(self, "layout", layout)
        put(self, "_operation", operation)
        put(self, "_called", called(handle, value))

    @touching
    def output(self) -> Value:
        """The value; assign to it, or into it, to change what flows on."""
        return running_at(self, self.kind).read_part(self)

    @output.setter
    def output(self, new: Any) -> None:
        running_at(self, self.kind).write_part(self, new)

    def __getattr__(self, name: str) -> Any:
        raise_what_failed(self, name)
        if name.startswith("_"):
            raise AttributeError(name)
        raise NoSuchModuleError(f"{self._called} has no {name!r}.\nIt is a value: use it as it is.")

    def __dir__(self) -> list[str]:
        return ["module", "name", "next", "output", "path"]

    def __repr__(self) -> str:
        return f"<{self._called}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A value belongs to the trace of a model and cannot be pickled as a place.")


class named_part(touching):
    """An attribute of a handle that is a value with a name of its own.

    Args:
        name: the name.
        find: the place of the value on a handle.
        doc: what the value is, with its shape.
    """

    def __init__(self, name: str, find: Find, doc: str):
        super().__init__(self._read, self._write, doc=doc)
        self._name, self.find = name, find

    def _read(self, handle: Any) -> Any:
        module = handle.ancestors()[-1]
        if handle._has_attached(self._name):
            return handle._child(self._name)
        try:
            place = self.find(handle, self._name)
        except NoSuchModuleError:
            if hasattr(module, self._name):  # an attribute of the module itself, such as a number
                return getattr(handle.module, self._name)
            raise
        return place.output

    def _write(self, handle: Any, new: Any) -> None:
        self.find(handle, self._name).output = new  # pyright: ignore[reportAttributeAccessIssue]

    def has(self, handle: Any) -> bool:
        """Whether a handle has such a value."""
        return self.refusal(handle) is None

    def refusal(self, handle: Any) -> NnsightError | None:
        """Why a handle has none."""
        try:
            self.find(handle, self._name)
        except NnsightError as error:
            return error
        return None


def called(handle: Tree, name: str) -> str:
    """A value of a handle as a user writes it."""
    if name in getattr(handle, "_hides", ()):
        name = f"_own.{name}"  # a child of the model's is called so
    return f"{handle.name}.{name}" if handle.name else name


def named_on(handle: Any, name: str) -> named_part | None:
    """What finds the value of a name on a handle; `None` for any other name.

    Own children of the model that are called so come first; so does what the user attached.
    """
    if name in getattr(handle, "_hides", ()) or handle._has_attached(name):
        return None
    found = names_of(type(handle)).get(name)
    return found if isinstance(found, named_part) else None


def names_of(kind: type) -> dict[str, named_part]:
    """The named values of a class of handles."""
    found: dict[str, named_part] = {}
    for each in reversed(kind.__mro__):
        found.update({n: v for n, v in vars(each).items() if isinstance(v, named_part)})
    return found
