"""Edits that stay: `model.edit()` records writes, and every later trace carries them out.

An edit is data, not code: a site, an index, one of the operations set, add and scale, and a
number or tensor. So it can be listed, switched off, stored in a file and read on another machine.
It is carried out in every forward of a trace or generation, before the block's own reads and
writes of that site see the value. The model itself is not changed: called outside a trace it
knows nothing of its edits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nnsight_magic.engine.editing.behind_first import BehindFirst, Columns
from nnsight_magic.engine.editing.carrying_out import carry_out
from nnsight_magic.engine.editing.check import check_index
from nnsight_magic.engine.editing.file import StoredEdit, StoredWrite, load, store
from nnsight_magic.engine.editing.index import frozen
from nnsight_magic.engine.editing.recording import Recorder
from nnsight_magic.engine.editing.write import OPERATIONS, Write, as_data, checked
from nnsight_magic.engine.places.attention_values import PARTS, part_of
from nnsight_magic.engine.places.own_names import of_user
from nnsight_magic.engine.running.lifeline import watched_exit
from nnsight_magic.engine.sites.site import Operation
from nnsight_magic.errors import EditError, NoSuchEditError, NoSuchModuleError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.handle import Handle
    from nnsight_magic.engine.places.ports import Editable, Root


@dataclass
class Edit:
    """Writes that every later trace carries out; see `Model.edit`.

    Attributes:
        name: by which `model.edits[name]` finds it.
        writes: in the order in which they are carried out.
        enabled: switch it off without removing it.
        steps: the steps of a generation that it is for; `None` for all of them.
    """

    name: str
    writes: list[Write] = field(default_factory=list)
    enabled: bool = True
    steps: tuple[int, ...] | None = None
    _model: Root | None = field(default=None, repr=False, compare=False)
    _lifeline: Any = field(default=None, repr=False, compare=False)  # see `lifeline`
    _recorder: Recorder | None = field(default=None, repr=False, compare=False)
    _in_place: bool = field(default=True, repr=False, compare=False)
    _copy: Root | None = field(default=None, repr=False, compare=False)

    def remove(self) -> None:
        """Take it out of the model's edits."""
        if self._model is not None:
            self._model.edits._remove(self.name)

    def __enter__(self) -> Any:
        model = self._model
        if model is None:
            raise EditError(f"{self.name!r} belongs to no model.\nBegin one with model.edit().")
        recorder = self._recorder = Recorder(self.writes)
        model._turn.begin(recorder, None)
        if self._in_place:
            return self
        copy = self._copy = model._edited_copy()
        copy._turn.begin(recorder, None)
        return copy

    @watched_exit
    def __exit__(self, kind, error, traceback) -> None:
        recorder, model = self._recorder, self._copy or self._model
        self._abandon()
        self._copy = None
        if kind is None and recorder is not None and model is not None:
            recorder.check_written()
            self._model = model
            model.edits._add(self)

    def _abandon(self) -> None:
        if self._recorder is not None:
            for model in (self._copy, self._model):
                if model is not None:
                    model._turn.end(self._recorder, None)
        self._recorder = self._lifeline = None

    def __getattr__(self, name: str) -> Any:
        # `edited.layers[3].output[:] = 0` says the same as `model.layers[3].output[:] = 0`.
        if name.startswith("_") or self._model is None:
            raise AttributeError(name)
        return of_user(self._model, name)

    def __str__(self) -> str:
        state = "" if self.enabled else " (off)"
        steps = "" if self.steps is None else f" at steps {', '.join(map(str, self.steps))}"
        return f"{self.name}{state}{steps}: " + "; ".join(str(write) for write in self.writes)


