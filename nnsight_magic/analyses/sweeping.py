"""A function of a trace at every point of a grid, its numbers with named axes.

def patch(layer, position, clean):
    model.layers[layer].output[:, position] = clean.layers[layer].output[:, position]
    return model.logits[0, -1, paris] - model.logits[0, -1, rome]

points = grid(layer=model.layers, position=range(9))
effect = sweep(model, corrupt, patch, points, references={"clean": prompt})
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nnsight_magic.analyses.points import Grid
from nnsight_magic.analyses.sweep_elsewhere import fill_elsewhere, sent_function
from nnsight_magic.analyses.swept import VALUE, Swept, begun, fill, measure_baseline
from nnsight_magic.engine.sweeping.how_far import HowFar


def sweep(
    model: Any,
    prompt: Any,
    function: Callable[..., Any],
    points: Grid,
    *,
    references: Mapping[str, Any] | None = None,
    baseline: bool = True,
    batch_size: int | None = None,
    pack: bool = True,
    grad: bool = False,
    keep_going: bool = False,
    on: Any = None,
    progress: bool | Callable[[HowFar], None] = True,
    **kwargs: Any,
) -> Any:
    """Run a function of a trace at every point of a grid.

    Args:
        model: a `LanguageModel`.
        prompt: what points run on; not looked at where an axis of the grid is of prompts.
        function: called with a point's places, and with `references` by their names; it reads and
            writes values like the body of a trace. What it returns is measured: a number, a tensor,
            or a dict of them by name.
        points: `grid(…)` or `grid.points(…)`.
        references: prompts that the function only reads, by the keyword it is given each as.
        baseline: measure without the function's writes too: it becomes the coordinate `baseline`
            of the result; and if there is one reference, `reference` is the same on that prompt.
        batch_size, pack, grad, keep_going, progress, kwargs: as of `model.sweep`.
        on: what runs it: how many processes of this machine, anything with `submit`, a Dask
            client, or `analyses.on_ray(…)`. By default this process.

    Returns:
        A `Result`, or of a function that returns a dict, one for each name.

    Raises:
        BadInputError: there is no point; or, with `on`, the function changes variables that are
            not its own, which would be lost.
        CannotTravelError: with `on`, the model has no name, or the function uses what cannot go to
            another process.
        BaseException: what the function raises, or an interrupt; its `partial` is the result as
            far as it came, NaN where it did not.

    >>> from nnsight_magic import LanguageModel
    >>> from nnsight_magic.analyses.points import grid
    >>> model = LanguageModel("demo")
    >>> def without_mlp(layer):
    ...     model.layers[layer].mlp.output[:, -1] = 0
    ...     return model.logits[0, -1].log_softmax(-1)[7042]
    >>> points = grid(layer=range(3))
    >>> found = sweep(model, "The Eiffel Tower is in the city of", without_mlp, points)
    >>> found.dims, bool(abs(found.baseline) < 2)
    (('layer',), True)
    """
    found, given = begun(model, prompt, points, references), references or {}
    measured = [*range(len(points))] if baseline and not grad else []
    options: dict[str, Any] = {
        "batch_size": batch_size, "pack": pack, "grad": grad, "keep_going": keep_going,
    }  # fmt: skip
    try:
        if on is not None:
            sent = sent_function(
                function, prompt=prompt, references=given, grid=points, options=options,
                inner=kwargs,
            )  # fmt: skip
            fill_elsewhere(found, on, sent, progress, measured)
        else:
            if measured:
                measure_baseline(found, function, prompt, given, measured, **kwargs)
            fill(found, function, prompt, given, progress=progress, **options, **kwargs)
    except BaseException as error:
        error.__dict__["partial"] = _as_returned(found)
        raise
    return _as_returned(found)


def _as_returned(found: Swept) -> Any:
    names = found.names
    if names == (VALUE,) or not names:
        return found.result(VALUE)
    return {name: found.result(name) for name in names}
