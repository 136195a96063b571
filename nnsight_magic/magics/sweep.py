"""Running a sweep's cell: what stands before the loop, its points, what stands behind it."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from types import FunctionType, MethodType
from typing import Any

import torch

from nnsight_magic.analyses.points import Axis, Grid, grid
from nnsight_magic.analyses.recipe_name import RECIPE
from nnsight_magic.analyses.sweep_elsewhere import raise_at
from nnsight_magic.analyses.swept import NotOneArray, Swept, begun, fill, measure_baseline
from nnsight_magic.engine.sweeping.how_far import HowFar
from nnsight_magic.errors import BadInputError, CellError, TokenTextError
from nnsight_magic.language.grid_loop import POINT, problems_of_prompts, swept_prompt
from nnsight_magic.language.grid_scope import (
    AroundPoints,
    OfPoint,
    Positions,
    Prompts,
    Untraced,
)
from nnsight_magic.language.keep import Notebook, without_run
from nnsight_magic.language.problems import Problem, Span, cell_error, on_written_lines
from nnsight_magic.language.program import GridLoop, Program
from nnsight_magic.language.run import bound_scope
from nnsight_magic.language.sweep_texts import (
    problems_of_answers,
    problems_of_positions,
    read_again,
)
from nnsight_magic.language.tokens import prompt_rows
from nnsight_magic.magics.cell import program_of
from nnsight_magic.magics.options import Line
from nnsight_magic.magics.prompts import prompts_of
from nnsight_magic.magics.sweep_recipe import sweep_recipe
from nnsight_magic.magics.where import CellPlace

TEXT = "text"  # what a point that generates gives besides


@dataclass(frozen=True)
class Asked:
    """A sweep's cell as it stands in the notebook.

    Attributes:
        line, body, place: of the cell.
        model: what it runs on.
        namespace: the notebook's variables.
        transform: turns `%` and `!` lines of the body into Python.
        show: displays a value where the cell stands.
    """

    line: Line
    body: str
    place: CellPlace
    model: Any
    namespace: dict[str, Any]
    transform: Callable[[str], str] | None = None
    show: Callable[..., None] = print


@dataclass
class Cell:
    """A sweep's cell that may run, and what has come of it.

    Attributes:
        asked, program, names: the cell, checked, and the names of its prompts.
        inputs: the prompts.
        untraced: their tokens.
        found: the points and their results; `None` until the grid is known.
        saved: what was put into the notebook.
        shapes: of what points gave, by name.
        shown: whether the cell displayed a value itself.
    """

    asked: Asked
    program: Program
    names: tuple[str, ...]
    inputs: Any
    untraced: Untraced
    found: Swept | None = None
    saved: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    shown: bool = False

    @property
    def loop(self) -> GridLoop:
        assert self.program.loop is not None
        return self.program.loop

    @property
    def new_tokens(self) -> int | None:
        """How many tokens each point generates; `None` where points are single forwards."""
        return self.asked.line.new_tokens

    @property
    def collected(self) -> tuple[str, ...]:
        """What points give, by name: what the loop assigns, and the text that it generates."""
        names = self.loop.collected
        return names if self.new_tokens is None or TEXT in names else (*names, TEXT)

    @property
    def main(self) -> str | None:
        """The named prompt that points change."""
        return swept_prompt(self.program, self.names)

    @property
    def runs_on(self) -> Any:
        """What points run on."""
        if self.main is None:
            return self.inputs
        return self._prompt(self.main)

    @property
    def references(self) -> dict[str, Any]:
        """The named prompts that points only read."""
        return {name: self._prompt(name) for name in self.names if name != self.main}

    def _prompt(self, name: str) -> Any:
        one = isinstance(self.inputs, str)
        return self.inputs if one else self.inputs[self.names.index(name)]


def prepare(asked: Asked) -> Cell:
    """Reads and checks the cell.

    Raises:
        CellError: with everything that is wrong with it.
    """
    inputs, names = prompts_of(asked.line, asked.model, asked.namespace)
    generates = asked.line.new_tokens is not None
    with asked.model.trace(inputs) as tracer:
        ids, mask, prompts = tracer.input_ids, tracer.attention_mask, tracer.prompts
    if ids is None:
        raise BadInputError("A sweep runs on tokens, and this model takes none.")
    untraced = Untraced(asked.model, ids, mask, prompts)
    tokens = {row.name: row.tokens for row in prompt_rows(untraced, names) if row.name}
    rules = partial(_problems, names=names, tokens=tokens, model=asked.model)
    program = program_of(asked, names, rules, sweeps=True, generates=generates)
    return Cell(asked, program, names, inputs, untraced)


def _problems(
    program: Program, names: tuple[str, ...], tokens: Mapping[str, Sequence[str]], model: Any
) -> list[Problem]:
    """What is wrong with a loop beside its form."""
    return [
        *problems_of_prompts(program, names),
        *problems_of_answers(program, model),
        *problems_of_positions(program, tokens),
    ]


class CellGrid:
    """`grid` in a cell: it knows positions with their tokens, and prompts."""

    def __call__(self, **axes: Any) -> Grid:
        return grid(**{name: _axis(name, given) for name, given in axes.items()})

    def points(self, **axes: Any) -> Grid:
        return grid.points(**{name: _axis(name, given) for name, given in axes.items()})


def _axis(name: str, given: Any) -> Any:
    if isinstance(given, Positions):
        return Axis(name, tuple(given), given.words)
    if isinstance(given, Prompts):
        return Axis(name, tuple(given), prompts=True)
    return given


@contextmanager
def begun_cell(cell: Cell) -> Iterator[Grid]:
    """Runs what stands before the loop, and finds the points; afterwards names are plain.

    Raises:
        CellError: the grid has no points; on its line, and nothing of the loop has run.
    """
    __tracebackhide__ = True
    asked, namespace = cell.asked, cell.asked.namespace
    notebook = Notebook(cell.program, namespace)
    try:
        with around(cell, touches=cell.loop.touches_before):
            if cell.loop.before is not None:
                exec(cell.loop.before, namespace)
            points = _points(cell)
        yield points
    finally:
        notebook.leave()
        asked.namespace.pop(POINT, None)


@contextmanager
def around(cell: Cell, *, touches: bool) -> Iterator[None]:
    """The trace's names before the loop or behind it; where they are used, in a plain trace."""
    asked = cell.asked
    traced = asked.model.trace(cell.inputs, grad=False) if touches else nullcontext(cell.untraced)
    with traced as tracer:

        def show(value: Any, text: str = "") -> None:
            cell.shown = True
            asked.show(value, text)

        scope = AroundPoints(tracer, asked.namespace, cell.names, show, CellGrid(), cell.main)
        with bound_scope(asked.namespace, scope):
            yield


