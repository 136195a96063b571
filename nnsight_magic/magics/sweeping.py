"""A sweep's cell from its first line to its last: what it shows, keeps and says."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from nnsight_magic.analyses.points import Grid
from nnsight_magic.analyses.swept import Swept
from nnsight_magic.engine.sweeping.how_far import HowFar
from nnsight_magic.magics.sweep import (
    DRY_POINTS,
    Cell,
    begun_cell,
    collect,
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
    """Runs a few points, and says how long all would take.

    The time of few points says that of many within a factor of two either way: a batch of many
    costs less a point, a point early in the model more.
    """
    step = max(1, len(points) // DRY_POINTS)
    some = [*range(len(points))][::step][:DRY_POINTS]
    others = {number: None for number in range(len(points)) if number not in some}
    began = time.perf_counter()
    found: Swept = run_points(cell, points, others, lambda found, how_far: None)
    seconds = time.perf_counter() - began
    each = seconds / max(1, len(some))
    low, high = each * len(points) / 2, max(seconds, each * len(points) * 2)
    values = sum(
        value.nbytes if hasattr(value, "nbytes") else 8
        for number in some
        for value in (found.results[number] or {}).values()
    )
    kept = values / max(1, len(some)) * len(points)
    return (
        f"{len(points)} points ({' × '.join(map(str, points.shape))}). {len(some)} of them took "
        f"{seconds:.1f} s; all take {low:.0f} to {high:.0f} s, "
        f"and their results {kept / 1e6:.1f} MB."
    )
