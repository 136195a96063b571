"""Running a program on a trace, with the notebook's own variables."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from nnsight_magic.language.keep import Notebook, Saved
from nnsight_magic.language.names import SCOPE_NAME, TRACE_NAMES, WRITABLE
from nnsight_magic.language.program import Program
from nnsight_magic.language.rows import TouchedBy
from nnsight_magic.language.scope import Scope
from nnsight_magic.language.tokens import PromptRow, prompt_rows
from nnsight_magic.language.tree import root_names

_MISSING = object()
_DEBUGGER = re.compile(r"\b(?:breakpoint|set_trace)\b")


@dataclass
class Outcome:
    """What a run left behind; filled as far as it came where the cell raised."""

    rows: tuple[PromptRow, ...] = ()
    saved: tuple[Saved, ...] = ()
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    report: Any = None
    last: Any = None  # what `at_end` gave
    notices: list[str] = field(default_factory=list)
    touched: TouchedBy = field(default_factory=dict)

    def names_of(self, touch: Any, program: Program) -> list[str]:
        """How the cell calls what it touched: `corrupt.layers[5].output` where a prompt's name
        stood before it, `layers[5].output` where all prompts are meant or it cannot be told."""
        where = touch.where.partition(" at step ")[0]
        found = list(self.touched.get(where, ()))
        if touch.wrote:
            writes = [each for each in program.touches if each.writes]
            written = {f"{each.path}.{each.kind}" for each in writes}
            prompts = {each.path.partition(".")[0] for each in writes}
            exact = [name for name in found if name in written]
            # Where the cell writes it otherwise than it is called, by its prompt alone.
            found = exact or [name for name in found if name.partition(".")[0] in prompts]
        if where == "output" and "logits" in program.trace_names:
            where = "logits"
        return found or [where]


def run(
    program: Program,
    trace: Any,
    namespace: dict[str, Any],
    outcome: Outcome,
    names: tuple[str, ...] = (),
    show: Callable[..., None] = print,
    at_end: Callable[[Any], Any] | None = None,
) -> None:
    """Runs `program` inside `trace`, with `namespace` as its globals.

    `at_end` is called with the tracer when the cell has come to its end, before the forward
    does. Whatever happens, scratch names are gone afterwards, saved ones are plain, and
    `outcome` tells what there is.
    """
    __tracebackhide__ = True
    notebook = Notebook(program, namespace)
    scope = None
    try:
        with trace as tracer:
            outcome.report = tracer.report
            scope = Scope(tracer, namespace, names, show)
            outcome.touched = scope._touched
            tracer.reads = scope._sources.read
            outcome.rows = prompt_rows(tracer, names)
            with bound_scope(namespace, scope), at_hand(program, namespace, scope, names):
                exec(program.code, namespace)
            if at_end is not None:
                outcome.last = at_end(tracer)
    finally:
        if scope is not None:
            scope._end_step()  # the one in which the cell was left by an error
            scope._gather()
        saved = {each.name: each for each in notebook.leave()}
        for name, value in (scope._saved if scope is not None else {}).items():
            saved.setdefault(name, Saved(name, "save(…)", value))
        sources = scope._sources.of if scope is not None else {}
        outcome.saved = tuple(
            replace(each, modules=tuple(sources.get(each.name, ()))) for each in saved.values()
        )
        outcome.shapes = notebook.shapes


@contextmanager
def at_hand(
    program: Program, namespace: dict[str, Any], scope: Scope, names: tuple[str, ...]
) -> Iterator[None]:
    """The trace's names as variables, for a debugger that is called in the cell.

    It reads what is typed there as ordinary Python. Names that the notebook or the cell itself
    has stay as they are, and so do those that would run the forward by being looked up.
    """
    bound = []
    if _DEBUGGER.search(program.source):
        wanted = {*TRACE_NAMES, *root_names(scope.model), *names} - WRITABLE - {"steps"}
        bound = sorted(wanted.difference(namespace, program.bound))
        namespace.update({name: getattr(scope, name) for name in bound})
    try:
        yield
    finally:
        for name in bound:
            namespace.pop(name, None)


@contextmanager
def bound_scope(namespace: dict[str, Any], scope: Scope) -> Iterator[None]:
    """The scope under its hidden name; a cell that runs inside a cell gives the name back."""
    hidden = namespace.get(SCOPE_NAME, _MISSING)
    namespace[SCOPE_NAME] = scope
    try:
        yield
    finally:
        if hidden is _MISSING:
            namespace.pop(SCOPE_NAME, None)
        else:
            namespace[SCOPE_NAME] = hidden
