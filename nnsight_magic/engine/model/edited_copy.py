"""`with model.edit() as edited:` another wrapper of the same module, with edits of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from nnsight_magic.engine.editing.edits import Edits
from nnsight_magic.engine.memory.resume import Resume
from nnsight_magic.engine.model.travel import edits_of, with_edits
from nnsight_magic.engine.places.handle import Handle
from nnsight_magic.engine.places.own_names import class_of, hide_names
from nnsight_magic.engine.tracing.turn import Turn

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root

_OWN = ("_handles", "_names_written", "_lock", "_owner", "_active", "_packs", "resume", "edits")


def edited_copy(model: Root) -> Any:
    """A wrapper that shares the module, its weights and what is attached, and has the edits so far.

    Weights that are not there yet are loaded once for both.
    """
    copy: Any = object.__new__(class_of(model))
    Handle.__init__(copy, copy, "")
    model.__dict__.setdefault("_family", WeakSet([model])).add(copy)
    shared = {name: value for name, value in model.__dict__.items() if name not in _OWN}
    copy.__dict__.update(
        shared,
        _handles={},
        _names_written={},
        _lock=Turn(),
        _owner=None,
        _active=None,
        _packs={},
        _shares_with=model,
        resume=Resume(model.resume.budget),
        edits=Edits(copy),
    )
    hide_names(copy, copy._root)
    copy.resume.enabled = model.resume.enabled
    return with_edits(copy, edits_of(model))
