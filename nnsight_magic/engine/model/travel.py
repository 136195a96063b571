"""How a wrapped model travels: into a copy, a file, another process.

A model that was loaded by name travels as that name, its options and its edits; whoever receives it
loads the weights when it first needs them. So a worker of a cluster gets some hundred bytes and
not some gigabytes. What a name does not say, weights that were changed since they were loaded or
modules that were attached, would be missing there without a word: it is refused.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from torch import nn

from nnsight_magic.engine.places.own_names import class_of
from nnsight_magic.errors import CannotTravelError

if TYPE_CHECKING:
    from typing import Protocol

    from nnsight_magic.engine.places.ports import Root

    class Travels(Root, Protocol):
        """A wrapper that knows how it was made."""

        _recipe: dict[str, Any] | None  # what it was loaded with, where it has a name
        _as_loaded: list[tuple] | None

        @property
        def loaded(self) -> bool: ...
        def _options(self) -> dict[str, Any]: ...


def by_name(model: Travels) -> tuple:
    """What pickle stores of a model: how to make it again.

    Raises:
        CannotTravelError: the model has no name, or is no longer the model of that name.
    """
    recipe = model._recipe
    if recipe is None:
        raise CannotTravelError(
            "This model is in memory and has no name by which another process could load it.\n"
            "Save it, module.save_pretrained(folder), and load that: LanguageModel(folder). A copy "
            "in this process: copy.deepcopy(model)."
        )
    _refuse_attached(model)
    if model.loaded and state_of(model._root) != model._as_loaded:
        raise CannotTravelError(
            f"The weights of {recipe['source']!r} were changed since they were loaded; where they "
            "are loaded by that name they are the old ones.\n"
            "Save them, model.module.save_pretrained(folder), and load that: LanguageModel(folder)."
        )
    return _made, (class_of(model), recipe, edits_of(model))


def deep_copy(model: Travels, memo: dict) -> Any:
    """A copy with weights of its own, of a model in memory; of another by its name."""
    if model._recipe is not None:
        return _made(*by_name(model)[1])
    _refuse_attached(model)
    return _like(model, copy.deepcopy(model._root, memo))


def shallow_copy(model: Travels) -> Any:
    """Another wrapper of the same module; of a model that was loaded by name, one of its own."""
    if model._recipe is not None:
        return _made(*by_name(model)[1])
    _refuse_attached(model)
    return _like(model, model._root)


def state_of(root: nn.Module) -> list[tuple]:
    """What says whether weights were changed: their identity, type and count of changes."""
    return [(id(each), each._version, each.dtype) for each in root.parameters()]


def _made(kind: type, recipe: dict[str, Any], edits: list[Any]) -> Any:
    return with_edits(kind(**recipe), edits)


def _like(model: Travels, root: nn.Module) -> Any:
    return with_edits(class_of(model)(root, **model._options()), edits_of(model))


def edits_of(model: Root) -> list[tuple]:
    """A model's edits as plain data."""
    return [
        (edit.name, list(edit.writes), edit.enabled, edit.steps) for edit in model.edits.values()
    ]


def with_edits(model: Root, edits: list[tuple]) -> Any:
    """The model, with the edits that `edits_of` gave."""
    from nnsight_magic.engine.editing.edits import Edit

    for name, writes, enabled, steps in edits:
        model.edits._add(Edit(name, writes, enabled, steps, model))
    return model


def _refuse_attached(model: Root) -> None:
    if model._handles.attached:
        raise CannotTravelError(
            f"A copy of this model would lack what was attached to its tree: "
            f"{', '.join(model._handles.attached)}.\n"
            "Copy it first, and attach the modules to the copy."
        )
