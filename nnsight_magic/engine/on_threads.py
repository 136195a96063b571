"""Coroutines on threads, for systems where greenlets would not be safe.

A `Threadlet` does what the engine wants of a greenlet, in the same words: `switch` and `throw`
let it go on and wait until somebody switches back; it ends by going back to its `parent`. One of
them runs at a time. What torch holds for each thread (grad mode, autocast, …) it takes over from
where it is begun, and keeps for itself from then on.
"""

from __future__ import annotations

import contextvars
import ctypes
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

import torch

from nnsight_magic.engine.greenthread import ThreadState
from nnsight_magic.engine.interrupt import interruptible


class Threadlet:
    """A coroutine in a thread of its own; without `run`, the user's own thread."""

    def __init__(self, run: Callable[[], Any] | None = None):
        self.parent: Threadlet | None = None if run is None else current_threadlet()
        self.gr_context: contextvars.Context | None = None
        self.dead = False
        self._run = run
        self._begun = run is None
        self._thread = threading.get_ident()
        # The user's thread, from which all began; what is told of the group stands there.
        self._root: Threadlet = self if self.parent is None else self.parent._root
        self._running: Threadlet = self
        self._came: deque[tuple[Any, Any]] = deque()  # what it is to go on with: a value, an error
        self._called = threading.Event()

    def __bool__(self) -> bool:
        return self._begun and not self.dead

    def switch(self, value: Any = None) -> Any:
        """Let it go on with a value; what somebody switches back with."""
        return self._go_on(value, None)

    def throw(self, error: type[BaseException] | BaseException) -> Any:
        """Let it go on with an error that rises where it stands."""
        return self._go_on(None, error)

    def _go_on(self, value: Any, error: Any) -> Any:
        here = current_threadlet()
        if self._begun:
            self._call(value, error)
        else:
            self._begun = True
            self._came.append((value, error))
            self._root._running = self
            state = ThreadState.capture()
            device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
            thread = threading.Thread(
                target=self._live, args=(state, device), name="nnsight_magic", daemon=True
            )
            thread.start()
        return here._wait()

    def _call(self, value: Any, error: Any) -> None:
        self._root._running = self
        self._came.append((value, error))
        self._called.set()

    @interruptible
    def _wait(self) -> Any:
        """Until it is called. An interrupt meanwhile is meant for the one that is running."""
        interrupt = told = None
        while not self._came:
            try:
                self._called.wait()
            except BaseException as raised:  # of a handler of signals, at any moment
                interrupt, told = raised, self._root._running._thread
                if not self._came:
                    _raise_in(told, type(raised))
        self._called.clear()
        value, error = self._came.popleft()
        if error is not None:
            raise error
        if interrupt is not None:  # it had not come to it yet
            _raise_in(told, None)
            raise interrupt
        return value

    def _live(self, state: ThreadState, device: int | None) -> None:
        """The whole life of the thread."""
        _own.threadlet, self._thread = self, threading.get_ident()
        value, error = self._came.popleft()
        try:
            if error is not None:
                raise error
            if device is not None:
                torch.cuda.set_device(device)
            with state.inference_guard():
                state.restore(ThreadState.capture())
                value = (self.gr_context or contextvars.Context()).run(self._run)
        except BaseException as raised:
            value, error = None, raised
        self.dead, self._run, parent = True, None, self.parent
        parent._call(value, error)


_own = threading.local()  # the threadlet of each thread


def current_threadlet() -> Threadlet:
    """The one that runs in this thread."""
    threadlet = getattr(_own, "threadlet", None)
    if threadlet is None:
        threadlet = _own.threadlet = Threadlet()
    return threadlet


def thread_of_threadlet() -> int:
    """The user's thread that the present one belongs to."""
    return current_threadlet()._root._thread


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Let an error rise in another thread, at its next step of Python; `None` takes it back."""
    wanted = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), wanted)