def _points(cell: Cell) -> Grid:
    try:
        points = eval(cell.loop.grid, cell.asked.namespace)
    except (BadInputError, TokenTextError) as error:
        raise _on_an_axis(cell, str(error)) from None
    if not isinstance(points, Grid):
        raise _on_an_axis(cell, f"grid(…) gives {type(points).__name__}, and no points")
    if len(points.axes) != len(cell.loop.variables):
        told = f"the grid has {len(points.axes)} axes, the loop binds {len(cell.loop.variables)}"
        raise _on_an_axis(cell, told)
    return points


def _on_an_axis(cell: Cell, message: str) -> CellError:
    """The error at the axis that it is about, else at the loop."""
    loop, lines = cell.loop, cell.program.parsed_lines
    span = loop.span

    def text(where: Span) -> str:
        return lines[where.line - 1][where.start : where.end]

    for name, where in loop.axes.items():
        if f"axis {name} " in message or (" positions" in message and "tokens" in text(where)):
            span = where
    problem = on_written_lines(Problem(span, message), cell.program.lines, lines)
    return cell_error([problem], cell.program.lines)


def point_function(cell: Cell) -> tuple[OfPoint, Callable[..., dict[str, Any]]]:
    """The loop's body as a function of a point, and the names that it sees."""
    asked, loop = cell.asked, cell.loop
    exec(loop.function, asked.namespace)
    made = asked.namespace.pop(POINT)
    # To a traceback it is the cell itself, as it is to the reader: not a function of that name.
    code = made.__code__.replace(co_name="<module>", co_qualname="<module>")
    body = FunctionType(code, made.__globals__)
    scope = OfPoint(cell.untraced, asked.namespace, cell.names, asked.show, CellGrid(), cell.main)

    def point(*places: Any, tracer: Any = None, **references: Any) -> dict[str, Any]:
        scope.take_references(references)
        found = body(*places)
        if found is None:  # the point was left by `continue`
            return {}
        given = {name: without_run(found[name]) for name in loop.collected if name in found}
        if tracer is not None:
            given = {name: each_step(cell, name, value) for name, value in given.items()}
            if TEXT in cell.collected[len(loop.collected) :]:
                given[TEXT] = text_of(asked.model, tracer)
        return given

    return scope, point


def each_step(cell: Cell, name: str, value: Any) -> Any:
    """What was collected along a text, with NaN for the steps behind its end: one size for all."""
    if name in cell.program.collected and isinstance(value, list):
        if not all(isinstance(each, bool | int | float) for each in value):
            return value
        value = torch.tensor(value)
    stepped = name in cell.program.collected and isinstance(value, torch.Tensor) and value.ndim
    missing = (cell.new_tokens or 0) - len(value) if stepped else 0
    if missing <= 0:
        return value
    whole = value if value.is_floating_point() else value.float()
    return torch.cat([whole, whole.new_full((missing, *value.shape[1:]), torch.nan)])


def text_of(model: Any, tracer: Any) -> str:
    """The new tokens of a point as text, without the marks of its end."""
    ids = tracer.result.value
    begin = tracer.begin or model._turn.active.inputs_now["input_ids"].shape[1]
    return model.tokenizer.decode(ids[0, begin:], skip_special_tokens=True)


@dataclass(frozen=True)
class HowRun:
    """What a sweep's line and body say about how its points run.

    Attributes:
        options: of `model.sweep`.
        inner: those that the baseline has too.
        baseline: the points at which it is measured; none where gradients are recorded.
    """

    options: dict[str, Any]
    inner: dict[str, Any]
    baseline: Sequence[int]


