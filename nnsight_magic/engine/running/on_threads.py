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
from collections.abc import Callable
from typing import Any

import torch

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.running.interrupt import interruptible, uninterrupted
from nnsight_magic.engine.running.thread_state import ThreadState


class Lost(RuntimeError):
    """Nobody is left who could let this one go on."""


class Threadlet:
    """A coroutine in a thread of its own; without `run`, the user's own thread."""

    def __init__(self, run: Callable[[], Any] | None = None):
        self.parent: Any = None if run is None else current_threadlet()
        self.gr_context: contextvars.Context | None = None
        self.dead = False
        self._run: Any = run
        self._begun = self._lives = run is None  # asked to run, and running
        self._os_thread: Any = threading.current_thread() if run is None else None
        self._came: Any = None  # what it is to go on with: a value, an error
        self._called = threading.Event()
        # The user's thread, from which all began; what is true of the whole group is kept there.
        self._root: Threadlet = self if self.parent is None else self.parent._root
        if run is None:
            self._running: Threadlet = self
            self._handing_over = threading.Lock()

    def __bool__(self) -> bool:
        return self._begun and not self.dead

    @uninterrupted
    def switch(self, value: Any = None) -> Any:
        """Let it go on with a value; what somebody switches back with."""
        here = current_threadlet()
        self._call(value, None)
        return here._wait()

    @uninterrupted
    def throw(self, error: type[BaseException] | BaseException) -> Any:
        """Let it go on with an error that rises where it is suspended."""
        here = current_threadlet()
        self._call(None, error)
        return here._wait()

    def _call(self, value: Any, error: Any) -> None:
        """Let it go on, beside the caller; who calls has to wait then, or to end."""
        root = self._root
        with root._handing_over:
            _look_for_interrupts()
            root._running, self._came = self, (value, error)
            if self._begun:
                self._called.set()
            else:
                self._begun = True
                self._begin()

    def _begin(self) -> None:
        state = ThreadState.capture().on_a_stack_of_its_own()
        modes = torch_insides.dispatch_modes()
        device = torch.cuda.current_device() if torch.cuda.is_initialized() else None
        self._os_thread = threading.Thread(
            target=self._live, args=(state, modes, device), name="nnsight_magic", daemon=True
        )
        self._os_thread.start()

    def _wait(self) -> Any:
        """Until it is called. An interrupt meanwhile is meant for the one that is running."""
        interrupt = None
        while self._came is None:
            try:
                self._sleep()
            except Lost:
                raise
            except BaseException as raised:  # out of a handler of signals
                interrupt = self._hand_on(raised)
        self._called.clear()
        (value, error), self._came = self._came, None
        if (interrupt or error) is not None:
            try:
                raise interrupt or error
            finally:
                del error, interrupt  # an error in its own traceback keeps all it holds alive
        return value

    @interruptible
    def _sleep(self) -> None:
        """Until it is called; and look, now and then, whether there is still somebody to call it.

        An error out of a handler of signals may have cut short what called the other.
        """
        if self._called.wait(1):
            return
        root = self._root
        with root._handing_over:
            running = root._running
            if running._came is not None:
                running._called.set()
            if running._os_thread is None or not running._os_thread.is_alive():
                raise Lost("The thread that this forward ran in has ended.")

    def _hand_on(self, interrupt: BaseException) -> BaseException | None:
        """Let it rise in the one that is running; if that is just done, it is the caller's."""
        root = self._root
        with root._handing_over:
            running = root._running
            if self._came is not None:
                return interrupt
            if running._lives:
                _raise_in(running._os_thread.ident, type(interrupt))
            else:
                running._came = None, interrupt
        return None

    def _live(self, *inherited: Any) -> None:
        """The whole life of the thread."""
        try:
            outcome = self._outcome(*inherited)
        except BaseException as raised:
            outcome = None, raised
        self.dead, told = True, False
        while not told:
            try:
                self.parent._call(*outcome)
                told = True
            except BaseException as interrupt:
                outcome = None, interrupt
        del outcome

    def _outcome(self, state: ThreadState, modes: list, device: int | None) -> tuple[Any, None]:
        with self._root._handing_over:
            _own.threadlet, self._lives = self, True
            (_, error), self._came = self._came, None
        if error is not None:
            raise error
        torch.get_num_threads()  # torch takes over the number into a thread when it is asked for it
        if device is not None:
            torch.cuda.set_device(device)
        with state.inference_guard():
            state.restore(ThreadState.capture())
            torch_insides.enter_dispatch(modes)
            run, self._run = self._run, None
            return (self.gr_context or contextvars.Context()).run(run), None


_own = threading.local()  # the threadlet of each thread


def current_threadlet() -> Threadlet:
    """The one that runs in this thread."""
    threadlet = getattr(_own, "threadlet", None)
    if threadlet is None:
        threadlet = _own.threadlet = Threadlet()
    return threadlet


def thread_of_threadlet() -> int:
    """The user's thread that the present one belongs to."""
    return current_threadlet()._root._os_thread.ident


def _raise_in(thread: int, error: type[BaseException]) -> None:
    """Let an error rise in another thread, at its next step of Python."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def _look_for_interrupts() -> None:
    """Python looks for what another thread has sent when a function begins: here, not later."""
