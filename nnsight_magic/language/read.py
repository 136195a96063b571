"""From a cell's text to a checked program, with every problem reported together."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from nnsight_magic.errors import CellError
from nnsight_magic.language.check import check, unknown_paths
from nnsight_magic.language.names import SWEEP_NAMES, bound_names
from nnsight_magic.language.parse import parse
from nnsight_magic.language.problems import Problem, cell_error
from nnsight_magic.language.program import Program
from nnsight_magic.language.tree import root_names

# After these the rest of the text cannot be told apart from what is broken.
STRUCTURAL = ("never closed", "unterminated", "indent", "unmatched", "does not match", "nested")
ATTEMPTS = 8


def read(
    source: str,
    model: Any,
    namespace: Mapping[str, Any],
    prompts: Iterable[str] = (),
    filename: str = "<trace>",
    first_line: int = 1,
    transform: Callable[[str], str] | None = None,
    rules: Callable[[Program], list[Problem]] | None = None,
    *,
    sweeps: bool = False,
    generates: bool = False,
) -> Program:
    """Parses and checks a cell; see `parse` and `check` for the arguments.

    `rules` are those of a kind of cell: they give the problems that it has besides.

    Raises `CellError` with all problems. Where a line is no Python, the other lines are read
    without it, so that their problems are reported too.
    """
    prompts = tuple(prompts)
    more = SWEEP_NAMES if sweeps else ()
    names = bound_names(root_names(model), (*prompts, *more))

    def parsed(text: str) -> Program:
        return parse(
            text, names, filename, first_line, transform, sweeps=sweeps, generates=generates
        )

    try:
        program = parsed(source)
    except CellError as error:
        others = _in_other_lines(source, error, parsed, first_line, model, prompts)
        raise cell_error([*error.problems, *others], list(error.lines)) from None
    check(program, model, namespace, prompts, rules(program) if rules is not None else ())
    return program


def _in_other_lines(
    source: str,
    error: CellError,
    parsed: Callable[[str], Program],
    first_line: int,
    model: Any,
    prompts: tuple[str, ...],
) -> list[Problem]:
    """Problems of the lines that are left when those that do not parse are taken out."""
    lines = source.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    found: list[Problem] = []
    seen: set[int] = set()
    for _ in range(ATTEMPTS):
        problem = error.problems[0]
        if problem.span is None or any(word in problem.message for word in STRUCTURAL):
            return found[:-1] if problem in found else found
        index = problem.span.line - first_line
        if index in seen or not 0 <= index < len(lines):
            return found
        seen.add(index)
        lines[index] = _stand_in(lines, index)
        try:
            program = parsed("\n".join(lines))
        except CellError as again:
            error = again
            found.extend(again.problems)
            continue
        # Names are left out: a line that was taken out may have been the one to bind them.
        return [*found, *program.problems, *unknown_paths(program, model, prompts)]
    return found


def _stand_in(lines: list[str], index: int) -> str:
    """A line that can stand in the place of a broken one, as the head of a block if need be."""
    broken = lines[index]
    indent = broken[: len(broken) - len(broken.lstrip())]
    after = next((line for line in lines[index + 1 :] if line.strip()), "")
    opens = len(after) - len(after.lstrip()) > len(indent)
    return indent + ("if True:" if opens else "pass")
