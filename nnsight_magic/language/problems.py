"""What is wrong with a cell before it has run: positions in it, and how they are shown."""

from __future__ import annotations

import textwrap
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from nnsight_magic.errors import CellError

# A report longer than this pushes the cell off the screen.
LINES_SHOWN = 15
REPORT_WIDTH = 96


@dataclass(frozen=True)
class Span:
    """A stretch of one line of a cell: `line` counts from 1, columns are characters from 0."""

    line: int
    start: int
    end: int


@dataclass(frozen=True)
class Problem:
    """One thing wrong: where it stands, what was found, and the next thing to do."""

    span: Span | None
    message: str
    hint: str = ""

    @property
    def text(self) -> str:
        return f"{self.message}; {self.hint}" if self.hint else self.message


def caret(line: str, start: int, end: int) -> str:
    """Blanks and `^` that stand under `line[start:end]`, tabs and wide characters included."""

    def width(character: str) -> int:
        if unicodedata.combining(character):
            return 0
        return 2 if unicodedata.east_asian_width(character) in "WF" else 1

    blanks = "".join("\t" if each == "\t" else " " * width(each) for each in line[:start])
    return blanks + "^" * max(1, sum(map(width, line[start:end])))


def excerpt(line: str, start: int, end: int, width: int = 88) -> tuple[str, int, int]:
    """The part of a long line around `[start, end)`, with the positions moved along."""
    if len(line) <= width:
        return line, start, end
    first = max(0, min(start - width // 3, len(line) - width))
    cut = line[first : first + width]
    left = "…" if first else ""
    right = "…" if first + width < len(line) else ""
    moved = len(left) - first
    return left + cut + right, start + moved, min(end + moved, len(left) + len(cut))


def render(
    problems: Iterable[Problem],
    lines: list[str],
    where: str,
    colour: bool,
    width: int | None = None,
) -> list[str]:
    """The report of all problems: at most `LINES_SHOWN` lines, two or three for each problem.

    `lines` is the cell as the user sees it, `where` its name (`Cell In[3]`). With the `width` of
    a terminal no line is longer than that; a notebook breaks long lines by itself.
    """
    most = LINES_SHOWN if width is None else 2 * LINES_SHOWN
    problems = sorted(problems, key=lambda p: (p.span.line, p.span.start) if p.span else (0, 0))
    count = len(problems)
    only = problems[0].span if count == 1 else None
    head = f"{where}, line {only.line}" if only else where
    report = [f"{head}: {count} problems, nothing was run" if count > 1 else f"{head}: not run"]
    for position, problem in enumerate(problems):
        block = _block(problem, lines, colour, width)
        left = count - position
        if position and len(report) + len(block) + (left > 1) > most:
            report.append(f"  … and {left} more")
            break
        report.extend(block)
    return report


def _block(problem: Problem, lines: list[str], colour: bool, width: int | None) -> list[str]:
    """`3 | h = layer[2].output`, and under it the caret with what is wrong."""
    red, bold, plain = ("\x1b[31m", "\x1b[1m", "\x1b[0m") if colour else ("", "", "")
    hint = f"; {problem.hint}" if problem.hint else ""
    text = f"{bold}{problem.message}{plain}{hint}"
    span = problem.span
    if span is None or not 1 <= span.line <= len(lines):
        return [f"  {text}"]
    margin = f"{span.line:>3} | "
    source = lines[span.line - 1].rstrip()
    room = (width or REPORT_WIDTH) - len(margin)
    source, start, end = excerpt(source, span.start, span.end, room - 2)
    mark = caret(source, start, end)
    under = " " * len(margin) + f"{red}{mark}{plain}"
    one_line = "\n" not in problem.text
    if one_line and len(mark) + 1 + len(problem.text) <= room:
        return [margin + source, f"{under} {text}"]
    if one_line and (width is None or len(problem.text) <= room):
        return [margin + source, under, " " * len(margin) + text]
    room = 10_000 if width is None else room
    told = [bold + line + plain for line in _broken(problem.message, room)]
    told += _broken(problem.hint, room)
    return [margin + source, under, *(" " * len(margin) + line for line in told)]


def _broken(text: str, width: int) -> list[str]:
    """The lines of a text, those that are too long broken between words."""
    return [
        part
        for line in text.split("\n")
        for part in textwrap.wrap(line, width, subsequent_indent="  " * (line[:1] == " "))
    ]


def cell_error(problems: Iterable[Problem], lines: list[str], where: str = "Cell") -> CellError:
    """The error that shows these problems; its message is the plain report."""
    problems = tuple(problems)
    return CellError("\n".join(render(problems, lines, where, False)), problems, tuple(lines))


def on_written_lines(problem: Problem, written: list[str], parsed: list[str]) -> Problem:
    """The problem with its span on the line as the user wrote it.

    What is parsed differs from it where a cell is indented as a whole, and on `%` and `!` lines.
    """
    span = problem.span
    if span is None or not 1 <= span.line <= min(len(written), len(parsed)):
        return problem
    here, there = written[span.line - 1], parsed[span.line - 1]
    if here == there:
        return problem
    if here.endswith(there):
        shift = len(here) - len(there)
        moved = Span(span.line, span.start + shift, span.end + shift)
    else:
        indent = len(here) - len(here.lstrip())
        moved = Span(span.line, indent, max(len(here.rstrip()), indent + 1))
    return Problem(moved, problem.message, problem.hint)
