"""Where a value comes from: what values ask of the pause that handed them out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import torch


class Origin(Protocol):
    """A place of a forward pass whose value is in the user's hands; `Pause` is one."""

    closed: bool  # the run is over

    def describe(self) -> str:
        """As the user writes it."""
        ...

    def part(self, path: tuple) -> Any:
        """The model's own value at a path of keys, with everything written so far."""
        ...

    def take(self, path: tuple) -> Any:
        """The same for the user: a copy."""
        ...

    def put(self, path: tuple, new: Any) -> None:
        """Let `new` flow on in its place."""
        ...

    def check_in_place_write(self, handed: Any, alias: torch.Tensor) -> None:
        """Refuse a write that could not flow on."""
        ...

    def lend(self, handed: Any, alias: torch.Tensor, borrower: Any) -> None:
        """Note that somebody else has the memory of a value."""
        ...

    def refuse_old(self, where: str) -> None:
        """Refuse a write into what was read before another write, or in a run that is over."""
        ...


class Handed(Protocol):
    """A value in the user's hands, as its memory is known by."""

    path: tuple  # of keys, in the value of the site
    refusal: str  # why it is not to be written to

    @property
    def pause(self) -> Any:
        """The `Origin`."""
        ...
