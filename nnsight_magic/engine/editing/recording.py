"""An edit block is run with a recorder where a trace would stand, and its writes become data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nnsight_magic.engine.editing.block import Computed, Slot
from nnsight_magic.engine.editing.check import check_index
from nnsight_magic.engine.editing.index import frozen
from nnsight_magic.engine.editing.write import Write, as_data, checked
from nnsight_magic.engine.places.named_part import NamedPart
from nnsight_magic.errors import EditError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.handle import Handle
    from nnsight_magic.engine.places.ports import Placed


class Recorder:
    """In the place of a running trace: it notes writes instead of carrying them out."""

    def __init__(self, writes: list[Write]):
        self._writes = writes  # the edit's own list
        self.changes: list[Computed] = []  # that were computed and are not written yet

    def check_written(self) -> None:
        """Refuse what was computed and is written nowhere.

        Raises:
            EditError: there is such a thing.
        """
        for change in self.changes:
            raise change.of.no_value("computed and not written back")

    def read(self, handle: Handle, kind: str, path: tuple = (), raw: bool = False) -> Slot:
        return Slot(self, handle, "inputs" if kind == "input" else kind)

    def read_input(self, handle: Handle) -> Slot:
        return Slot(self, handle, "input")

    def read_part(self, place: NamedPart) -> Slot:
        return Slot(self, place, place.value)

    def write_part(self, place: NamedPart, new: Any) -> None:
        self.note(place, place.value, (), new)

    def write(self, handle: Handle, kind: str, new: Any, path: tuple = (), raw: bool = False):
        self.note(handle, "inputs" if kind == "input" else kind, (), new)

    def write_input(self, handle: Handle, new: Any) -> None:
        self.note(handle, "input", (), new)

    def given_to(self, _handle: Any) -> None:
        """Nothing: no forward runs, so no module is given anything."""

    def note(self, handle: Placed, kind: str, index: tuple, new: Any) -> None:
        if handle._operation is not None and not handle._takes_edits:
            raise EditError(
                f"{handle.name} is an operation inside a module; an edit writes to what modules "
                "give and take.\nWrite to the module's output or input, or to it in every trace."
            )
        operation, value = "set", new
        if isinstance(new, Computed):
            operation, value = new.operation, new.value
            new.check(handle, kind, index)
            self.changes = [each for each in self.changes if each is not new]
        check_index(handle, kind, index)
        if handle._called is not None and handle.is_block and index and type(index[0]) is int:
            index = ((index[0],), *index[1:])  # a row, and not the `[0]` of a block's output
        index = tuple(map(frozen, index))
        path = handle.handle.path if isinstance(handle, NamedPart) else handle.path
        data, inside = as_data(value), handle._operation
        write = Write(path, kind, index, operation, data, handle.call, inside)
        self._writes.append(checked(write))

    def call(self, handle: Handle, args: tuple, kwargs: dict[str, Any]) -> Any:
        if handle.is_attached:
            return getattr(self, handle.name)  # which it has not
        return handle.module(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        raise EditError(
            f"An edit records writes, and this is none ({name}).\n"
            "Write to an output or input: =, +=, -=, *= or /=, with a number or a tensor."
        )
