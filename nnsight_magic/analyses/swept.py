"""A sweep's points and what came of them, also of one that was stopped or is under way."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnsight_magic.analyses.points import Axis, Grid
from nnsight_magic.analyses.recipe_name import NO_CELL, RECIPE, with_trailing
from nnsight_magic.engine.sweeping.how_far import HowFar
from nnsight_magic.errors import BadInputError, WrongValueError
from nnsight_magic.language.tokens import token_texts
from nnsight_magic.results.labels import sizes_of

if TYPE_CHECKING:
    from nnsight_magic.analyses.result import Result

VALUE = "value"  # the name of what a function returns that names nothing


class NotOneArray(BadInputError):
    """Points gave values that do not fit into one array."""


@dataclass
class Swept:
    """The results of a sweep as they come: complete, or as far as it came.

    Attributes:
        grid: its points.
        results: what points gave, by their numbers: numbers, tensors, or dicts of them by name.
            An exception stands for a point that failed.
        baseline: what each name is without the writes: one number, or one for each point.
        reference: the same on the reference.
        model, tokens: what trailing axes are named by: the model, and the prompt's tokens.
        attrs: what the numbers were measured with.
        steps: of a generation; the first axis of a value that has as many is theirs.
        forwards: of the model that were run for it, where somebody is told how far it is.
    """

    grid: Grid
    model: Any
    tokens: Sequence[str] = ()
    results: dict[int, Any] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    reference: dict[str, Any] = field(default_factory=dict)
    attrs: dict[str, Any] = field(default_factory=dict)
    steps: int = 0
    forwards: int = 0

    @property
    def failed(self) -> dict[int, Exception]:
        """The points that failed, by number."""
        return {n: each for n, each in self.results.items() if isinstance(each, Exception)}

    def waiting(self, numbers: Sequence[int] | None = None) -> list[int]:
        """Those of these points, of all by default, that have no result yet."""
        asked = range(len(self.grid)) if numbers is None else numbers
        return [number for number in asked if number not in self.results]

    @property
    def names(self) -> tuple[str, ...]:
        """What points gave, by name, in the order in which the first of them gave it."""
        found: dict[str, None] = {}
        for number in sorted(self.results):
            found.update(dict.fromkeys(_named(self.results[number])))
        return tuple(found)

    def values(self, name: str) -> dict[int, Any]:
        """What points gave under a name, by their numbers."""
        named = ((number, _named(each)) for number, each in sorted(self.results.items()))
        return {number: each[name] for number, each in named if each.get(name) is not None}

    def result(self, name: str) -> Result:
        """One name's values with named axes; where a point has none, NaN.

        Raises:
            NotOneArray: a point's value is no number and no tensor, or of another shape.
        """
        from nnsight_magic.analyses.result import Along, with_axes

        stacked: Any = self.texts(name)
        if stacked is None:
            stacked = self.stacked(name)
        along = [_along(axis) for axis in self.grid.axes]
        if self.grid.paired:
            along = [Along("point", range(len(self.grid)))]
        trailing = stacked.shape[len(self.grid.shape) :]
        along += [Along(role, range(size)) for role, size in self._trailing(trailing)]
        told = {**self.attrs, "points": len(self.grid), "run": len(self.values(name))}
        attrs = with_trailing(told, [role for role, _ in self._trailing(trailing)])
        found = with_axes(stacked, along, name, attrs)
        if self.grid.paired:
            for axis in self.grid.axes:
                found = found.assign_coords({axis.name: ("point", _along(axis).places)})
        for kind, known in (("baseline", self.baseline), ("reference", self.reference)):
            if name in known:
                found = _beside(found, kind, known[name])
        return found

    def texts(self, name: str) -> np.ndarray | None:
        """The same of texts, `(*points,)`, empty where a point has none; `None` of other values."""
        values = self.values(name)
        if not values or not all(isinstance(each, str) for each in values.values()):
            return None
        listed = [values.get(number, "") for number in range(len(self.grid))]
        return np.array(listed, dtype=object).reshape(self.grid.shape)

    def stacked(self, name: str) -> torch.Tensor:
        """The same as a tensor `(*points, …)`.

        Raises:
            NotOneArray: as `result`.
        """
        values = {n: _number(v, name, self.grid, n) for n, v in self.values(name).items()}
        if not values:
            return torch.full(self.grid.shape, torch.nan)
        first, one = next(iter(values.items()))
        for number, value in values.items():
            if value.shape != one.shape:
                raise NotOneArray(
                    f"{name} is of shape {tuple(one.shape)} at {self.grid.describe(first)} and of "
                    f"shape {tuple(value.shape)} at {self.grid.describe(number)}.\n"
                    "Values of all points stand in one array: take a number, or a part of one size."
                )
        whole = len(values) == len(self.grid)
        dtype = one.dtype if whole else torch.promote_types(one.dtype, torch.float32)
        if dtype.is_floating_point:
            dtype = torch.float32 if dtype.itemsize < 4 else dtype
        empty = torch.nan if dtype.is_floating_point else 0
        stacked = torch.full((len(self.grid), *one.shape), empty, dtype=dtype)
        for number, value in values.items():
            stacked[number] = value
        return stacked.reshape(*self.grid.shape, *one.shape)

    def _trailing(self, shape: Sequence[int]) -> list[tuple[str, int]]:
        """Names for the axes of a point's own value, by their sizes where these tell."""
        sizes = {**sizes_of(self.model), "token": len(self.tokens)}
        found: list[tuple[str, int]] = []
        for place, size in enumerate(shape):
            roles = [role for role, known in sizes.items() if known == size and size > 1]
            taken = [*self.grid.names, *(role for role, _ in found)]
            if place == 0 and size == self.steps and "step" not in taken:
                roles = ["step"]
            role = roles[0] if len(roles) == 1 and roles[0] not in taken else f"axis_{place}"
            found.append((role, size))
        return found


