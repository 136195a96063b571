"""One prompt of a batch by its name: `corrupt.layers[5].output = clean.layers[5].output`.

All prompts run in one forward. A `Row` shows the model as if its prompt were alone: values have a
batch of one, without the padding, and what is written goes to that prompt's row and no other.
"""

from __future__ import annotations

from typing import Any

import torch

from nnsight_magic.engine.places.attention_values import result_of
from nnsight_magic.engine.places.every_head import Heads
from nnsight_magic.engine.places.heads import head_layout
from nnsight_magic.engine.places.named_values import NAMED, value_named
from nnsight_magic.engine.places.own_names import of_user
from nnsight_magic.engine.places.pattern import pattern_of
from nnsight_magic.engine.sweeping.axes import PromptBatch, axes_of, part_of
from nnsight_magic.engine.values.containers import entries, is_container, rebuild
from nnsight_magic.engine.values.value import Value, handed_out, own_copy, plain
from nnsight_magic.errors import WrongValueError
from nnsight_magic.language.names import VALUE_ATTRIBUTES
from nnsight_magic.language.parts import place_of_part
from nnsight_magic.language.tokens import PromptRow, Texts

# Values by their names in the batch (`layers[5].output`), each with the names by which prompts
# touched it (`corrupt.layers[5].output`), in their order.
TouchedBy = dict[str, dict[str, None]]

_VALUES = frozenset(VALUE_ATTRIBUTES) | {"logits"}


def part(value: torch.Tensor, owner: Row) -> torch.Tensor:
    """The row's own part of a tensor, `(1, tokens, …)`: a view, so that writes reach the batch.

    Raises:
        WrongValueError: it has no part that belongs to this prompt alone.
    """
    row, batch = owner._row, owner._batch
    if batch.prompts == 1 and batch.each == 1 and not row.start and row.stop == row.width:
        return _named(value[...] if value.ndim else value, value, row, owner._model)
    axes = axes_of(owner._model, value, batch)
    view = part_of(value, axes, batch, row.index, slice(row.start, row.stop))
    where = (value.where if isinstance(value, Value) else None) or "this value"
    if view is None:
        raise WrongValueError(_no_part(where, row, value.shape))
    if view is value:
        if (handed := handed_out(value)) is not None:
            handed.refusal = (
                f"{where} is one value for all prompts, and {row.name} has no part in it.\n"
                f"Write it for all of them, without a prompt's name: {where}[…] = x."
            )
        return value
    return _named(view, value, row, owner._model)


def _named(view: torch.Tensor, value: torch.Tensor, row: PromptRow, model: Any) -> torch.Tensor:
    if type(view) is not type(value) and isinstance(value, type(view)):
        view.__class__ = type(value)  # `[0]` of a block's output keeps its meaning
        if isinstance(view, Value) and isinstance(value, Value):
            view.where = f"{row.name}.{value.where}" if value.where else None
    noted: Any = view  # a text in its index is looked up in this row; see `Scope._by_text`
    noted._row, noted._texts = row, Texts((row,), model)
    return view


def _no_part(where: str, row: PromptRow, shape: torch.Size) -> str:
    return (
        f"{row.name}.{where} cannot be told from the other prompts' part: all of them are in one "
        f"tensor {tuple(shape)}, in no order that is known.\n"
        f"Read {where} of all prompts, or run {row.name} in a trace of its own."
    )


