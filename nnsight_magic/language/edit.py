"""An `%%edit` cell: its writes are recorded, and every later trace carries them out.

No forward runs in it, so what it writes must be known in numbers. A cell that reads a value of the
forward, or addresses a token of a prompt, is told so before anything is recorded.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from nnsight_magic.engine.editing.edits import Edit
from nnsight_magic.errors import EditError
from nnsight_magic.language.keep import Notebook, Saved
from nnsight_magic.language.problems import Problem
from nnsight_magic.language.program import Program
from nnsight_magic.language.run import bound_scope
from nnsight_magic.language.scope import Scope

# Names of a run, each with what an edit does instead.
OF_A_RUN = {
    "tokens": "an edit is for every prompt",
    "prompt": "an edit is for every prompt",
    "steps": "an edit is for every step; %%edit NAME --steps 0,1 picks some",
    "logits": "write what the unembedding gives: unembed.output[:, -1] = …",
    "output": "write what a module gives: unembed.output[:, -1] = …",
    "save": "there is nothing to save; variables of the notebook stay as they are",
    "show": "show it in a cell of its own",
}


def edit_problems(program: Program) -> list[Problem]:
    """What an edit cannot do: read a value of the forward, or ask for its prompt."""
    problems = [
        Problem(found.span, f"an edit runs no forward, so there is no {found.name!r}", hint)
        for found in program.references
        if (hint := OF_A_RUN.get(found.name)) is not None
    ]
    for touch in program.touches:
        if not touch.writes and touch.path not in OF_A_RUN:
            message = f"{touch.path}.{touch.kind} has no value in an edit: no forward runs there"
            hint = "assign a number or a tensor, or use += -= *= /= on what stands there"
            problems.append(Problem(touch.span, message, hint))
    return problems


def record(
    program: Program,
    edit: Edit,
    model: Any,
    namespace: dict[str, Any],
    show: Callable[..., None] = print,
) -> tuple[Saved, ...]:
    """Runs the cell, with its writes going into `edit`; a cell that fails leaves no edit.

    Raises:
        EditError: nothing was written, or something that is not known in numbers.
    """
    __tracebackhide__ = True
    notebook = Notebook(program, namespace)
    try:
        with edit, bound_scope(namespace, EditScope(_NoRun(model), namespace, show=show)):
            exec(program.code, namespace)
            if not edit.writes:
                raise EditError(
                    "The cell writes nothing.\nAn edit is one or more writes, such as "
                    "layers[3].mlp.output[:, -1] = 0."
                )
    finally:
        saved = notebook.leave()
    return saved


@dataclass(frozen=True)
class _NoRun:
    """Stands where a cell's trace stands otherwise."""

    model: Any


class EditScope(Scope):
    """The names of an `%%edit` cell: modules, and nothing of a run."""

    def _by_text(self, value: Any) -> Any:
        return _ByNumber(value)


class _ByNumber:
    """A place whose index may not name a token."""

    __slots__ = ("_place",)

    def __init__(self, place: Any) -> None:
        self._place = place

    def __getitem__(self, index: Any) -> Any:
        return self._place[_numbers(index)]

    def __setitem__(self, index: Any, new: Any) -> None:
        self._place[_numbers(index)] = new


def _numbers(index: Any) -> Any:
    for part in index if isinstance(index, tuple) else ():
        inside = part if isinstance(part, list) else [part]
        bounds = [part.start, part.stop] if isinstance(part, slice) else []
        for each in (*inside, *bounds):
            if isinstance(each, str):
                raise EditError(
                    f"An edit is for every prompt, so no token {each!r} can be looked up.\n"
                    "Give the position by number, such as [:, -1]."
                )
    return index
