"""A cell's text run aside, for a view that opens a point: no variable of the notebook changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from nnsight_magic.analyses.opening import RESIDUAL
from nnsight_magic.errors import NnsightError
from nnsight_magic.magics.cell import Asked, Prepared, prepare
from nnsight_magic.magics.describe import record
from nnsight_magic.magics.options import read_line
from nnsight_magic.magics.predict import CleanRuns
from nnsight_magic.magics.trace import execute, start
from nnsight_magic.magics.where import CellPlace
from nnsight_magic.results.as_view import OnScreen, tensors_of, tokens_of
from nnsight_magic.results.labels import labels_of
from nnsight_magic.results.parts import facts
from nnsight_magic.results.record import RunRecord, SavedVariable
from nnsight_magic.views.data.held import HELD
from nnsight_magic.views.live.comparison import CompareView
from nnsight_magic.views.live.trace import TraceView
from nnsight_magic.views.live.view import Selection, View


def run_point(
    model: Any,
    text: str,
    title: str,
    beside: Sequence[str],
    selection: Selection,
    *,
    namespace: Mapping[str, Any],
    settings: Mapping[str, Any],
    transform: Callable[[str], str] | None = None,
) -> list[View]:
    """The run of a cell as views: its tokens against the run without its writes, and what it read.

    Args:
        model: what it runs on.
        text: of a trace cell, its line too.
        title: the point in words.
        beside: lines that read further values; left out where the model has them not.
        selection: of the views.
        namespace: the notebook's variables; a copy is used.
        settings: the defaults of options.
        transform: turns `%` and `!` lines into Python.

    Raises:
        NnsightError: the cell cannot be run.
    """
    line, _, body = text.partition("\n")
    written = line.removeprefix("%%trace").strip()
    names = dict(namespace)
    read = read_line("trace", written, dict(settings) | {"compare": True}, names)

    def asked(body: str) -> Asked:
        place = CellPlace("<point>", title, f"{line}\n{body}", 2)
        screen = OnScreen(model)
        return Asked(
            "trace", read, body, place, 0, model, "model", names, transform, _silent, screen
        )

    late = [each for each in beside if each.startswith(RESIDUAL)]
    early = [each for each in beside if each not in late]
    more = "\n".join([*early, body.rstrip("\n"), *late])
    try:
        prepared = prepare(asked(more))
        finished = execute(start(prepared))
    except NnsightError:
        prepared = prepare(asked(body))
        finished = execute(start(prepared))
    found = record(finished, CleanRuns())
    return [_view(found, prepared, title, selection)]


def _silent(*_: Any, **__: Any) -> None:
    """Of what the cell shows itself, nothing is shown here."""


def _view(found: RunRecord, prepared: Prepared, title: str, selection: Selection) -> TraceView:
    saved = [each for each in found.saved if each.name != RESIDUAL]
    for each in saved:
        if each.drawable is not None:
            HELD.keep(each.drawable)
    # What is read besides may stand behind what the cell reads; the reader did not write that.
    notices = [each for each in found.notices if "was read after" not in each]
    told = replace(found, saved=tuple(saved), notices=tuple(notices))
    tensors: list[Any] = tensors_of(told, selection)
    residual = next((each for each in found.saved if each.name == RESIDUAL), None)
    if residual is not None and found.wrote:
        tensors.append(_compared(found, residual, prepared, selection))
    return TraceView(
        title,
        facts(told),
        wrote=told.wrote,
        notices=notices,
        tokens=tokens_of(told, selection),
        tensors=tensors,
        open_tensors=[],
        selection=selection,
    )


def _compared(
    found: RunRecord, residual: SavedVariable, prepared: Prepared, selection: Selection
) -> CompareView:
    """What the last block gives, with the cell's writes and without them."""
    model = prepared.asked.model
    with model.trace(prepared.inputs):
        plain = model.layers[-1].output.clone()
    return CompareView(
        plain.detach() if hasattr(plain, "detach") else plain,
        residual.drawable,
        "behind the last block",
        names=("without", "with the writes"),
        selection=selection,
        **labels_of(found, residual),
    )
