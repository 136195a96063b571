"""Where an analysis reads and writes in a block, by the field's names, and the axes it has there.

    resid_pre, resid_mid, resid_post    the residual stream                 by position
    attn, mlp                           what the half adds to it            by position
    heads                               z, before the output projection     by head
    q, k, v                             of each head; k and v of each       by head
                                        key-value head
    pattern                             attention weights                   by head
    neurons                             the MLP's, after the activation     by position

By position means one token at a time, all of what stands there; by head one head at a time, at all
tokens. `by=("position", "head")` does both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from nnsight_magic.errors import BadInputError
from nnsight_magic.near import asked_sentence

HEAD, POSITION = "head", "position"


@dataclass(frozen=True)
class Place:
    """What one name of a site means in a block.

    Attributes:
        name: as it is written.
        path: where it stands in a block, as a cell writes it.
        token_axis: which axis of the value counts tokens (of a pattern: queries).
        head_axis: which axis counts heads, where there is one.
        by: the axes of an analysis of it, unless others are asked for.
        words: what it is, for titles.
    """

    name: str
    path: str
    token_axis: int
    head_axis: int | None
    by: tuple[str, ...]
    words: str

    @property
    def late(self) -> bool:
        """Whether it comes behind the attention pattern of its block."""
        return self.name not in ("resid_pre", "q", "k", "v", "pattern")

    def value(self, block: Any) -> Any:
        """What stands there, from a block's handle, in a trace."""
        handle, name = self.on(block)
        return getattr(handle, name)

    def on(self, block: Any) -> tuple[Any, str]:
        """The handle in a block that the value is an attribute of, and its name there."""
        part, _, name = self.path.rpartition(".")
        return (getattr(block, part) if part else block), name

    def index(self, position: int | None = None, head: int | None = None) -> tuple[Any, ...]:
        """The index of one token, of one head, or of one head at one token."""
        last = max(self.token_axis, self.head_axis or 0)
        index: list[Any] = [slice(None)] * (last + 1)
        if position is not None:
            index[self.token_axis] = position
        if head is not None:
            assert self.head_axis is not None
            index[self.head_axis] = head
        return tuple(index)

    def write(self, block: Any, new: Any, position: int | None, head: int | None) -> None:
        """Puts `new`, a number or what stands at that index elsewhere, into a block."""
        self.value(block)[self.index(position, head)] = new


_BY_TOKEN, _BY_HEAD = (POSITION,), (HEAD,)

PLACES = {
    place.name: place
    for place in (
        Place("resid_pre", "resid_pre", 1, None, _BY_TOKEN, "residual stream before"),
        Place("resid_mid", "resid_mid", 1, None, _BY_TOKEN, "residual stream between"),
        Place("resid_post", "resid_post", 1, None, _BY_TOKEN, "residual stream behind"),
        Place("attn", "attn.added", 1, None, _BY_TOKEN, "what attention adds"),
        Place("mlp", "mlp.added", 1, None, _BY_TOKEN, "what the MLP adds"),
        Place("heads", "attn.z", 1, 2, _BY_HEAD, "heads"),
        Place("q", "attn.q", 1, 2, _BY_HEAD, "queries"),
        Place("k", "attn.k", 1, 2, _BY_HEAD, "keys"),
        Place("v", "attn.v", 1, 2, _BY_HEAD, "values"),
        Place("pattern", "attn.pattern", 2, 1, _BY_HEAD, "attention patterns"),
        Place("neurons", "mlp.neurons", 1, None, _BY_TOKEN, "neurons"),
    )
}


def place_of(site: str) -> Place:
    """The place of that name.

    Raises:
        BadInputError: there is none.

    >>> place_of("heads").by
    ('head',)
    """
    found = PLACES.get(site)
    if found is None:
        hint = asked_sentence(site, PLACES)
        raise BadInputError(f"There is no site {site!r}.{hint}\nSites are {', '.join(PLACES)}.")
    return found


def axes_of(place: Place, by: str | Sequence[str] | None) -> tuple[str, ...]:
    """The axes of an analysis beside the layer: the place's own, or those asked for.

    Raises:
        BadInputError: the place has no such axis.
    """
    if by is None:
        return place.by
    asked = (by,) if isinstance(by, str) else tuple(by)
    known = (POSITION, HEAD) if place.head_axis is not None else (POSITION,)
    for each in asked:
        if each not in known:
            raise BadInputError(
                f"{place.name} has no axis {each!r}; it goes by {' and '.join(known)}."
            )
    return tuple(each for each in known if each in asked)