def how_run(cell: Cell, points: Grid) -> HowRun:
    """How the points of a cell run."""
    line, loop = cell.asked.line, cell.loop
    grad = bool(line.grad) or cell.program.wants_gradients
    inner = {"logits_to_keep": 1} if _last_alone(cell) else {}
    if cell.new_tokens is not None:
        inner = {"new_tokens": cell.new_tokens, **line.generation}
    same = set(loop.collected) <= set(loop.unchanging) and points.prompt_of() is None
    measured: Sequence[int] = [0] if same else range(len(points))
    options = {
        "batch_size": line.batch,
        "pack": line.pack is not False,
        "keep_going": bool(line.keep_going),
        "grad": grad,
    }
    return HowRun(options, inner, () if grad else measured)


def begun_points(cell: Cell, points: Grid, known: dict[int, Any]) -> Swept:
    """The results as they stand before the first point: those of an earlier run."""
    line, model = cell.asked.line, cell.asked.model
    found = cell.found = begun(model, cell.runs_on, points, cell.references)
    found.attrs["code"] = cell.program.source
    found.attrs[RECIPE] = sweep_recipe(model, line, cell.inputs, cell.names, cell.program, points)
    found.results.update(known)
    found.steps = cell.new_tokens or 0
    return found


def run_points(
    cell: Cell,
    points: Grid,
    known: dict[int, Any],
    watch: Callable[[Swept, HowFar], None],
) -> Swept:
    """Runs the points that are not known yet; `cell.found` has what came, after an error too.

    Args:
        cell: the cell.
        points: of its grid.
        known: results of an earlier run that was stopped, by the points' numbers.
        watch: is told of every batch.
    """
    __tracebackhide__ = True
    found, how = begun_points(cell, points, known), how_run(cell, points)
    scope, point = point_function(cell)
    given = found, point, cell.runs_on, cell.references
    with bound_scope(cell.asked.namespace, scope):
        if len(how.baseline):
            measure_baseline(*given, how.baseline, **how.inner)
        fill(*given, progress=watched(cell, watch), **how.options, **how.inner)
    return found


def watched(cell: Cell, watch: Callable[[Swept, HowFar], None]) -> Callable[[HowFar], None]:
    """Who is told of every batch of a cell, behind a look at what came."""
    return partial(_watched, cell, watch)


def _watched(cell: Cell, watch: Callable[[Swept, HowFar], None], how_far: HowFar) -> None:
    """Refuses what fits into no array after the batch that it came in, and not after the last."""
    found = cell.found
    assert found is not None
    for name, value in ((n, v) for each in how_far.results.values() for n, v in named(each)):
        shape = tuple(getattr(value, "shape", ()))
        number = isinstance(value, bool | int | float | str | torch.Tensor)
        if not number or cell.shapes.setdefault(name, shape) != shape:
            try:
                found.stacked(name)
            except NotOneArray as error:
                raise_at(error, cell.program.filename, _line_of(cell, name))
    watch(found, how_far)


def _line_of(cell: Cell, name: str) -> int:
    """Where the loop assigns a name, last."""
    tree, _ = read_again(cell.program)
    lines = (
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Store)
    )
    return max((line for line in lines if cell.loop.holds(line)), default=cell.loop.lines[0])


def named(result: Any) -> list[tuple[str, Any]]:
    """What a point gave, by name; nothing of one that failed."""
    return [*result.items()] if isinstance(result, dict) else []


def _last_alone(cell: Cell) -> bool:
    """Whether only the last position's logits are computed: nobody else can ask for others."""
    model = cell.asked.model
    takes = "logits_to_keep" in inspect.signature(type(model.module).forward).parameters
    if not takes or not cell.loop.only_last_logits or model.edits.in_force:
        return False
    used = (cell.asked.namespace.get(use.name) for use in cell.program.uses)
    return not any(_may_touch(value) for value in used)


def _may_touch(value: Any) -> bool:
    """Whether code of the user's stands behind a variable, which may read the model itself."""
    if isinstance(value, FunctionType | MethodType):
        return str(getattr(value, "__module__", "")).partition(".")[0] not in ("torch", "math")
    return hasattr(type(value), "ancestors") or hasattr(value, "_model")


def collect(cell: Cell) -> dict[str, Any]:
    """Puts what the points gave into the notebook, by its names; as far as it came.

    Values that do not fit into one array stand in a list, one a point.
    """
    found = cell.found
    if found is None:
        return {}
    for name in cell.collected:
        try:
            value: Any = found.result(name)
        except NotOneArray:
            values = found.values(name)
            value = [values.get(number) for number in range(len(found.grid))]
        cell.saved[name] = cell.asked.namespace[name] = value
    return cell.saved


def run_behind(cell: Cell) -> None:
    """Runs what stands behind the loop."""
    __tracebackhide__ = True
    if cell.loop.behind is not None:
        with around(cell, touches=cell.loop.touches_behind):
            exec(cell.loop.behind, cell.asked.namespace)
