"""Where a cell stands in the notebook, so that errors read `Cell In[3], line 5`."""

from __future__ import annotations

import linecache
import re
import sys
from dataclasses import dataclass
from itertools import count
from typing import Any

_unnamed = count(1)
_NUMBERED = re.compile(r"<ipython-input-(\d+)-")


@dataclass(frozen=True)
class CellPlace:
    """The file name that tracebacks use for a cell, its shown name, its text, and the line on
    which the magic's body begins (2 below a `%%` line)."""

    filename: str
    title: str
    text: str
    first_line: int


def place_of(shell: Any, magic: str, line: str, body: str) -> CellPlace:
    """Finds the notebook cell that runs the magic, and makes its raw text what tracebacks show.

    The calling frames tell the cell (it may be run through `%%time` or a function). Where there
    is none, as in a script that calls `run_cell_magic`, the cell gets a name of its own.
    """
    filename, number = _caller(shell)
    text = f"%%{magic} {line}\n{body}"
    if filename is None:
        filename = f"<{magic} {next(_unnamed)}>"
        _remember(filename, text)
        return CellPlace(filename, filename.strip("<>"), text, 2)
    raw = _raw_cell(shell)
    if raw is not None and raw.rstrip("\n").endswith(body.rstrip("\n")):
        before = raw.rstrip("\n")[: len(raw.rstrip("\n")) - len(body.rstrip("\n"))]
        text, first_line = raw, before.count("\n") + 1
    else:
        first_line = 2
    _remember(filename, text)
    return CellPlace(filename, f"Cell In[{number}]", text, first_line)


def _caller(shell: Any) -> tuple[str | None, int]:
    known = getattr(shell.compile, "_filename_map", None)
    if known is None:  # IPython 7 keeps the texts of its cells, and the number in some names
        known = dict.fromkeys(_texts_of_ipython_7(), shell.execution_count)
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_code.co_filename
        if name in known:
            numbered = _NUMBERED.match(name)
            return name, int(numbered[1]) if numbered else known[name]
        frame = frame.f_back
    return None, 0


def _raw_cell(shell: Any) -> str | None:
    """The text of the cell that is running, its `%%` line included."""
    parent = getattr(shell, "parent_header", None) or {}
    code = parent.get("content", {}).get("code") if isinstance(parent, dict) else None
    if code:
        return code
    history = getattr(shell, "history_manager", None)
    if history is not None and history.input_hist_raw:
        return history.input_hist_raw[-1]
    return None


def _remember(filename: str, text: str) -> None:
    lines = [f"{line}\n" for line in text.splitlines()]
    linecache.cache[filename] = (len(text), None, lines, filename)
    if filename in _texts_of_ipython_7():  # put back from there before each traceback
        _texts_of_ipython_7()[filename] = linecache.cache[filename]


def _texts_of_ipython_7() -> dict[str, tuple]:
    return getattr(linecache, "_ipython_cache", {})
