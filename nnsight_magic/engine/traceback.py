"""Tracebacks that end on the user's own line."""

from __future__ import annotations

import os
import traceback
from types import TracebackType

import accelerate
import torch
import transformers

from nnsight_magic.engine.site import PACKAGE

_LIBRARIES = tuple(
    os.path.dirname(os.path.abspath(module.__file__)) + os.sep
    for module in (torch, transformers, accelerate)
)


class FullTraceback(str):
    """The text of a whole traceback, as Python prints it; typed at a prompt it reads the same.

    Attributes:
        entries: the traceback itself, for debuggers.
    """

    entries: TracebackType | None = None

    def __repr__(self) -> str:
        return str(self)


def full_text(error: BaseException, entries: TracebackType | None) -> FullTraceback:
    """The text of `error` with these entries."""
    lines = traceback.format_exception(type(error), error, entries)
    text = FullTraceback("".join(lines))
    text.entries = entries
    return text


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
    error.full_traceback = full_text(error, full)
    module = _failing_module(entries)
    if module is not None and hasattr(error, "add_note"):
        error.add_note(f"Raised in the forward of {module}. Whole traceback: error.full_traceback.")
    folded: TracebackType | None = None
    for entry in reversed(shown):
        folded = above(entry, folded)
    error.__traceback__ = folded


def above(entry: TracebackType, below: TracebackType | None) -> TracebackType:
    """The same entry with another one below it.

    What rises from outside, an alarm's exception, may rise at a step that stands on no line: then
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