class Row:
    """A module, or the whole model, as one prompt of the batch sees it."""

    __slots__ = ("_batch", "_handle", "_model", "_row", "_touched", "_tracer")

    def __init__(
        self,
        handle: Any,
        row: PromptRow,
        batch: PromptBatch,
        touched: TouchedBy,
        tracer: Any = None,
    ) -> None:
        put = object.__setattr__
        put(self, "_model", handle._model)
        put(self, "_touched", touched)
        put(self, "_handle", handle)
        put(self, "_row", row)
        put(self, "_batch", batch)
        put(self, "_tracer", tracer)  # for the whole model only

    def __getattr__(self, name: str) -> Any:
        row = self._row
        if name == "tokens" and self._tracer is not None:
            return self._tracer.input_ids[row.index : row.index + 1, row.start : row.stop]
        if name == "prompt" and self._tracer is not None:
            return self._tracer.prompts[row.index]
        if name in self._handle._hides:
            return self._wrapped(of_user(self._handle, name))
        if name == "pattern":
            return self._wrapped(pattern_of(self._handle)).output
        if name in NAMED:
            return value_named(self._handle, name).read(self._wrapped)
        if (part := place_of_part(self._handle, name)) is not None:
            return self._wrapped(part).output
        found = of_user(self._handle, name)
        if name in _VALUES:
            self._note(name)
            return self._part(found)
        if isinstance(found, Heads):
            return Heads(
                self,
                *head_layout(self._handle),
                lambda head: self._wrapped(result_of(self._handle, head)),
            )
        if name in ("ops", "calls"):
            return RowPlaces(found, self)
        return self._wrapped(found)

    def __setattr__(self, name: str, new: Any) -> None:
        if name == "pattern" and name not in self._handle._hides:
            self._wrapped(pattern_of(self._handle)).output = new
            return
        if name in NAMED and name not in self._handle._hides:
            value_named(self._handle, name).write(new, self._wrapped)
            return
        if (part := place_of_part(self._handle, name)) is not None:
            self._wrapped(part).output = new
            return
        if name not in _VALUES:
            setattr(self._handle, name, new)  # raises the handle's own error
            return
        self._note(name)
        self._write(getattr(self._handle, name), new, f"{self._row.name}.{self._where(name)}")

    def __getitem__(self, index: Any) -> Any:
        return self._wrapped(self._handle[index])

    def __iter__(self):
        return (self._wrapped(each) for each in self._handle)

    def __len__(self) -> int:
        return len(self._handle)

    def __dir__(self) -> list[str]:
        return dir(self._handle)

    def __repr__(self) -> str:
        return f"{self._row.name}: {self._handle!r}"

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._handle(*args, **kwargs)

    def next(self) -> Row:
        self._handle.next()
        return self

    def _note(self, name: str) -> None:
        """Notes by which prompt's name a value was touched: the engine knows the batch alone."""
        kind = "input" if name.startswith("input") else "output"
        found = self._touched.setdefault(self._where(kind), {})
        found[f"{self._row.name}.{self._where(name.removeprefix('_'))}"] = None

    def _where(self, name: str) -> str:
        if self._handle._called is not None:
            return self._handle._called
        return f"{self._handle.name}.{name}" if self._handle.name else name

    def _wrapped(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self._wrapped(each) for each in found]
        if hasattr(found, "ancestors"):  # a handle
            return Row(found, self._row, self._batch, self._touched)
        return found

    def _part(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return part(value, self)
        if hasattr(value, "to_tuple"):
            return RowParts(value, self)
        return value

    def _write(self, whole: Any, new: Any, where: str) -> None:
        if not isinstance(whole, torch.Tensor):
            raise WrongValueError(
                f"{where} is not one tensor.\nWrite one item of it, such as {where}[0] = x."
            )
        mine = part(whole, self)
        if isinstance(new, torch.Tensor) and new.ndim and new.shape != mine.shape:
            raise WrongValueError(
                f"{where} takes another shape.\nExpected: {tuple(mine.shape)}. Found: "
                f"{tuple(new.shape)}.\nPrompts of different length have values of different "
                f"length: write the positions you mean, such as {where}[:, -1] = x."
            )
        mine[...] = new


class RowPlaces:
    """A module's operations, or its calls, each as one prompt sees it."""

    __slots__ = ("_found", "_owner")

    def __init__(self, found: Any, owner: Row) -> None:
        self._found, self._owner = found, owner

    def __getitem__(self, which: Any) -> Any:
        return self._owner._wrapped(self._found[which])

    def __getattr__(self, name: str) -> Any:
        return self._owner._wrapped(getattr(self._found, name))

    def __iter__(self):
        return (self._owner._wrapped(each) for each in self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __dir__(self) -> list[str]:
        return dir(self._found)

    def __repr__(self) -> str:
        return repr(self._found)


class RowParts:
    """A tuple or model output, each tensor of it as one prompt sees it; see `Parts`."""

    __slots__ = ("_owner", "_parts")

    def __init__(self, parts: Any, owner: Row) -> None:
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_owner", owner)

    @property  # `isinstance` takes it for the container; nobody sets it
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self._parts.__class__

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, slice):
            return tuple(self)[key]
        return self._owner._part(self._parts[key])

    def __getattr__(self, name: str) -> Any:
        return self._owner._part(getattr(self._parts, name))

    def __setitem__(self, key: Any, new: Any) -> None:
        self._owner._write(
            self._parts[key], new, f"{self._owner._row.name}.{self._parts.where}[{key!r}]"
        )

    def __setattr__(self, name: str, new: Any) -> None:
        self[name] = new

    @property
    def value(self) -> Any:
        """A copy in the container's own type, with the row's part of its tensors."""
        return _plain_parts(self)

    def __len__(self) -> int:
        return len(self._parts)

    def __iter__(self):
        return (self._owner._part(each) for each in self._parts)


def _plain_parts(parts: RowParts) -> Any:
    """The same structure as a container of the batch, with copies of the row's part of it."""
    whole = parts._parts.value
    items = {}
    for key, item in entries(whole):
        if isinstance(item, torch.Tensor):
            items[key] = plain(own_copy(parts[key]))
        elif is_container(item):
            items[key] = _plain_parts(parts[key])
    return rebuild(whole, items)
