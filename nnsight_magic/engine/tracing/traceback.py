"""Tracebacks that end on the user's own line."""

from __future__ import annotations

import os
import traceback
from types import TracebackType
from typing import Any, Self

import accelerate
import torch
import transformers

from nnsight_magic.engine.sites.caller import PACKAGE, user_frame
from nnsight_magic.errors import NnsightError

_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(module.__file__)) + os.sep
    for module in (torch, transformers, accelerate)
    if module.__file__ is not None
)


class FullTraceback:
    """A whole traceback, which is printed as Python prints it: `print(error.full_traceback)`.

    Its text is made when it is asked for: most errors are mended without.

    Attributes:
        entries: the traceback itself, for debuggers.
    """

    def __init__(self, error: BaseException, entries: TracebackType | None):
        self.entries = entries
        # Not the error itself: it holds this, and would live until the collector comes by.
        self._said = traceback.format_exception_only(type(error), error)
        self._cause = error.__cause__
        self._context = None if error.__suppress_context__ else error.__context__

    def __str__(self) -> str:
        parts = [_before(self._cause, _CAUSED) or _before(self._context, _MEANWHILE)]
        parts += ["Traceback (most recent call last):\n", *_lines(self.entries), *self._said]
        return "".join(parts)

    __repr__ = __str__


_CAUSED = "The above exception was the direct cause of the following exception:"
_MEANWHILE = "During handling of the above exception, another exception occurred:"


def _before(error: BaseException | None, words: str) -> str:
    """The text of an error that came before, and how it goes on."""
    if error is None:
        return ""
    return "".join([*traceback.format_exception(error), f"\n{words}\n\n"])


def _lines(entries: TracebackType | None) -> list[str]:
    try:
        return traceback.format_tb(entries)
    except (RuntimeError, StopIteration):  # code that was changed has places without a line
        lines, step = [], entries
        while step is not None:
            code = step.tb_frame.f_code
            place = f'  File "{code.co_filename}", line {step.tb_lineno}, in {code.co_name}\n'
            lines.append(place)
            step = step.tb_next
        return lines


def fold_frames(error: BaseException) -> None:
    """Leave only the user's frames in the traceback of `error`.

    The whole traceback stays at hand as `error.full_traceback`, and a note tells which module
    of the model raised where it was not the user's own code.
    """
    full = error.__traceback__
    entries = []
    step = full
    while step is not None:
        entries.append(step)
        step = step.tb_next
    shown = [entry for entry in entries if not _hidden(entry)]
    if len(shown) == len(entries) or not shown:
        return
    shown_too: Any = error
    shown_too.full_traceback = FullTraceback(error, full)
    module = _failing_module(entries)
    if module is not None and hasattr(error, "add_note"):
        error.add_note(f"Raised in the forward of {module}. Whole traceback: error.full_traceback.")
    folded: TracebackType | None = None
    for entry in reversed(shown):
        folded = above(entry, folded)
    error.__traceback__ = folded


class OnUsersLine:
    """`with OnUsersLine():` errors of ours that rise inside end on the line that called us.

    For calls that are no block, such as `model.trace(...)` itself; to be used in the method that
    the user calls. The whole traceback is `error.full_traceback`, as it is for those of a block.
    """

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: Any, error: BaseException | None, entries: Any) -> None:
        if not isinstance(error, NnsightError) or hasattr(error, "full_traceback"):
            return
        full, user = error.__traceback__, user_frame()
        if user is not None:
            full = TracebackType(full, user, user.f_lasti, user.f_lineno or 0)
        shown_too: Any = error
        shown_too.full_traceback = FullTraceback(error, full)
        error.__traceback__ = None  # the frames above add themselves as it rises


def above(entry: TracebackType, below: TracebackType | None) -> TracebackType:
    """The same entry with another one below it.

    What rises from outside, an alarm's exception, may rise where Python is on no line: then
    it is the first line of its function.
    """
    line = entry.tb_lineno or entry.tb_frame.f_code.co_firstlineno
    return TracebackType(below, entry.tb_frame, entry.tb_lasti, line)


def _hidden(entry: TracebackType) -> bool:
    name = entry.tb_frame.f_code.co_filename
    return name.startswith(PACKAGE) or name.startswith(_LIBRARIES)


def _failing_module(entries: list[TracebackType]) -> str | None:
    """The innermost module whose `forward` is on the stack."""
    for entry in reversed(entries):
        frame = entry.tb_frame
        module = frame.f_locals.get("self")
        if frame.f_code.co_name == "forward" and isinstance(module, torch.nn.Module):
            return type(module).__name__
    return None