def begun(model: Any, prompt: Any, points: Grid, references: Mapping[str, Any] | None) -> Swept:
    """A sweep of which no point has been run."""
    runs_on = prompt if points.prompt_of() is None else prompts_of(points)[0]
    tokens = tokens_of(model, runs_on)
    name = str(getattr(getattr(model, "_source", None), "name", None) or type(model._root).__name__)
    attrs: dict[str, Any] = {"model": name, "prompt": str(prompt)}
    attrs[RECIPE] = NO_CELL
    attrs |= {f"prompt_{key}": str(each) for key, each in (references or {}).items()}
    return Swept(points.with_words(tokens), model, tokens, attrs=attrs)


def prompts_of(points: Grid) -> list[Any]:
    """The prompts on which points run."""
    return next(list(axis.values) for axis in points.axes if axis.prompts)


def tokens_of(model: Any, prompt: Any) -> list[str]:
    """The texts of a prompt's tokens; none for what is several prompts, or no text."""
    with model.trace(prompt) as tracer:
        ids = tracer.input_ids
    if ids is None or ids.shape[0] != 1:
        return []
    return token_texts(getattr(model, "tokenizer", None), ids[0].tolist())


def fill(
    found: Swept,
    function: Callable[..., Any],
    prompt: Any,
    references: Mapping[str, Any],
    *,
    numbers: Sequence[int] | None = None,
    progress: bool | Callable[[HowFar], None] = True,
    **options: Any,
) -> None:
    """Run the points that have no result yet; `found` has what came, also after an error.

    Args:
        found: the sweep; its results are filled.
        function, prompt, references: as in `sweep`.
        numbers: of the points; all by default.
        progress: a bar, or who is told of every batch.
        options: as of `model.sweep`.
    """
    points = found.grid
    waiting = found.waiting(numbers)
    prompt_of = points.prompt_of()
    given = prompt if prompt_of is None else prompts_of(points)
    which = None if prompt_of is None else [prompt_of[number] for number in waiting]

    before = found.forwards

    def told(how_far: HowFar) -> None:
        found.forwards = before + how_far.forwards
        new = {waiting[place]: result for place, result in how_far.results.items()}
        found.results.update(new)
        if callable(progress):
            progress(replace(how_far, results=new))

    try:
        results = found.model.sweep(
            given,
            function,
            _Some(points, waiting),
            prompt_of=which,
            references=references,
            progress=told if callable(progress) else progress,
            **options,
        )
    except BaseException as error:
        for place, result in getattr(error, "finished", {}).items():
            found.results[waiting[place]] = result
        raise
    found.results.update(zip(waiting, results, strict=True))


