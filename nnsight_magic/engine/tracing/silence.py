"""What transformers logs while a traced model runs: it belongs to no line of the user's.

A Mamba without its kernels, for one, says at its first forward that it is slow. Errors pass, and so
does whatever is logged by the user's own lines in the block.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

_TRANSFORMERS = logging.getLogger("transformers")


class Silence(logging.Filter):
    """Holds back what is logged while `running()` says that it comes out of a forward."""

    def __init__(self, running: Callable[[], bool]):
        super().__init__()
        self._running = running
        self._handlers: list[logging.Handler] = []

    def begin(self) -> None:
        """Hold back from now on."""
        self._handlers = list(_TRANSFORMERS.handlers)
        for handler in self._handlers:
            handler.addFilter(self)

    def filter(self, record: logging.LogRecord) -> bool:
        # A handler may be shared with other loggers, whose records are not transformers'.
        theirs = record.name.partition(".")[0] == _TRANSFORMERS.name
        return not theirs or record.levelno >= logging.ERROR or not self._running()

    def end(self) -> None:
        """Let everything through again."""
        for handler in self._handlers:
            handler.removeFilter(self)
        self._handlers.clear()
        self._running = lambda: False  # no reference cycle: what is over is gone at once
