"""Whose turn it is on a model: one trace at a time, and it is always known which."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any


class Turn:
    """A lock that knows its holder from the very moment at which it is taken.

    With a lock of `threading` an exception may rise when it is taken and before anybody has noted
    by whom: nobody would give it back. Here both are one step.
    """

    def __init__(self) -> None:
        self._held: dict[str, Any] = {}
        self._given_back = threading.Event()

    def take(self, holder: Any, meanwhile: Callable[[], None]) -> None:
        """Wait until it is free, and take it; `meanwhile` is called now and then."""
        while True:
            self._given_back.clear()
            if self._held.setdefault("by", holder) is holder:
                return
            self._given_back.wait(0.2)
            meanwhile()

    def give_back(self, holder: Any) -> None:
        """Let the next one have it, if it is `holder` who has it."""
        if self._held.get("by") is holder:
            self._held.clear()
            self._given_back.set()

    def locked(self) -> bool:
        """Whether somebody has it."""
        return bool(self._held)
