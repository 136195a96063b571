"""Ctrl-C at a moment when the engine must not be torn apart.

KeyboardInterrupt may rise between any two steps of Python code: after a hook was registered and
before it was noted, or on the first step of `__exit__`, before its `try` is entered. So while a
trace lasts, the handler of SIGINT looks first where the program stands. In a function marked
`uninterrupted` the interrupt is noted, and `deliver` hands it on when that work is done. Anywhere
else, in the user's code and in the model's, it goes at once to the handler that was there before.

Only the main thread gets signals. In any other nothing is done here.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any, TypeVar

# The functions beneath those of `signal`, which make an enum of every handler, at a cost that each
# trace would pay four times over.
try:
    from _signal import getsignal as _get_handler  # pyright: ignore[reportMissingImports]
    from _signal import signal as _set_handler  # pyright: ignore[reportMissingImports]
except ImportError:  # not every Python has them
    from signal import getsignal as _get_handler
    from signal import signal as _set_handler

F = TypeVar("F", bound=Callable)

_may_interrupt: dict[CodeType, bool] = {}


def uninterrupted(function: F) -> F:
    """Mark a function that an interrupt must not leave half done, whatever it calls included."""
    _may_interrupt[function.__code__] = False
    return function


def interruptible(function: F) -> F:
    """Mark a part of an uninterrupted function that may take long."""
    _may_interrupt[function.__code__] = True
    return function


class _Watch:
    """The traces that are running in the main thread, and an interrupt that waits."""

    def __init__(self) -> None:
        self.traces: dict[int, Any] = {}
        self.noted = False
        self.before: Any = None

    @uninterrupted
    def begin(self, trace: Any) -> None:
        """A trace begins; it is watched over until `end`."""
        if threading.current_thread() is not threading.main_thread():
            return
        before = _get_handler(signal.SIGINT)
        if before is not _on_interrupt:
            if not callable(before):  # ignored, or not Python's business
                return
            self.before, self.noted = before, False
            self.traces.clear()
            self.traces[id(trace)] = trace
            _set_handler(signal.SIGINT, _on_interrupt)
        self.traces[id(trace)] = trace

    @uninterrupted
    def end(self, trace: Any) -> None:
        """A trace is over and everything is put away; an interrupt that waits rises now."""
        self.traces.pop(id(trace), None)
        if threading.current_thread() is not threading.main_thread():
            return
        self.give_back()
        self.deliver()

    def give_back(self) -> None:
        """Without a trace, the handler is the one that was there before."""
        if not self.traces and _get_handler(signal.SIGINT) is _on_interrupt:
            _set_handler(signal.SIGINT, self.before)

    def deliver(self) -> None:
        """Let an interrupt that waits rise here."""
        if self.noted and threading.current_thread() is threading.main_thread():
            self.noted = False
            self.before(signal.SIGINT, None)


watch = _Watch()


def _on_interrupt(number: int, frame: FrameType | None) -> None:
    watch.give_back()  # the last trace may have ended in another thread, which cannot do it
    here = frame
    while here is not None:
        may = _may_interrupt.get(here.f_code)
        if may is not None:
            if not may:
                watch.noted = True
                return
            break
        here = here.f_back
    watch.before(number, frame)
