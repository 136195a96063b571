"""A cell that is being written: its trace's names, what is wrong with it, what a name in it means.

All is read from the cell's text, the notebook's variables and the module tree. Nothing is run for
it, no expression in braces on the magic's line either, so that it may be asked while a cell runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from nnsight_magic.errors import CellError, NnsightError
from nnsight_magic.language.complete import about, resolve
from nnsight_magic.language.names import (
    SWEEP_NAMES,
    TRACE_NAMES,
    VALUE_ATTRIBUTES,
    bound_names,
    meaning,
)
from nnsight_magic.language.problems import Problem, Span
from nnsight_magic.language.read import read
from nnsight_magic.language.tree import root_names
from nnsight_magic.magics.completion import option_value
from nnsight_magic.magics.inspection import MODULES, first_name, handle_of
from nnsight_magic.magics.options import CELLS, Piece, split

LONGEST = 50_000  # characters; a longer cell is not looked at while it is typed
_HEAD = re.compile(rf"\s*%%({'|'.join(CELLS)})\b ?(.*)$")
_PATH = re.compile(r"[^\W\d]\w*(?:\.[^\W\d]\w*|\[[^\[\]]*\])*")
_PART = re.compile(r"\.?[^\W\d]\w*|\[[^\[\]]*\]")
_QUOTED = re.compile(r"(\"|').*?(?<!\\)\1|#.*")


@dataclass(frozen=True)
class Written:
    """A cell of this package as it stands in an editor.

    Attributes:
        magic: `trace`, `generate` and the like.
        pieces: of its line.
        body, first_line: the text below it, and the number of its first line in the cell.
        model: what it would run on; `None` where that is not loaded.
        prompts: names of its prompts.
        known: whether all names of prompts are known; those in a file are not.
    """

    magic: str
    pieces: tuple[Piece, ...]
    body: str
    first_line: int
    model: Any
    prompts: tuple[str, ...]
    known: bool

    @property
    def sweeps(self) -> bool:
        return self.magic == "sweep"

    @property
    def names(self) -> frozenset[str]:
        """Every name that its trace binds."""
        own = bound_names(root_names(self.model) if self.model is not None else (), self.prompts)
        return own | SWEEP_NAMES.keys() if self.sweeps else own


def written(text: str, magics: Any) -> Written | None:
    """The cell, if its magic is this package's: its first line, but for other `%%` lines."""
    lines = text.split("\n")
    if len(text) > LONGEST:
        return None
    for number, line in enumerate(lines):
        found = _HEAD.match(line)
        if found:
            body = "\n".join(lines[number + 1 :])
            return _written(found[1], found[2], body, number + 2, magics)
        if line.strip() and not line.lstrip().startswith("%%"):
            return None
    return None


def _written(magic: str, line: str, body: str, first_line: int, magics: Any) -> Written:
    try:
        pieces = tuple(split(line))
        name = option_value([*pieces], "-m", "--model")
        # One that is named has to be wrapped already: that is not done at each key.
        model = magics.models.find(None)[1] if name is None else magics.models.all()[name]
    except (NnsightError, KeyError):  # the line is half written, or the model is not loaded
        return Written(magic, (), body, first_line, None, (), False)
    names = [piece.name for piece in pieces if piece.quoted and piece.name]
    variable = magics.shell.user_ns.get(option_value([*pieces], "-p", "--prompt") or "")
    if isinstance(variable, dict):
        names += [each for each in variable if isinstance(each, str)]
    file = option_value([*pieces], "-f", "--file")
    return Written(magic, pieces, body, first_line, model, tuple(names), file is None)


def problems(cell: Written, magics: Any) -> tuple[Problem, ...]:
    """What the cell would be refused for if it ran now; nothing where that cannot be told."""
    if cell.model is None or not cell.known or not cell.body.strip():
        return ()
    how: dict[str, Any] = {}
    if cell.magic == "edit":
        from nnsight_magic.language.edit import edit_problems

        how["rules"] = edit_problems
    elif cell.sweeps:
        from nnsight_magic.magics.sweep import problems_of_prompts

        generates = option_value([*cell.pieces], "-n", "--new-tokens") is not None
        how["rules"] = partial(problems_of_prompts, names=cell.prompts)
        how |= {"sweeps": True, "generates": generates}
    # A copy: a cell that runs meanwhile may add variables.
    variables = dict(magics.shell.user_ns)
    place = "<written>", cell.first_line, magics._transform
    try:
        read(cell.body, cell.model, variables, cell.prompts, *place, **how)
    except CellError as error:
        return error.problems
    return ()


