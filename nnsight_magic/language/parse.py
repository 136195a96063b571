"""Parsing a cell into a `Program`: once, before anything runs, importing no torch."""

from __future__ import annotations

import ast
import copy
import re
import warnings
from collections.abc import Callable

from nnsight_magic.errors import CellError
from nnsight_magic.language.grid_loop import problems_of, taken_apart
from nnsight_magic.language.magic_lines import code_apart
from nnsight_magic.language.names import SCOPE_NAME, bound_names
from nnsight_magic.language.paths import Positions, end_of
from nnsight_magic.language.problems import Problem, Span, cell_error, on_written_lines
from nnsight_magic.language.program import Program
from nnsight_magic.language.rewrite import SAVING, CellRewriter
from nnsight_magic.language.scopes import Written

# What `ast.parse` and `compile` raise on text that is no program: nesting too deep ends in
# RecursionError or MemoryError, a null byte in ValueError (SyntaxError since Python 3.12).
REFUSALS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
EXPRESSION_WIDTH = 60


def parse(
    source: str,
    trace_names: frozenset[str] | None = None,
    filename: str = "<trace>",
    first_line: int = 1,
    transform: Callable[[str], str] | None = None,
    *,
    sweeps: bool = False,
    generates: bool = False,
) -> Program:
    """Parses a cell's body.

    `trace_names` are the names that the trace binds (`names.bound_names`); `first_line` is the
    line that the body's first line has in the whole cell; `transform` turns what is not Python
    (`%` and `!` lines in IPython) into Python and keeps the count of lines. A cell that `sweeps`
    has a loop over a grid, which is taken apart; one that `generates` gives a text at each point.

    Raises `CellError` where the text is no program. Mistakes that leave it a program, such as an
    assignment to `layers`, stand in `Program.problems`, so that `check` reports them with its own.
    """
    names = bound_names() if trace_names is None else trace_names
    source = source.replace("\r\n", "\n").replace("\r", "\n")
    positions = Positions(source, first_line)
    try:
        # Python 3.13.0's tokenizer, which IPython asks, breaks at a NUL; it is no Python anyhow.
        python = source if transform is None or "\0" in source else transformed(source, transform)
        positions = Positions(python, first_line)
        with warnings.catch_warnings(record=True):  # `compile` below warns, once
            # Moved down to its lines in the cell, so that the parser's messages ("… on
            # line 2") count as the user does.
            tree = ast.parse("\n" * (first_line - 1) + python, filename)
        raw = copy.deepcopy(tree) if sweeps else tree
        apart = code_apart(tree, names, positions)
        rewriter = CellRewriter(names, positions)
        displays = _last_expression(tree, python)
        rewriter.visit(tree)
        if displays:
            _display_last(tree, python, first_line)
        code = compile(tree, filename, "exec", dont_inherit=True)
        loop, of_loop = None, []
        if sweeps:
            of_loop = problems_of(raw, rewriter.touches, names, positions, generates=generates)
            if not of_loop:
                loop = taken_apart(raw, tree, names, filename, positions)
    except REFUSALS as error:
        raise refusal(error, positions, source) from None
    bound = tuple(rewriter.bound)
    saved = tuple(
        name
        for name, found in rewriter.bound.items()
        if not name.startswith("_") and any(each.how in SAVING for each in found)
    )
    return Program(
        source=source,
        python=python,
        filename=filename,
        first_line=first_line,
        tree=tree,
        code=code,
        saved=saved,
        scratch=tuple(name for name in bound if name.startswith("_")),
        bound=bound,
        expressions=_expressions(rewriter, python, first_line),
        collected=tuple(rewriter.collected),
        references=tuple(rewriter.references),
        touches=tuple(rewriter.touches),
        uses=tuple(rewriter.uses),
        uses_steps=rewriter.uses_steps,
        wants_gradients=rewriter.wants_gradients,
        runs_magics="get_ipython()" in python,
        problems=(*rewriter.problems, *apart, *of_loop),
        loop=loop,
    )


