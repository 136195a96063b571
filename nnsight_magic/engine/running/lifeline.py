"""A block that is closed whatever rises, and at whatever moment.

An exception may rise between any two steps of Python code: the handler of an alarm raises, another
thread sends one, a debugger is left with `q`. Where it rises on the very first step of `__exit__`,
nobody calls `__exit__` again, and no `try` in it helps. What Python does in every case is to let
go of the callable that the `with` statement looked up as `__exit__`: it looks it up before it calls
`__enter__`, and holds it until the statement is over. So that callable is watched, and when it goes
while the block is still open, the block is closed.
"""

from __future__ import annotations

import functools
import weakref
from collections.abc import Callable
from typing import Any, Protocol


class Block(Protocol):
    """What a `with` statement enters: it knows how to be closed from outside."""

    _lifeline: Any

    def _abandon(self) -> None:
        """Close what is open, if anything is; called twice it does no harm."""


class watched_exit:
    """A method `__exit__` that is watched over while a `with` statement holds it.

    The block sets its `_lifeline` to `None` when it is closed: there is nothing to do any more.
    """

    def __init__(self, leave: Callable[..., Any]):
        self._leave = leave

    def __get__(self, block: Block | None, owner: type | None = None) -> Callable[..., Any]:
        if block is None:
            return self._leave
        # No bound method: a call of one takes it apart and lets it go before it begins.
        leave = functools.partial(self._leave, block)
        if block._lifeline is None:  # a look at `__exit__` inside the block is no end of it
            block._lifeline = weakref.ref(leave, lambda _: block._abandon())
        return leave
