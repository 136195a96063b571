"""Whose turn it is on a model: one trace at a time, and it is always known which."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any


class Turn:
    """A lock that knows its holder from the very moment at which it is taken.

    With a lock of `threading` an exception may rise when it is taken and before anybody has noted
    by whom: nobody would give it back. Here both are one step. What is written in Python in
    `threading` (an `Event`, a `Condition`) has such a lock inside, and is no better.
    """

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}
        self._bells: deque[threading.Lock] = deque()  # one for each that waits; released, it rings

    def take(self, holder: Any, meanwhile: Callable[[], None]) -> None:
        """Wait until it is free, and take it; `meanwhile` is called now and then."""
        while self._held.setdefault("by", holder) is not holder:
            bell = threading.Lock()
            bell.acquire()
            self._bells.append(bell)
            if self._held.setdefault("by", holder) is holder:  # free before the bell hung
                return
            if not bell.acquire(timeout=0.2):
                with contextlib.suppress(ValueError):  # it rings just now
                    self._bells.remove(bell)
            meanwhile()

    def give_back(self, holder: Any) -> None:
        """Let the next one have it, if it is `holder` who has it."""
        if self._held.get("by") is holder:
            self._held.clear()
            with contextlib.suppress(IndexError):  # the last one was taken down just now
                while self._bells:
                    self._bells.popleft().release()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return bool(self._held)
