"""Calls of `torch.ops`, in which only one forward of a thread may be paused at a time.

Such a call goes through pybind11, which keeps a list of the calls that are under way in a thread
and ends the process where they do not end in the reverse order of their beginning. A forward that
is paused at an operation of `torch.ops` is such a call under way. As long as it is the only one, it
may end whenever it likes: what others call meanwhile begins and ends within its pause. A second
one is refused before it pauses.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from nnsight_magic.errors import TwoInDispatchError

_paused = threading.local()  # `at`: what a forward of the thread is paused in, where one is


def is_dispatched(func: Any) -> bool:
    """Whether a function is one of `torch.ops`.

    >>> import torch
    >>> is_dispatched(torch.ops.aten.mul), is_dispatched(torch.mul)
    (True, False)
    """
    return type(func).__module__ == "torch._ops"


@contextmanager
def alone_in_dispatch(func: Any) -> Iterator[None]:
    """Within it a forward is paused in a call of `func`.

    Raises:
        TwoInDispatchError: another forward of this thread is paused in such a call.
    """
    other = getattr(_paused, "at", None)
    if other is not None:
        raise TwoInDispatchError(
            f"A forward cannot be paused at {_name(func)} while another one is paused at "
            f"{_name(other)}: both are called through torch.ops, and the process would not "
            "survive their ending in this order.\n"
            "End the other trace first, or read what comes before or behind the operation: the "
            "input or output of its module."
        )
    _paused.at = func
    try:
        yield
    finally:
        _paused.at = None


def _name(func: Any) -> str:
    return f"torch.ops.{getattr(func, '_qualified_op_name', func)}".replace("::", ".")
