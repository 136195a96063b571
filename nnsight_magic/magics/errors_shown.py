"""How errors of a cell are shown: the cell's own lines, no frame of a library between."""

from __future__ import annotations

import inspect
import shutil
import sys
from functools import cache
from types import TracebackType
from typing import Any

from IPython.core import ultratb
from IPython.core.interactiveshell import ExecutionResult

from nnsight_magic.engine.sites.caller import PACKAGE
from nnsight_magic.errors import CellError
from nnsight_magic.language.problems import REPORT_WIDTH, render
from nnsight_magic.printable import printable


def show_cell_error(error: CellError, where: str, colour: bool) -> CellError:
    """The same error, saying which cell it is and shown as exactly these lines."""
    if error.problems:
        source = [printable(line) for line in error.lines]
        error.message = "\n".join(render(error.problems, source, where, False))
        error.args = (error.message,)
        lines = render(error.problems, source, where, colour, _width())
    else:
        lines = error.message.split("\n")
    error._render_traceback_ = lambda: lines
    return error


def _width() -> int | None:
    """The terminal's, where the shell is in one."""
    if not sys.stdout.isatty():
        return None
    return min(REPORT_WIDTH, max(40, shutil.get_terminal_size().columns))


def show_from_cell(error: BaseException, shell: Any) -> None:
    """Lets IPython's own formatter show `error` from the cell's line on.

    Under `%xmode Verbose` all frames are shown. The traceback that debuggers see ends in the
    user's frame too.
    """
    own = user_traceback(error.__traceback__)
    if own is None:
        return

    def lines() -> list[str]:
        formatter = shell.InteractiveTB
        shown = own
        if getattr(formatter, "mode", "") == "Verbose":
            shown = getattr(getattr(error, "full_traceback", None), "entries", None) or own
        return formatter.structured_traceback(type(error), error, shown, tb_offset=0)

    shown_by_ipython: Any = error
    try:
        shown_by_ipython._render_traceback_ = lines
    except AttributeError:  # an exception type with slots keeps its ordinary traceback
        return


@cache
def ipython_shows_notes() -> bool:
    """Whether IPython writes an error's notes (`error.add_note`) under its traceback.

    IPython 7 and the first releases of 8 are older than notes.
    """
    return "__notes__" in inspect.getsource(ultratb)


def print_notes(result: ExecutionResult) -> None:
    """After a cell: the notes of the error that ended it, where IPython leaves them out.

    They say what is kept of a sweep that was stopped, or in which module an error rose.
    """
    error = result.error_in_exec
    if error is not None and not isinstance(error, CellError):
        for note in getattr(error, "__notes__", ()):
            print(note, file=sys.stderr)


def user_traceback(traceback: TracebackType | None) -> TracebackType | None:
    """The entries of a traceback that are no frames of this package."""
    entries = []
    while traceback is not None:
        if not traceback.tb_frame.f_code.co_filename.startswith(PACKAGE):
            entries.append(traceback)
        traceback = traceback.tb_next
    shown = None
    for entry in reversed(entries):
        line = entry.tb_lineno or entry.tb_frame.f_code.co_firstlineno  # a step may be on none
        shown = TracebackType(shown, entry.tb_frame, entry.tb_lasti, line)
    return shown
