"""Whose turn it is on a model: one trace at a time, and it is always known which."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable
from typing import Any
from weakref import WeakSet

from nnsight_magic.engine.running.coroutine import own_thread
from nnsight_magic.engine.running.interrupt import watch
from nnsight_magic.errors import TraceInsideTraceError


class Turn:
    """A lock that knows its holder from the very moment at which it is taken.

    With a lock of `threading` an exception may rise when it is taken and before anybody has noted
    by whom: nobody would give it back. Here both are one step. What is written in Python in
    `threading` (an `Event`, a `Condition`) has such a lock inside, and is no better.

    Args:
        beside: the turn of another wrapper of the same module, whose traces touch it too.
    """

    def __init__(self, beside: Turn | None = None) -> None:
        self._held: dict[str, Any] = {}
        self._bells: deque[threading.Lock] = deque()  # one for each that waits; released, it rings
        self._now: tuple[int | None, Any] = (None, None)  # a thread and its trace, set in one step
        self._family: WeakSet[Turn] | None = None  # those of all wrappers of the module
        if beside is not None:
            if beside._family is None:
                beside._family = WeakSet([beside])
            self._family = beside._family
            self._family.add(self)

    @property
    def owner(self) -> int | None:
        """The thread that traces the model, if one does."""
        return self._now[0]

    @property
    def active(self) -> Any:
        """The trace that is running, in whichever thread; a scan or an edit that is recorded."""
        return self._now[1]

    def running(self) -> Any:
        """This thread's trace of the model, or of an edited copy: their modules are the same."""
        thread = own_thread()
        for turn in (self,) if self._family is None else (self, *self._family):
            owner, active = turn._now
            if owner == thread:
                return active
        return None

    def begin(self, trace: Any, parent: Any) -> None:
        """One trace at a time: another thread waits, the same thread gets an error.

        An invoke is part of its trace, its `parent`, and stands in its place while it lasts.

        Raises:
            TraceInsideTraceError: this thread is tracing the model.
        """
        thread, (owner, active) = own_thread(), self._now
        if owner == thread and (parent is None or active is not parent):
            raise TraceInsideTraceError(
                "This model is being traced already: a trace was begun inside a trace.\n"
                "End the outer one first (leave its with block), or put both prompts into one "
                "trace: model.trace([first, second])."
            )
        if parent is None:
            self.take(trace, watch.deliver)
        self._now = (thread, trace)

    def end(self, trace: Any, parent: Any) -> None:
        """The trace is over, and its parent runs on if it has one; may be called again."""
        owner, active = self._now
        if parent is not None:
            if active is trace:
                self._now = (owner, parent)
            return
        if active is trace:
            self._now = (None, None)
        self.give_back(trace)

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
