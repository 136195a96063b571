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

import torch

from nnsight_magic.engine.editing.block import Computed, Slot
from nnsight_magic.engine.editing.check import check_index
from nnsight_magic.engine.editing.file import StoredEdit, StoredWrite, load, store
from nnsight_magic.engine.editing.index import frozen, to_json, with_change
from nnsight_magic.engine.places.attention_values import PARTS, part_of
from nnsight_magic.engine.places.named_part import NamedPart
from nnsight_magic.engine.places.own_names import of_user
from nnsight_magic.engine.running.lifeline import watched_exit
from nnsight_magic.engine.sites.site import Operation
from nnsight_magic.engine.values.changes import replaced
from nnsight_magic.engine.values.containers import (
    entries,
    first_argument,
    is_container,
    path_of_first,
)
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.value import plain
from nnsight_magic.engine.values.words import describe, index_text
from nnsight_magic.errors import EditError, NoSuchEditError, NoSuchModuleError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.handle import Handle
    from nnsight_magic.engine.places.ports import Editable, Placed, Root

OPERATIONS = ("set", "add", "scale")
KINDS = ("output", "input", "inputs", *PARTS)


@dataclass(frozen=True)
class Write:
    """One write of an edit.

    Attributes:
        path: the module, by its real dotted path.
        kind: `"output"`, `"input"` (the first argument) or `"inputs"` (`(args, kwargs)`), or a
            value of the module that has a name of its own, such as `"q"` of an attention.
        index: what was in the brackets, one item a pair of brackets: `output[0][:, -1]` is
            `(0, (slice(None), -1))`.
        operation: `"set"`, `"add"` or `"scale"`.
        value: a number, or a tensor that broadcasts to the indexed part.
        call: which call of a module that runs more than once in a forward.
        inside: an operation of the module, name and number, where a value with a name of its own
            stands at one (`layers[3].resid_mid`).
    """

    path: str
    kind: str
    index: tuple
    operation: str
    value: Any
    call: int = 0
    inside: tuple[str, int] | None = None

    def __str__(self) -> str:
        path = self.path if self.inside is None else "{}.ops.{}[{}]".format(self.path, *self.inside)
        where = f"{path}.{self.kind}" + "".join(f"[{index_text(each)}]" for each in self.index)
        sign = {"set": "=", "add": "+=", "scale": "*="}[self.operation]
        value = self.value
        if isinstance(value, torch.Tensor):
            value = f"tensor {tuple(value.shape)}"
        return f"{where} {sign} {value}"


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
    _recorder: _Recorder | None = field(default=None, repr=False, compare=False)
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
        recorder = self._recorder = _Recorder(self)
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
                edit.writes.append(_checked(Write(*write)))
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
        for edit in self.in_force:
            for write in edit.writes:
                handle = self._model[write.path] if write.path else self._model
                kind = "output" if write.kind == "output" else "input"
                part = part_of(handle, write.kind)
                if part is None:
                    inside = None if write.inside is None else Operation(*write.inside)
                    change = _carry_out(edit, write, handle.is_block and inside is None)
                    forward.edit(handle.ancestors(), kind, change, inside)
                else:
                    change = _carry_out(edit, write, part=part)
                    forward.edit(part.ancestors(), part.kind, change)

    def new_name(self) -> str:
        number = 1
        while f"edit {number}" in self._edits:
            number += 1
        return f"edit {number}"

    def _add(self, edit: Edit) -> None:
        self._edits[edit.name] = edit

    def _remove(self, name: str) -> None:
        self._edits.pop(name, None)


class _Recorder:
    """In the place of a running trace: it notes writes instead of carrying them out."""

    def __init__(self, edit: Edit):
        self._edit = edit
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
        data, inside = _data(value), handle._operation
        write = Write(path, kind, index, operation, data, handle.call, inside)
        self._edit.writes.append(_checked(write))

    def call(self, handle: Handle, args: tuple, kwargs: dict[str, Any]) -> Any:
        if handle.is_attached:
            return getattr(self, handle.name)  # which it has not
        return handle.module(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        raise EditError(
            f"An edit records writes, and this is none ({name}).\n"
            "Write to an output or input: =, +=, -=, *= or /=, with a number or a tensor."
        )


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
    write = Write(site.path, kind, index, operation, _data(value), site.call)
    return Edit(name, [_checked(write)], _model=model)


def _carry_out(edit: Edit, write: Write, is_block: bool = False, part: NamedPart | None = None):
    def change(raw: Any, step: int, call: int) -> Any:
        if call != write.call or (edit.steps is not None and step not in edit.steps):
            return raw
        try:
            return _applied(raw, write, is_block, part)
        except EditError as error:
            raise EditError(_not_fitting(edit, write, error.message)) from None

    return change


def _not_fitting(edit: Edit, write: Write, why: str) -> str:
    name = repr(edit.name)
    return (
        f"The edit {name}, {write} does not fit what stands there.\n{why}\n"
        f"Remove it, model.edits[{name}].remove(), or switch it off, .enabled = False."
    )


def _applied(raw: Any, write: Write, is_block: bool, part: NamedPart | None) -> Any:
    """`raw` with one write; `raw` itself stays as it is."""
    path, index = [], list(write.index)
    value = raw
    if (write.kind if part is None else part.kind) == "input":
        path = list(path_of_first(*raw) or ())
        if not path:
            raise EditError("The module is called without arguments, so it has no input.")
        value = first_argument(*raw)
    elif is_block and write.kind == "output":
        if isinstance(value, torch.Tensor) and value.ndim == 4:  # Gemma-3n
            raise EditError(
                f"What the block gives is no (batch, tokens, hidden), but {describe(value)}."
            )
        if index and type(index[0]) is int and index[0] == 0:
            del index[0]
        if is_container(value):
            path, value = [0], value[0]
    if part is not None and part.layout is not None:
        path.append(part.layout)
        value = part.layout.take(value)
    while is_container(value):
        key = index.pop(0) if index else 0
        path.append(key)
        try:
            value = value[key]
        except (KeyError, IndexError, TypeError):
            item = next((k for k, each in entries(value) if isinstance(each, torch.Tensor)), 0)
            raise EditError(
                f"What stands there is a {describe(value)} and has no item [{index_text(key)}].\n"
                f"Name the item first, in brackets of its own: [{item!r}][{index_text(key)}]."
            ) from None
    if isinstance(value, torch.Tensor):
        new = with_change(value, index, write.operation, write.value)
    else:
        new = write.value
    return replaced(raw, tuple(path), new)


def _data(value: Any) -> Any:
    if isinstance(value, Parts):
        value = value.value
    if isinstance(value, torch.Tensor):
        return plain(value.detach()).clone()
    return value


def _checked(write: Write) -> Write:
    if write.kind not in KINDS or write.operation not in OPERATIONS:
        raise EditError(f"An edit cannot {write.operation} {write.kind}.")
    if not isinstance(write.value, torch.Tensor | bool | int | float):
        raise EditError(
            f"{write.path}.{write.kind}: an edit writes a number or a tensor.\n"
            f"Found: {type(write.value).__name__}."
        )
    for index in write.index:
        to_json(index)
    return write
