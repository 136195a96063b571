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
class Program:
    """One cell, parsed once.

    `source` is the body as written, `python` the same with `%` and `!` lines turned into Python
    (line by line), `filename` the name that tracebacks use, `first_line` the
    line of the whole cell on which the body begins (2 below a `%%` line). `tree` has the trace's
    names rewritten to attributes of the scope object; `code` is compiled from it.
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
