"""Which tensors views keep alive: the latest ones, up to a budget.

A widget lives as long as its kernel, since its cell may be scrolled to at any time. Were each to
hold its tensor, a cell that shows one and is run a hundred times would hold a hundred. So views
hold tensors weakly, and those shown last are kept here; a view whose tensor is gone goes on over
what it stored, and says so.
"""

from __future__ import annotations

import threading
from typing import Any

BUDGET = 1 << 30  # bytes of storage


class Held:
    """The tensors that were shown last; the oldest are let go first, the newest never."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget = budget
        self._tensors: dict[int, Any] = {}
        self._lock = threading.Lock()

    def keep(self, tensor: Any) -> None:
        with self._lock:
            self._tensors.pop(id(tensor), None)
            self._tensors[id(tensor)] = tensor
            excess = self.bytes - self.budget
            for key in list(self._tensors)[:-1]:
                if excess <= 0:
                    break
                excess -= _storage(self._tensors.pop(key))

    def release(self, tensor: Any) -> None:
        """Lets go of a tensor before its time."""
        with self._lock:
            self._tensors.pop(id(tensor), None)

    @property
    def bytes(self) -> int:
        """What all of them take; a storage that several share counts for each."""
        return sum(map(_storage, self._tensors.values()))


def _storage(tensor: Any) -> int:
    return tensor.untyped_storage().nbytes()


HELD = Held()
