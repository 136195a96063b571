"""A sweep's cell from its first line to its last: what it shows, keeps and says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from nnsight_magic.analyses.forecast import forecast
from nnsight_magic.analyses.points import Grid
from nnsight_magic.analyses.swept import Swept
from nnsight_magic.engine.sweeping.how_far import HowFar
from nnsight_magic.language.run import bound_scope
from nnsight_magic.magics.sweep import (
    Cell,
    begun_cell,
    begun_points,
    collect,
    how_run,
    point_function,
    run_behind,
    run_points,
)
from nnsight_magic.magics.sweep_elsewhere import run_points_elsewhere
from nnsight_magic.magics.sweep_folder import SweepFolder
from nnsight_magic.magics.sweep_shown import Filling, SweepResult
from nnsight_magic.magics.trace import seeded
from nnsight_magic.magics.unfinished import Unfinished, key_of


def run_cell(cell: Cell, unfinished: Unfinished, *, live: bool) -> SweepResult | None:
    """Runs the cell.

    Args:
        cell: checked.
        unfinished: sweeps that were stopped; this one goes on if it is among them.
        live: whether views are shown.

    Returns:
        What it collected; `None` where the cell shows a value itself, or is only tried.
    """
    __tracebackhide__ = True
    quiet = bool(cell.asked.line.quiet)
    with begun_cell(cell) as points:
        if cell.asked.line.dry:
            print(tried(cell, points))
            return None
        key, alive = key_of(cell, points)
        if cell.asked.line.fresh:
            unfinished.forget(key)
        known = unfinished.of(key)
        out, line = None, cell.asked.line
        if line.out is not None:
            out = SweepFolder(line.out, cell, points, fresh=bool(line.fresh))
            known = {**known, **out.known}
        filling = Filling(cell.collected[0], len(points), live=live, quiet=quiet, known=len(known))
        try:
            with seeded(cell.asked.line):
                run = run_points if line.on is None else run_points_elsewhere
                run(cell, points, known, _watching(filling, out))
        except BaseException as error:
            stopped(cell, error)
            if cell.found is not None:
                unfinished.keep(key, cell.found.results, alive)
            raise
        finally:
            filling.close(cell.found)
            if out is not None and cell.found is not None:
                out.keep(cell.found.results, now=True)
            collect(cell)
        unfinished.forget(key)
        run_behind(cell)
    if cell.shown:
        return None
    drawn = cell.collected[0] if filling.view is not None else ""
    return SweepResult(dict(cell.saved), tuple(notices(cell, known)), drawn, live)


def _watching(filling: Filling, out: SweepFolder | None) -> Callable[[Swept, HowFar], None]:
    """Shows every batch, and keeps it."""

    def watch(found: Swept, how_far: HowFar) -> None:
        if out is not None:
            out.keep(how_far.results)
        filling.watch(found, how_far)

    return watch


def notices(cell: Cell, known: dict[int, Any]) -> list[str]:
    """What the reader should know of the run."""
    found, said = cell.found, []
    if known:
        said.append(f"went on behind {len(known)} points of the run that was stopped")
    if found is not None and found.failed:
        number, error = next(iter(found.failed.items()))
        said.append(
            f"{len(found.failed)} points failed and are empty; the first, "
            f"{found.grid.describe(number)}: {type(error).__name__}: {error}"
        )
    return said


def stopped(cell: Cell, error: BaseException) -> None:
    """Says with an error, or an interrupt, at which point it was and what is kept."""
    found = cell.found
    if found is None:
        return
    point = getattr(error, "point_name", "")
    where = f"At the point {point}. " if point else ""
    names = ", ".join(cell.collected)
    done, total = len(found.results) - len(found.failed), len(found.grid)
    kept = (
        f"{done} of {total} points are finished and stand in {names}; "
        "the same cell, run again, goes on there."
    )
    error.__notes__ = [
        *(note for note in getattr(error, "__notes__", ()) if not note.startswith("In a sweep")),
        where + (kept if done else "No point is finished."),
    ]


def tried(cell: Cell, points: Grid) -> str:
    """Runs a few points, and says what all would take."""
    found, how = begun_points(cell, points, {}), how_run(cell, points)
    scope, point = point_function(cell)
    with bound_scope(cell.asked.namespace, scope), seeded(cell.asked.line):
        told = forecast(
            found, point, cell.runs_on, cell.references, how.baseline, how.options, how.inner
        )
    return f"{' × '.join(map(str, points.shape))}: {told}"
