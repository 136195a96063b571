"""`layers[3].mlp?`: a module's class, parameters, shapes and source, in any cell.

IPython turns `x?` into a look at the variable `x`, and `layers` is none. So cells are looked at
before that: a line that asks for a path of the model in use becomes `%about PATH`.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from typing import Any

from nnsight_magic.errors import NnsightError
from nnsight_magic.language.complete import resolve
from nnsight_magic.language.names import SWEEP_NAMES, TRACE_NAMES
from nnsight_magic.magics.options import CELLS

_QUESTION = re.compile(r"^(\s*)\?{0,2}\s*([^\W\d]\w*(?:\.\w+|\[[^\[\]]+\])*)\s*\?{1,2}\s*$")
_QUESTION_BEFORE = re.compile(r"^(\s*)\?{1,2}\s*([^\W\d]\w*(?:\.\w+|\[[^\[\]]+\])*)\s*$")


def transformer(magics: Any) -> Callable[[list[str]], list[str]]:
    """A transformer of a cell's lines, for `shell.input_transformers_cleanup`."""

    def nnsight_questions(lines: list[str]) -> list[str]:
        known = _names_of(lines[0] if lines else "")
        return [_about(line, magics, known) for line in lines]

    return nnsight_questions


def _names_of(line: str) -> frozenset[str]:
    """The names that a cell with this first line has of its trace and are no modules."""
    found = _OURS.match(line)
    if found is None:
        return frozenset()
    more = SWEEP_NAMES if found[1] == "%%sweep" else {}
    return frozenset({*TRACE_NAMES, *more} - MODULES)


MODULES = frozenset(
    {"model", "layers", "embed", "norm", "unembed"}
)  # names of a trace that are modules
_EMPTY = re.compile(rf"^%%(?:{'|'.join(CELLS)})\b[^?]*$")


class Changing:
    """A transformer that IPython leaves out where it asks whether a cell is complete.

    A console would else run `%%trace "…"` before its body can be typed.
    """

    has_side_effects = True

    def __init__(self, transform: Callable[[list[str]], list[str]]) -> None:
        self._transform = transform
        self.__doc__ = transform.__doc__

    def __call__(self, lines: list[str]) -> list[str]:
        return self._transform(lines)


@Changing
def empty_cells(lines: list[str]) -> list[str]:
    """A transformer that gives a cell without a body one of an empty line.

    IPython does not call a cell magic without a body, and `%%trace --help` has none.
    """
    return [*lines, "\n"] if len(lines) == 1 and _EMPTY.match(lines[0].rstrip()) else lines


_OURS = re.compile(rf"\s*(%%(?:{'|'.join(CELLS)}))\b")
_NO_PYTHON = re.compile(r"(?m)^(\s*)[%!?].*$")


@Changing
def misplaced_cells(lines: list[str]) -> list[str]:
    """A transformer that says what is wrong with a cell whose `%%trace` is not its first line."""
    for number, line in enumerate(lines):
        found = _OURS.match(line)
        above = "".join(lines[:number])
        if found and above.strip() and not above.lstrip().startswith("%%") and _is_code(above):
            first = next(each.strip() for each in lines if each.strip())
            message = (
                f"{found[1]} has to be the first line of its cell, and above it stands: "
                f"{first[:60]}\nMove that below the {found[1]} line, or into a cell of its own."
            )
            said = "from IPython.core.error import UsageError as _said; "
            return [f"{said}raise _said({message!r})\n"]
    return lines


def _is_code(text: str) -> bool:
    """Whether it ends where a statement ends: not within a string, for one."""
    try:
        ast.parse(_NO_PYTHON.sub(r"\1pass", text))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


def only_questions(body: str) -> list[str]:
    """The paths that a cell asks about, where it does nothing else; else none.

    >>> only_questions("%about grid" + chr(10) + "%about layers[3]")
    ['grid', 'layers[3]']
    """
    lines = [line.strip() for line in body.splitlines() if line.strip()]
    asked = [line.removeprefix("%about ") for line in lines if line.startswith("%about ")]
    return asked if len(asked) == len(lines) else []


def _about(line: str, magics: Any, known: frozenset[str]) -> str:
    if "?" not in line:
        return line
    found = _QUESTION.match(line) or _QUESTION_BEFORE.match(line)
    if found is not None and found[2] in known:
        return f"{found[1]}%about {found[2]}\n"
    if found is None or handle_of(found[2], magics) is None:
        return line
    return f"{found[1]}%about {found[2]}\n"


def first_name(path: str) -> str:
    """The name that a path begins with, `""` for none: `layers` of `layers[3].mlp`."""
    found = re.match(r"\w+", path)
    return found[0] if found else ""


def handle_of(path: str, magics: Any) -> Any:
    """The module of the model in use that a path means; the notebook's own names come first,
    unless they are a model."""
    root = first_name(path)
    variables = magics.shell.user_ns
    models = magics.models.all()
    try:
        if root in models:
            return resolve("model" + path[len(root) :], models[root])
        if root in variables:
            return None
        return resolve(path, magics.models.find(None)[1])
    except NnsightError:
        return None