def transformed(source: str, transform: Callable[[str], str]) -> str:
    """`transform(source)` with the blank lines at its head kept: IPython's transform drops them,
    and every line number after them would be off.

    What breaks the transform itself (in IPython 7 a line that ends in `= %`) is left to Python's
    parser, which says where it is no Python.
    """
    lines = source.split("\n")
    written = (k for k, line in enumerate(lines) if line.strip(" \t\f"))
    first = next(written, len(lines) - 1)
    try:
        return "\n" * first + transform("\n".join(lines[first:]))
    except (IndexError, KeyError, AttributeError, TypeError):
        return source


def lines_of(source: str, first_line: int) -> list[str]:
    """The body's lines, with empty ones before them so that `lines[n - 1]` is the cell's line n."""
    return [""] * (first_line - 1) + source.split("\n")


def refusal(error: Exception, positions: Positions, source: str) -> CellError:
    """The language's own error for what Python's parser or compiler refused."""
    hint = ""
    if isinstance(error, SyntaxError):
        message = error.msg or "invalid syntax"
        span = _syntax_span(error, positions)
        hint = _without_word(error.text or "")
    elif isinstance(error, RecursionError | MemoryError):
        message, span = "the cell is nested too deeply to be compiled", None
    else:
        message, span = f"the cell is not Python text: {error}", None
    written = lines_of(source, positions.first_line)
    parsed = lines_of("\n".join(positions.lines), positions.first_line)
    return cell_error([on_written_lines(Problem(span, message, hint), written, parsed)], written)


def _without_word(line: str) -> str:
    """`save h = layers[7].output`: what to write where there is a word too many before a name."""
    found = re.match(r"\s*[^\W\d]\w*\s+([^\W\d]\w*\s*=[^=].*)", line)
    if found:
        return f"every name that the cell assigns is saved: {found[1].strip()}"
    found = re.match(r"\s*(?:save|show)\s+([^\W\d][\w.\[\]\-:, ]*)$", line)
    return f"every name that the cell assigns is saved: x = {found[1].strip()}" if found else ""


def _syntax_span(error: SyntaxError, positions: Positions) -> Span | None:
    if error.lineno is None:
        return None
    index = min(max(error.lineno - positions.first_line, 0), len(positions.lines) - 1)
    text = positions.lines[index]
    start = min(max((error.offset or 1) - 1, 0), len(text))
    end = (error.end_offset or 0) - 1 if error.end_lineno == error.lineno else start + 1
    return Span(index + positions.first_line, start, max(end, start + 1))


def _last_expression(tree: ast.Module, source: str) -> bool:
    """Whether the cell ends in an expression to display, as a notebook cell would."""
    if not tree.body or not isinstance(tree.body[-1], ast.Expr):
        return False
    last = source.rstrip().rpartition("\n")[2]
    return not re.search(r";\s*(#[^'\"]*)?$", last)


def _display_last(tree: ast.Module, source: str, first_line: int) -> None:
    """Hands the last expression to what shows it, with its text."""
    last = tree.body[-1]
    if not isinstance(last, ast.Expr):  # a statement was put behind it
        return
    scope = ast.copy_location(ast.Name(SCOPE_NAME, ast.Load()), last.value)
    method = ast.copy_location(ast.Attribute(scope, "_show_last", ast.Load()), last.value)
    written = ast.Constant(_on_one_line(source.split("\n"), last.value, first_line))
    text = ast.copy_location(written, last.value)
    last.value = ast.copy_location(ast.Call(method, [last.value, text], []), last.value)


def _expressions(rewriter: CellRewriter, source: str, first_line: int) -> dict[str, str]:
    """For each name, the text of what was last assigned to it, on one line."""
    shown = {}
    lines = source.split("\n")
    for name, value in rewriter.values.items():
        shown[name] = _on_one_line(lines, value, first_line)
    return shown


def _on_one_line(lines: list[str], node: Written, first_line: int) -> str:
    text = " ".join(_segment(lines, node, first_line).split())
    return text if len(text) <= EXPRESSION_WIDTH else text[: EXPRESSION_WIDTH - 1] + "…"


def _segment(lines: list[str], node: Written, first_line: int) -> str:
    end_line, end_column = end_of(node)
    first, last = node.lineno - first_line, end_line - first_line
    if not 0 <= first <= last < len(lines):
        return ""
    part = [line.encode() for line in lines[first : last + 1]]
    part[-1] = part[-1][:end_column]
    part[0] = part[0][node.col_offset :]
    return b"\n".join(part).decode(errors="replace")
