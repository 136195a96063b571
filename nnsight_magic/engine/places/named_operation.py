"""Which values with a name of their own are operations in a module's forward."""

from __future__ import annotations

from typing import Any

from nnsight_magic.engine.places.named_part import named_on
from nnsight_magic.engine.places.named_values import NAMED, value_named
from nnsight_magic.engine.places.pattern import pattern_of
from nnsight_magic.engine.places.place import Place


def operation_place(handle: Any, name: str) -> Place | None:
    """The place of the operation that a value stands in; `None` where it is a module's own.

    Args:
        handle: of a module.
        name: of a value on it, `"resid_mid"`; of any other attribute there is none.

    Raises:
        NoSuchModuleError: this architecture has no such value there.
    """
    place: Any = None
    if name == "pattern":
        place = pattern_of(handle)
    elif name in NAMED:
        place = value_named(handle, name).place
    elif (part := named_on(handle, name)) is not None:
        place = part.find(handle, name)
    return place if place is not None and place._operation is not None else None