class Edits(Mapping):
    """A model's edits by name, in the order in which they are carried out."""

    def __init__(self, model: Root):
        self._model = model
        self._edits: dict[str, Edit] = {}

    def __getitem__(self, name: str) -> Edit:
        if name not in self._edits:
            known = ", ".join(self._edits) or "none"
            raise NoSuchEditError(f"There is no edit {name!r}.\nThere are: {known}.")
        return self._edits[name]

    def __contains__(self, name: object) -> bool:
        return name in self._edits

    def __iter__(self) -> Iterator[str]:
        return iter(self._edits)

    def __len__(self) -> int:
        return len(self._edits)

    def __repr__(self) -> str:
        return "\n".join(str(edit) for edit in self._edits.values()) or "no edits"

    def clear(self) -> None:
        """Remove all of them."""
        self._edits.clear()

    @property
    def in_force(self) -> list[Edit]:
        """Those that are switched on and write something."""
        return [edit for edit in self._edits.values() if edit.enabled and edit.writes]

    def save(self, path: str | Path) -> None:
        """Write all edits to a safetensors file; what is not a tensor is in its header."""
        store(
            path,
            [
                StoredEdit(
                    edit.name,
                    edit.enabled,
                    edit.steps,
                    [
                        StoredWrite(w.path, w.kind, w.index, w.operation, w.value, w.call, w.inside)
                        for w in edit.writes
                    ],
                )
                for edit in self._edits.values()
            ],
        )

    def load(self, path: str | Path) -> list[Edit]:
        """Add the edits of a file; one that has the name of a present one replaces it.

        Raises:
            EditError: the file holds no edits, or names a module that this model has not.
        """
        loaded = []
        for found in load(path):
            edit = Edit(found.name, [], found.enabled, found.steps, self._model)
            for write in found.writes:
                self._check_path(write.path, path, write.kind)
                edit.writes.append(checked(Write(*write)))
            loaded.append(edit)
        for edit in loaded:
            self._add(edit)
        return loaded

    def _check_path(self, module: str, file: str | Path, kind: str) -> None:
        """A module or value that this model has not is an error at once."""
        try:
            part_of(self._model[module] if module else self._model, kind)
        except (NoSuchModuleError, IndexError) as error:
            raise EditError(
                f"{file} holds an edit of {module!r}, which is no module of this model"
                f"{f' that has {kind}' if kind in PARTS else ''}.\n"
                f"{error}\nNothing of it was loaded."
            ) from None

    def tell(self, forward: Editable) -> None:
        """Have a forward carry out the edits in force."""
        columns = self._columns(forward)
        for edit in self.in_force:
            for write in edit.writes:
                by_row = any(isinstance(each, BehindFirst) for each in write.index)
                own = columns if by_row else None
                # Rows are told apart by the mask, of the whole batch.
                to = forward.whole if by_row else forward
                handle = self._model[write.path] if write.path else self._model
                kind = "output" if write.kind == "output" else "input"
                part = part_of(handle, write.kind)
                if part is None:
                    inside = None if write.inside is None else Operation(*write.inside)
                    is_block = handle.is_block and inside is None
                    change = carry_out(edit, write, is_block=is_block, columns=own)
                    to.edit(handle.ancestors(), kind, change, inside)
                else:
                    change = carry_out(edit, write, part=part, columns=own)
                    to.edit(part.ancestors(), part.kind, change)

    def _columns(self, forward: Editable) -> Columns | None:
        """Has a forward tell where each row's tokens stand, if an edit in force asks for it."""
        asked = (
            isinstance(each, BehindFirst)
            for edit in self.in_force
            for write in edit.writes
            for each in write.index
        )
        if not any(asked):
            return None
        config = getattr(self._model._root, "config", None)
        columns = Columns(bool(getattr(config, "is_encoder_decoder", False)))
        root = forward.whole.root
        forward.whole.edit([root], "input", columns.note)
        return columns

    def new_name(self) -> str:
        number = 1
        while f"edit {number}" in self._edits:
            number += 1
        return f"edit {number}"

    def _add(self, edit: Edit) -> None:
        self._edits[edit.name] = edit

    def _remove(self, name: str) -> None:
        self._edits.pop(name, None)


def functional(
    model: Root, name: str, site: Handle, kind: str, at: Any, values: dict[str, Any]
) -> Edit:
    """An edit of one write, without a block."""
    given = [(operation, value) for operation, value in values.items() if value is not None]
    if len(given) != 1:
        raise EditError(
            f"An edit takes one of {', '.join(OPERATIONS)}.\nFound: "
            f"{', '.join(operation for operation, _ in given) or 'none'}."
        )
    (operation, value) = given[0]
    index = () if at is None else (frozen(at),)
    check_index(site, kind, index)
    part_of(site, kind)
    write = Write(site.path, kind, index, operation, as_data(value), site.call)
    return Edit(name, [checked(write)], _model=model)
