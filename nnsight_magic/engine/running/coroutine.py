"""What a suspended forward runs in: a greenlet whose stack has a floor, or else a thread.

A greenlet is by far the faster: a switch takes less than a microsecond. Without a floor under its
stack (see `stack_floor`) an error of torch would end the process. Where there can be none, each
coroutine is a thread of its own, of which one at a time goes on (see `on_threads`).

`coroutine(run)` makes one, `current()` is the one that runs now, `own_thread()` tells in which of
the user's threads.
"""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Callable
from typing import Any

from greenlet import getcurrent, greenlet

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.running.on_threads import (
    Threadlet,
    current_threadlet,
    thread_of_threadlet,
)
from nnsight_magic.engine.running.stack_floor import Floor, NoFloor, make_floor
from nnsight_magic.errors import ThreadsWarning

_CHOICE = "NNSIGHT_MAGIC_THREADS"  # of the environment: "1" for threads although greenlets would do

Coroutine = greenlet | Threadlet


def _made_here() -> tuple[Floor | None, str]:
    """A floor, or none and why."""
    if os.environ.get(_CHOICE, "0") not in ("", "0"):
        return None, ""
    if not torch_insides.knows_warning_handler:
        return None, "this torch does not tell where its warnings go"
    try:
        return make_floor(), ""
    except NoFloor as error:
        return None, str(error)


_floor, _reason = _made_here()
_told: list[str] = []

if _floor is not None:
    current: Callable[[], Coroutine] = getcurrent
    own_thread: Callable[[], int] = threading.get_ident
else:
    current, own_thread = current_threadlet, thread_of_threadlet


def coroutine(run: Callable[[], Any]) -> Coroutine:
    """A coroutine that has not begun; `run` gets no arguments, whatever is switched in with."""
    floor = _floor
    if floor is not None:
        return greenlet(lambda *_: floor(run))
    if _reason and not _told:
        _told.append(_reason)
        warnings.warn(
            "nnsight_magic runs models in threads of their own in this process, not in the "
            "thread of the cell, so that no error of torch ends the process: what keeps a stack "
            f"sound in one thread cannot be had, since {_reason}. Results are the same; every "
            f"touch takes some 50 µs more. ({_CHOICE}=1 chooses this without a warning.)",
            ThreadsWarning,
            stacklevel=2,
        )
    return Threadlet(run)
