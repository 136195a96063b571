"""Silence what transformers and torch print while a model is loaded, and only then."""

from __future__ import annotations

import functools
import importlib
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

# What is silenced is process-wide (log level, progress bars), so two threads take turns:
# otherwise the second to leave would restore the first one's silence for good.
_TURN = threading.RLock()


@contextmanager
def quiet(bars: bool = False) -> Iterator[None]:
    """No warning, no log line and (unless `bars`) no progress bar of transformers while it lasts.

    Every setting is put back on the way out, also after an error or an interrupt.
    """
    from transformers.utils import logging

    with _TURN, ExitStack() as restore, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        restore.callback(logging.set_verbosity, logging.get_verbosity())
        logging.set_verbosity(logging.CRITICAL)
        if not bars:
            if logging.is_progress_bar_enabled():
                restore.callback(logging.enable_progress_bar)
                logging.disable_progress_bar()
            restore.enter_context(_no_gguf_bar())
        yield


@contextmanager
def _no_gguf_bar() -> Iterator[None]:
    """The GGUF reader has a bar of its own, which transformers' switch does not reach."""
    reader: Any = None
    with suppress(ImportError):  # another transformers has it elsewhere: a bar is shown, no more
        reader = importlib.import_module("transformers.modeling_gguf_pytorch_utils")
    bar = getattr(reader, "tqdm", None)
    if bar is None:
        yield
        return
    reader.tqdm = functools.partial(bar, disable=True)
    try:
        yield
    finally:
        reader.tqdm = bar