def checked(text: str, magics: Any) -> dict[str, Any]:
    """Names to colour and stretches to underline. Columns count as a browser does, in UTF-16."""
    cell = written(text, magics)
    if cell is None or cell.model is None:
        return {"names": [], "problems": []}
    lines = text.split("\n")
    found = [
        {
            "line": each.span.line,
            "start": _utf16(lines[each.span.line - 1], each.span.start),
            "end": _utf16(lines[each.span.line - 1], each.span.end),
            "message": each.message,
            "hint": each.hint,
        }
        for each in problems(cell, magics)
        if each.span is not None and 1 <= each.span.line <= len(lines)
    ]
    return {"names": sorted(cell.names), "problems": found}


def _utf16(line: str, column: int) -> int:
    return len(line[:column].encode("utf-16-le", "surrogatepass")) // 2


def from_utf16(line: str, column: int) -> int:
    """The position of a character that a browser counts in units of UTF-16.

    >>> from_utf16("😀 layers", 3)
    2
    """
    before = line.encode("utf-16-le", "surrogatepass")[: 2 * column]
    return len(before.decode("utf-16-le", "ignore"))


def explained(text: str, line: int, column: int, magics: Any) -> tuple[Span, str] | None:
    """What `?` shows of the name at a place of a cell: where it stands, and the text.

    `None` where no name of a trace or module of a model stands.

    Args:
        text: of the cell.
        line: from 1.
        column: characters from 0.
        magics: the registered set.
    """
    lines = text.split("\n")
    if not 1 <= line <= len(lines):
        return None
    cell = written(text, magics)
    if cell is not None and line < cell.first_line:
        return None
    for start, path in _paths_to(lines[line - 1], column):
        told = _in_cell(path, cell, magics) if cell is not None else _elsewhere(path, magics)
        if told:
            return Span(line, start, start + len(path)), told
    return None


def _paths_to(line: str, column: int) -> Iterator[tuple[int, str]]:
    """The paths that end where the cursor is, the longest first: `layers[3].mlp`, `layers[3]`, …"""
    code = _QUOTED.sub(
        lambda found: found[0] if _in_index(line, found) else " " * len(found[0]), line
    )
    for found in _PATH.finditer(code):
        if not found.start() <= column <= found.end() or code[: found.start()].endswith("."):
            continue
        ends = [found.start() + part.end() for part in _PART.finditer(found[0])]
        here = next((k for k, end in enumerate(ends) if column <= end), len(ends) - 1)
        for end in reversed(ends[: here + 1]):
            yield found.start(), line[found.start() : end]
        return


def _in_index(line: str, found: re.Match[str]) -> bool:
    """`model["h"]`: a string that is a part of a path."""
    return line[: found.start()].endswith("[")


def _in_cell(path: str, cell: Written, magics: Any) -> str:
    if cell.model is None:
        return ""
    known = TRACE_NAMES.keys() | (SWEEP_NAMES.keys() if cell.sweeps else set())
    if path in known - MODULES:
        return f"{path}: {meaning(path, sweeps=cell.sweeps)}"
    if path in magics.shell.user_ns and path not in cell.names:
        return ""
    return _of(path, cell.model, cell.prompts, magics)


def _elsewhere(path: str, magics: Any) -> str:
    """In a cell of plain Python: what begins with a model of the notebook."""
    root, models = first_name(path), magics.models.all()
    if root not in models or handle_of(root, magics) is None:
        return ""
    return _of("model" + path[len(root) :], models[root], (), magics)


def _of(path: str, model: Any, prompts: tuple[str, ...], magics: Any) -> str:
    """Of a module what `?` says; of a value of one, its shape before that."""
    seen: Mapping[str, Any] = magics.shapes.seen(model)
    scanned = magics.shapes.scanned_before(model)
    handle = resolve(path, model, prompts)
    if handle is not None:
        return about(handle, seen, scanned)
    place, _, value = path.rpartition(".")
    handle = resolve(place, model, prompts) if value in VALUE_ATTRIBUTES else None
    if handle is None:
        return ""
    name = f"{handle.name}.{value}" if handle.name else value
    shape = f", seen last: {seen[name]}" if name in seen else ""
    return f"{name}: {VALUE_ATTRIBUTES[value]}{shape}\n{about(handle, seen, scanned)}"
