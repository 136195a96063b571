"""`--on WHERE`: the points of a sweep's cell run in other processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from nnsight_magic.analyses.points import Grid
from nnsight_magic.analyses.sweep_elsewhere import Sent, fill_elsewhere
from nnsight_magic.analyses.swept import Swept
from nnsight_magic.analyses.travelling import used_by
from nnsight_magic.engine.sweeping.how_far import HowFar
from nnsight_magic.errors import BadInputError, CannotTravelError, CellError, OptionError
from nnsight_magic.language.names import SCOPE_NAME
from nnsight_magic.language.problems import Problem, cell_error, on_written_lines
from nnsight_magic.language.run import bound_scope
from nnsight_magic.magics.sweep import Cell, begun_points, how_run, point_function, watched


def workers_of(expression: str, namespace: Mapping[str, Any]) -> Any:
    """What `--on` names: a number of processes, or a variable of the notebook.

    Raises:
        OptionError: it cannot be evaluated.
    """
    try:
        return eval(expression, dict(namespace))
    except Exception as error:
        raise OptionError(
            f"--on {expression}: {type(error).__name__}: {error}; expected how many processes of "
            "this machine (--on 4), or a variable with a Dask client, an executor or "
            "analyses.on_ray()"
        ) from None


def run_points_elsewhere(
    cell: Cell,
    points: Grid,
    known: dict[int, Any],
    watch: Callable[[Swept, HowFar], None],
) -> Swept:
    """Runs the points as `run_points` does, in other processes.

    Raises:
        OptionError: `--on` names nothing that runs jobs; or the model has no name.
        CellError: the loop uses a variable that cannot go to another process.
    """
    __tracebackhide__ = True
    asked, how = cell.asked, how_run(cell, points)
    on = workers_of(asked.line.on, asked.namespace)
    variables = used_by(cell.loop.function, asked.namespace)
    variables.pop(SCOPE_NAME, None)
    travels = replace(cell, asked=replace(asked, namespace=variables, show=print, transform=None))
    sent = Sent(
        opened=partial(opened_cell, travels),
        prompt=cell.runs_on,
        references=cell.references,
        grid=points,
        options=how.options,
        inner=how.inner,
        seed=torch.initial_seed(),
        variables=variables,
        where=(cell.program.filename, cell.loop.lines[0]),
    )
    found = begun_points(cell, points, known)
    try:
        fill_elsewhere(found, on, sent, watched(cell, watch), how.baseline)
    except CannotTravelError as error:
        cell.found = None
        raise _on_its_line(cell, error) from None
    except BadInputError as error:
        if hasattr(error, "finished"):  # it came of a point
            raise
        cell.found = None
        raise OptionError(f"--on {asked.line.on}: {_in_a_cell(error)}") from None
    return found


@contextmanager
def opened_cell(cell: Cell, model: Any) -> Iterator[Callable[..., Any]]:
    """The loop's body as a function of a point, in a worker."""
    scope, point = point_function(cell)
    with bound_scope(cell.asked.namespace, scope):
        yield point


def _on_its_line(cell: Cell, error: CannotTravelError) -> CellError | OptionError:
    """The error where the cell uses what cannot travel."""
    program = cell.program
    for use in program.uses:
        if use.name == error.variable:
            problem = Problem(use.span, _in_a_cell(error))
            problem = on_written_lines(problem, program.lines, program.parsed_lines)
            return cell_error([problem], program.lines)
    return OptionError(f"--on {cell.asked.line.on}: {_in_a_cell(error)}")


def _in_a_cell(error: Exception) -> str:
    return str(error).replace("without on=", "without --on").replace("on=2", "--on 2")
