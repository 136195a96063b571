"""A run that an error or an interrupt ended: what it saved is listed as that of any other."""

from __future__ import annotations

from typing import Any

from nnsight_magic.language.program import Program
from nnsight_magic.magics.models import title
from nnsight_magic.results.record import Extent, RunModel, RunRecord, prompt_of
from nnsight_magic.results.result import TraceResult
from nnsight_magic.results.saved import describe_saved


def unfinished(cell: Any, program: Program, error: BaseException, number: int) -> TraceResult:
    """The result as far as it came: no predictions, since nothing of the model is run for it."""
    outcome, report = cell.outcome, cell.outcome.report
    stopped = isinstance(error, KeyboardInterrupt)
    touches = [(touch, outcome.names_of(touch, program)) for touch in report.touches]
    record = RunRecord(
        cell.magic,
        number,
        RunModel(title(cell.model), cell.variable, cell.edits),
        tuple(map(prompt_of, outcome.rows)),
        saved=tuple(
            describe_saved(s.name, s.where, s.value, s.name in program.collected)
            for s in outcome.saved
        ),
        ran=Extent(
            report.blocks_run,
            report.blocks,
            forwards=report.forwards,
            seconds=report.seconds,
            failed="interrupted" if stopped else f"ended by {type(error).__name__}",
        ),
        wrote=tuple(dict.fromkeys(n for t, names in touches if t.wrote for n in names)),
        read=tuple(dict.fromkeys(n for t, names in touches if not t.wrote for n in names)),
        notices=tuple(report.notices),
        source=program.source,
    )
    return TraceResult(record)