class _Some(list):
    """Some points of a grid, that are called as they are in it."""

    def __init__(self, points: Grid, numbers: list[int]):
        super().__init__(points[number] for number in numbers)
        self._points, self._numbers = points, numbers

    def describe(self, number: int) -> str:
        return self._points.describe(self._numbers[number])


def measure_baseline(
    found: Swept,
    function: Callable[..., Any],
    prompt: Any,
    references: Mapping[str, Any],
    numbers: Sequence[int],
    **kwargs: Any,
) -> None:
    """What the function gives at these points with its writes left out, and on the reference.

    Args:
        found: the sweep; its baseline and reference are set.
        function, prompt, references: as in `sweep`.
        numbers: of the points; one where the value is the same at all.
        kwargs: of the model's forward.
    """
    points, model = found.grid, found.model
    prompt_of = points.prompt_of()
    which = None if prompt_of is None else [prompt_of[number] for number in numbers]
    given = prompt if prompt_of is None else prompts_of(points)
    chosen = _Some(points, [*numbers])
    counted: list[int] = []
    options: dict[str, Any] = {
        "references": references, "writes": False, "keep_going": True, **kwargs,
        "progress": lambda how_far: counted.append(how_far.forwards),
    }  # fmt: skip
    plain = model.sweep(given, function, chosen, prompt_of=which, **options)
    found.forwards += max(counted, default=0)
    found.baseline = _by_name(found, numbers, plain)
    if len(references) == 1 and prompt_of is None:
        (reference,) = references.values()
        counted.clear()
        other = model.sweep(reference, function, chosen, **options)
        found.forwards += max(counted, default=0)
        found.reference = _by_name(found, numbers, other)


def _by_name(found: Swept, numbers: Sequence[int], results: list[Any]) -> dict[str, Any]:
    """For each name one value if it is the same at all points, else an array of the grid's shape.

    Left out where it has none: a function may read what there is only behind its own writes.
    """
    measured = Swept(
        found.grid, found.model, found.tokens, dict(zip(numbers, results, strict=True))
    )
    by_name: dict[str, Any] = {}
    for name in measured.names:
        texts = measured.texts(name)
        if texts is not None:
            told = [texts.ravel()[number] for number in numbers]
            if len(set(told)) == 1 or len(told) == len(found.grid):
                by_name[name] = told[0] if len(set(told)) == 1 else texts
            continue
        try:
            values = [_number(v, name, found.grid, n) for n, v in measured.values(name).items()]
        except NotOneArray:
            continue
        if all(value.shape == values[0].shape and _same(value, values[0]) for value in values):
            by_name[name] = values[0]
        elif len(values) == len(found.grid) and not values[0].ndim:
            by_name[name] = torch.stack(values).reshape(found.grid.shape)
    return by_name


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return one is other or torch.equal(one, other)


def _named(result: Any) -> dict[str, Any]:
    if isinstance(result, dict):
        return result
    return {} if result is None or isinstance(result, Exception) else {VALUE: result}


def _number(value: Any, name: str, grid: Grid, number: int) -> torch.Tensor:
    """A point's value as a tensor.

    Raises:
        NotOneArray: it is none.
    """
    if isinstance(value, torch.Tensor):
        return value.detach().cpu()
    if isinstance(value, bool | int | float):
        return torch.tensor(value)
    try:
        return torch.as_tensor(value)
    except (TypeError, ValueError, RuntimeError):
        raise NotOneArray(
            f"{name} is a {type(value).__name__} at {grid.describe(number)}.\n"
            "What a point gives is a number or a tensor: points of a sweep become one array."
        ) from None


def _along(axis: Axis) -> Any:
    from nnsight_magic.analyses.result import Along

    return Along(axis.name, axis.places, axis.words)


def _beside(found: Result, kind: str, value: Any) -> Result:
    """A coordinate of a result that has the axes of its points, of its value, or none."""
    if not isinstance(value, torch.Tensor):  # texts
        return found.assign_coords({kind: value if isinstance(value, str) else (found.dims, value)})
    array = value.float() if value.is_floating_point() else value
    dims = [str(dim) for dim in found.dims]
    if tuple(array.shape) == found.shape:
        named = dims
    else:
        named = dims[len(dims) - array.ndim :]
        if tuple(array.shape) != tuple(found.sizes[dim] for dim in named):
            raise WrongValueError(f"The {kind} is of another shape than a point's value.")
    return found.assign_coords({kind: (named, array.numpy())})
