"""Prompts that a sweep reads and never changes: their values come from one run, and cost no rows.

def patch(block, position, clean):
    model.layers[block].output[:, position] = clean.layers[block].output[:, position]
    return model.logits[:, -1]

model.sweep(corrupt, patch, variants, references={"clean": prompt})
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import torch

from nnsight_magic.engine.places.attention_values import result_of
from nnsight_magic.engine.places.every_head import Heads
from nnsight_magic.engine.places.heads import head_layout
from nnsight_magic.engine.places.pattern import pattern_of
from nnsight_magic.engine.sites.site import Site
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import Value, handed_out
from nnsight_magic.errors import WrongValueError

Reading = Callable[[], AbstractContextManager[None]]
_PLACES = ("ops", "calls", "source")  # of a module: what holds further places


class ReadOnly(Pause):
    """A value of a run that all variants share: it may be read, and not be written."""

    def __init__(self, site: Site, value: Any, name: str):
        super().__init__(site, value, lambda pause: None, False)
        self._name = name

    def take(self, path: tuple, cls: type[Value] = Value) -> Any:
        """As of every pause; the copy that is handed out refuses to be written to."""
        found = super().take(path, cls)
        if isinstance(found, torch.Tensor) and (handed := handed_out(found)) is not None:
            handed.refusal = self._refusal()
        return found

    def put(self, path: tuple, new: Any, check: bool = True) -> None:
        """Refuse.

        Raises:
            WrongValueError: always.
        """
        raise WrongValueError(self._refusal())

    def _refusal(self) -> str:
        return (
            f"{self._name}.{self.describe()} is of a prompt that the sweep only reads: one run of "
            "it serves all points.\nWrite to what is swept, or work on a copy: "
            f"{self._name}.{self.describe()}.clone()."
        )


class Reference:
    """The model, or a module of it, on a prompt that a sweep reads: `clean.layers[3].output`.

    Args:
        place: a module's handle, or an operation's.
        reading: a block in which what is touched belongs to the reference.
        name: what the prompt is called.
    """

    __slots__ = ("_name", "_place", "_reading")

    def __init__(self, place: Any, reading: Reading, name: str):
        put = object.__setattr__
        put(self, "_place", place)
        put(self, "_reading", reading)
        put(self, "_name", name)

    # What `Heads` asks of an attention module.

    @property
    def _model(self) -> Any:
        return self._place._model

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        with self._reading():
            if name == "pattern" and name not in self._place._hides:
                found = pattern_of(self._place).output
            else:
                found = getattr(self._place, name)
        if isinstance(found, Heads):
            return Heads(
                self,
                *head_layout(self._place),
                lambda head: Reference(result_of(self._place, head), self._reading, self._name),
            )
        if name in _PLACES and name not in self._place._hides:
            return ReferencePlaces(found, self)
        return self._of_reference(found)

    def __setattr__(self, name: str, new: Any) -> None:
        where = ".".join(filter(None, (self._name, self._place.name, name)))
        raise WrongValueError(
            f"{where} cannot be written: the sweep only reads {self._name}, and one run of it "
            "serves all points.\nWrite to what is swept."
        )

    def __getitem__(self, index: Any) -> Any:
        return self._of_reference(self._place[index])

    def __iter__(self) -> Any:
        return (self._of_reference(each) for each in self._place)

    def __len__(self) -> int:
        return len(self._place)

    def __dir__(self) -> list[str]:
        return dir(self._place)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._place(*args, **kwargs)

    def __repr__(self) -> str:
        return f"{self._name}: {self._place!r}"

    def _of_reference(self, found: Any) -> Any:
        if isinstance(found, list):
            return [self._of_reference(each) for each in found]
        if hasattr(found, "ancestors"):  # a module, or an operation
            return type(self)(found, self._reading, self._name)
        return self._seen(found)

    def _seen(self, value: Any) -> Any:
        """A value as it is handed on."""
        return value


class ReferencePlaces:
    """The operations or calls of a module, on the reference."""

    __slots__ = ("_found", "_owner")

    def __init__(self, found: Any, owner: Reference):
        self._found, self._owner = found, owner

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self._wrapped(getattr(self._found, name))

    def __getitem__(self, which: Any) -> Any:
        return self._wrapped(self._found[which])

    def __iter__(self) -> Any:
        return (self._wrapped(each) for each in self._found)

    def __len__(self) -> int:
        return len(self._found)

    def __dir__(self) -> list[str]:
        return dir(self._found)

    def __repr__(self) -> str:
        return repr(self._found)

    def _wrapped(self, found: Any) -> Any:
        if hasattr(found, "ancestors"):
            return self._owner._of_reference(found)
        return found if isinstance(found, str | int) else ReferencePlaces(found, self._owner)
