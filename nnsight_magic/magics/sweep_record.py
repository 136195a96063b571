"""What is recorded of a sweep's cell, for `%runs` and `%saved`."""

from __future__ import annotations

from dataclasses import dataclass

from nnsight_magic.analyses.result_shown import points_of
from nnsight_magic.language.tokens import joined, prompt_rows
from nnsight_magic.magics.models import title
from nnsight_magic.magics.sweep import Cell
from nnsight_magic.results.record import Extent, PromptResult, RunModel, RunRecord
from nnsight_magic.results.saved import describe_saved


@dataclass(frozen=True)
class Ran:
    """How a sweep's cell went.

    Attributes:
        number: of the run in this session.
        variable: the notebook's variable that the model is in.
        seconds: time of the cell.
        error: what ended it.
    """

    number: int
    variable: str
    seconds: float
    error: BaseException | None = None


def sweep_record(cell: Cell, ran: Ran) -> RunRecord:
    """The record of a sweep, complete or as far as it came."""
    found, program, model = cell.found, cell.program, cell.asked.model
    failed = ""
    if ran.error is not None:
        stopped = isinstance(ran.error, KeyboardInterrupt)
        failed = "interrupted" if stopped else f"ended by {type(ran.error).__name__}"
    done, total = 0, 0
    if found is not None:
        done, total = len(found.results) - len(found.failed), len(found.grid)
    in_loop = [touch for touch in program.touches if cell.loop.holds(touch.span.line)]
    named: dict[bool, dict[str, None]] = {True: {}, False: {}}
    for touch in in_loop:
        named[touch.writes][f"{touch.path}.{touch.kind}".removeprefix(".")] = None
    return RunRecord(
        "sweep",
        ran.number,
        RunModel(title(model), ran.variable, tuple(e.name for e in model.edits.in_force)),
        _prompts(cell),
        saved=tuple(
            describe_saved(name, program.expressions.get(name, ""), value)
            for name, value in cell.saved.items()
        ),
        ran=Extent(seconds=ran.seconds, failed=failed, points=(done, total)),
        wrote=tuple(named[True]),
        read=tuple(named[False]),
        source=program.source,
        best=_farthest(cell),
    )


def _prompts(cell: Cell) -> tuple[PromptResult, ...]:
    """The prompts, that which points change first."""
    rows = prompt_rows(cell.untraced, cell.names)
    given = cell.untraced.prompts or [joined(row.tokens) for row in rows]
    both = [*zip(given, rows, strict=True)]
    both.sort(key=lambda each: each[1].name != cell.main)
    return tuple(PromptResult(text, row.tokens, row.name) for text, row in both)


def _farthest(cell: Cell) -> str:
    """The point that is farthest from the baseline, of the first name that has numbers."""
    for name, value in cell.saved.items():
        if getattr(value, "ndim", 0) and hasattr(value, "dims") and value.dtype.kind not in "OU":
            for words, told in points_of(value).told(1):
                return f"{name} {told} at {words}"
    return ""
