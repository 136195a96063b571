"""A parsed cell: the object that checking, running, completing and showing all work on."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import dataclass
from types import CodeType

from nnsight_magic.language.problems import Problem, Span


@dataclass(frozen=True)
class Link:
    """One step of a path such as `layers[20].mlp.output`: an attribute, an index or a call."""

    kind: str  # 'attribute', 'index', 'call'
    value: str | int | None  # the attribute's name; the index where it is a literal
    span: Span
    slices: bool = False  # an index that picks several


@dataclass(frozen=True)
class Reference:
    """A use of a trace name with the path that follows it."""

    name: str
    span: Span
    links: tuple[Link, ...]
    stored: bool


@dataclass(frozen=True)
class Mention:
    """A value of the forward that the cell names: `layers[20].mlp`, 'output', read or written."""

    path: str
    kind: str
    writes: bool
    span: Span


@dataclass(frozen=True)
class Use:
    """A read of a name that belongs neither to the trace nor to a function of the cell."""

    name: str
    span: Span


@dataclass(frozen=True)
class GridLoop:
    """The loop of a sweep cell, taken apart.

    Attributes:
        variables: what the loop binds, in order.
        axes: names of the grid's axes, each with its place in the cell.
        collected: names that the body gives a value for each point.
        unchanging: those whose value, with the writes left out, is the same at all points.
        only_last_logits: whether logits are read of the last position alone.
        before, behind: what runs once; `None` where nothing stands there.
        grid: evaluates the points.
        function: binds the body as a function of a point to `POINT`.
        touches_before, touches_behind: whether the trace is used there.
        lines: the first and the last line of the loop in the cell.
        span: its head.
    """

    variables: tuple[str, ...]
    axes: dict[str, Span]
    collected: tuple[str, ...]
    unchanging: tuple[str, ...]
    only_last_logits: bool
    before: CodeType | None
    behind: CodeType | None
    grid: CodeType
    function: CodeType
    touches_before: bool
    touches_behind: bool
    lines: tuple[int, int]
    span: Span

    def holds(self, line: int) -> bool:
        """Whether a line of the cell stands in the loop."""
        return self.lines[0] <= line <= self.lines[1]


@dataclass(frozen=True)
class Program:
    """One cell, parsed once.

    `source` is the body as written, `python` the same with `%` and `!` lines turned into Python
    (line by line), `filename` the name that tracebacks use, `first_line` the
    line of the whole cell on which the body begins (2 below a `%%` line). `tree` has the trace's
    names rewritten to attributes of the scope object; `code` is compiled from it. `loop` is what a
    sweep's cell is taken apart into.
    """

    source: str
    python: str
    filename: str
    first_line: int
    tree: ast.Module
    code: CodeType
    saved: tuple[str, ...]
    scratch: tuple[str, ...]
    bound: tuple[str, ...]
    expressions: Mapping[str, str]
    collected: tuple[str, ...]
    references: tuple[Reference, ...]
    touches: tuple[Mention, ...]
    uses: tuple[Use, ...]
    uses_steps: bool
    wants_gradients: bool
    runs_magics: bool
    problems: tuple[Problem, ...]
    loop: GridLoop | None = None

    @property
    def lines(self) -> list[str]:
        """The body as written, moved so that `lines[n - 1]` is the whole cell's line n."""
        return [""] * (self.first_line - 1) + self.source.split("\n")

    @property
    def parsed_lines(self) -> list[str]:
        """The same for `python`."""
        return [""] * (self.first_line - 1) + self.python.split("\n")

    @property
    def writes(self) -> bool:
        """Whether the cell, as far as its text shows, changes the forward."""
        return any(touch.writes for touch in self.touches)

    @property
    def trace_names(self) -> frozenset[str]:
        """The trace's names that the cell uses."""
        return frozenset(reference.name for reference in self.references)
