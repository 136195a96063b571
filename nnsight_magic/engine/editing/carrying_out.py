"""What an edit does to a value that a forward comes by with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

import torch

from nnsight_magic.engine.editing.behind_first import BehindFirst, Columns
from nnsight_magic.engine.editing.index import with_change
from nnsight_magic.engine.values.changes import replaced
from nnsight_magic.engine.values.containers import (
    entries,
    first_argument,
    is_container,
    path_of_first,
)
from nnsight_magic.engine.values.words import describe, index_text
from nnsight_magic.errors import EditError

if TYPE_CHECKING:
    from nnsight_magic.engine.editing.write import Write
    from nnsight_magic.engine.places.named_part import NamedPart


class Named(Protocol):
    """An edit, as far as carrying out one of its writes goes."""

    name: str
    steps: tuple[int, ...] | None  # of a generation; `None` for all of them


def carry_out(
    edit: Named,
    write: Write,
    *,
    is_block: bool = False,
    part: NamedPart | None = None,
    columns: Columns | None = None,
) -> Callable[[Any, int, int], Any]:
    """What a forward calls with the value at a site, the step and the call, for the new value.

    Args:
        edit: whose write it is; its steps may be changed while the forward runs.
        is_block: the site is the output of a decoder block, whose `[0]` is the hidden states.
        part: the part of the value that is written, where it is one with a name of its own.
        columns: where the rows' tokens stand, for what is written behind each first one.
    """

    def change(raw: Any, step: int, call: int) -> Any:
        if call != write.call or (edit.steps is not None and step not in edit.steps):
            return raw
        try:
            return _applied(raw, write, is_block, part, columns)
        except EditError as error:
            raise EditError(_not_fitting(edit.name, write, error.message)) from None

    return change


def _not_fitting(edit: str, write: Write, why: str) -> str:
    name = repr(edit)
    return (
        f"The edit {name}, {write} does not fit what stands there.\n{why}\n"
        f"Remove it, model.edits[{name}].remove(), or switch it off, .enabled = False."
    )


def _applied(
    raw: Any, write: Write, is_block: bool, part: NamedPart | None, columns: Columns | None
) -> Any:
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
    if columns is not None and index and isinstance(index[0], BehindFirst):
        index[0] = columns.behind_first(value)
    if isinstance(value, torch.Tensor):
        new = with_change(value, index, write.operation, write.value)
    else:
        new = write.value
    return replaced(raw, tuple(path), new)
