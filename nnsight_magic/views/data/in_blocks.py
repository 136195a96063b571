"""Patterns of many blocks of which one at a time is in memory, as a tensor view reads a tensor."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nnsight_magic.errors import BadInputError, GoneError
from nnsight_magic.views.data.array import Array, Ends
from nnsight_magic.views.data.held import HELD

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import torch

    from nnsight_magic.views.data.wire import Statistics

WHOLE = (
    "the patterns of all blocks do not stand in memory together; draw from and to, or keep them: "
    "analyses.attention(…, keep=True)"
)


class InBlocks(Array):
    """Numbers from 0 to 1 `(blocks, heads, from, to)`, float32, read a block at a time.

    The block that was read last is one of the tensors that views keep, up to a gigabyte of all.

    Args:
        shape: of all of it.
        read: gives the patterns `(heads, from, to)` of the block at a place; it may take a run of
            the model.
        known: patterns `(from, to)` that are kept, by block and head.
    """

    def __init__(
        self,
        shape: Sequence[int],
        read: Callable[[int], torch.Tensor],
        known: Mapping[tuple[int, int], torch.Tensor] | None = None,
    ) -> None:
        self.shape = tuple(shape)
        self.dtype, self.device = "float32", "cpu"
        self.size = 1
        for each in self.shape:
            self.size *= each
        self.bytes = 4 * self.size
        self.complex = self.integer = False
        self._read, self._known = read, dict(known or {})
        self._last: tuple[int, Callable[[], Any]] | None = None

    @property
    def tensor(self) -> Any:
        """There is none.

        Raises:
            GoneError: always.
        """
        raise GoneError(WHOLE)

    def release(self) -> None:
        """Lets go of what is kept."""
        self._known.clear()
        self._last = None

    def block(self, at: int) -> torch.Tensor:
        """The patterns `(heads, from, to)` of the block at a place."""
        found = self._last[1]() if self._last is not None and self._last[0] == at else None
        if found is None:
            if self._last is not None:
                before = self._last[1]()
                self._last = None
                if before is not None:
                    HELD.release(before)
                del before
            found = self._read(at)
            HELD.keep(found)
            self._last = at, weakref.ref(found)
        return found

    def is_at_hand(self, block: int, head: int) -> bool:
        """Whether that pattern is in memory now."""
        last = self._last[1]() if self._last is not None and self._last[0] == block else None
        return last is not None or (block, head) in self._known

    def head(self, block: int, head: int) -> torch.Tensor:
        """The pattern `(from, to)` of one head."""
        known = self._known.get((block, head))
        if known is not None:
            return known
        patterns = self.block(block)
        if head >= len(patterns):
            raise BadInputError(f"that block has {len(patterns)} heads, so there is no {head}")
        return patterns[head]

    def slice(self, axes: Sequence[int], index: Sequence[int], part: str = "real") -> Any:
        """As of any array; the first axis is never one of those drawn.

        Raises:
            BadInputError: it is.
        """
        self.selector(axes, index)
        if 0 in axes:
            raise BadInputError(WHOLE)
        block, head = int(index[0]), int(index[1])
        if 1 in axes:
            within = [axis - 1 if axis > 0 else axis for axis in axes]
            return Array(self.block(block)).slice(within, index[1:])
        within = [axis - 2 if axis > 1 else axis for axis in axes]
        return Array(self.head(block, head)).slice(within, index[2:])

    def some_planes(
        self, axes: Sequence[int], index: Sequence[int], part: str = "real", without: bool = False
    ) -> Iterator[Ends]:
        """None: what colours need to know is known, from 0 to 1."""
        return iter(())

    def text(self, index: Sequence[int]) -> str:
        """One weight exactly."""
        self.selector((), index)
        block, head, query, key = map(int, index)
        return f"{self.head(block, head)[query, key].item():.9g}"

    def sample(self, part: str = "real") -> np.ndarray:
        """Values of one block are no sample of all.

        Raises:
            BadInputError: always.
        """
        raise BadInputError(WHOLE)

    def statistics(self, part: str = "real", exact: bool = False) -> Statistics:
        """The ends that weights have; nothing else is known of all blocks.

        Raises:
            BadInputError: every value should be looked at.
        """
        if exact:
            raise BadInputError(WHOLE)
        return {"count": self.size, "min": 0.0, "max": 1.0}
