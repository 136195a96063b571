"""A result as a view: its map or its bars, its points by rank, and what they are read against."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from nnsight_magic.analyses.opening import Measured, PointsOf
from nnsight_magic.analyses.result_axes import as_numbers, axes, title_of, words_of
from nnsight_magic.views.data.points import Points
from nnsight_magic.views.data.words import number

if TYPE_CHECKING:
    from nnsight_magic.views.live.points import PointsView
    from nnsight_magic.views.live.tensor import TensorView

AUTOMATIC = {"limits": [], "palette": "auto", "empty": ""}  # the colours of any tensor
OF_THE_VIEW = ("title", "selection", "layout", "twin")  # what a state says of the whole
ERROR = "standard_error"  # the coordinate with one for each point


def view_of(result: xarray.DataArray, measured: Measured, state: Mapping[str, Any]) -> PointsView:
    """The view of a result.

    Args:
        measured: the same result, which measures its points again.
        state: as `TensorView` takes it, for the map.
    """
    from nnsight_magic.views.live.points import PointsView

    own = {name: state[name] for name in OF_THE_VIEW if name in state and name != "selection"}
    drawn = map_of(result, {name: state[name] for name in state if name not in own})
    return PointsView(drawn, points_of(result), PointsOf(result, measured), **own)


def map_of(result: xarray.DataArray, state: Mapping[str, Any]) -> TensorView:
    """The map alone: a tensor view with the labels of the axes."""
    from nnsight_magic.views.live.tensor import TensorView

    words = {axis.name: words_of(axis) for axis in axes(result)}
    return TensorView(
        as_numbers(result),
        title_of(result),
        axes=[str(name) for name in result.dims],
        words=words,
        **spread_of(result),
        **(colours_of(result) | dict(state)),
    )


def refill(result: xarray.DataArray, view: PointsView, before: xarray.DataArray) -> None:
    """Shows the values in the view of others, of which they are more.

    Args:
        view: of `before`; colours that the user chose since stay.
    """
    drawn, shown = view.map, AUTOMATIC | colours_of(before)
    if {name: getattr(drawn, name) for name in shown} == shown:
        for name, value in (AUTOMATIC | colours_of(result)).items():
            setattr(drawn, name, value)
    else:
        drawn.empty = colours_of(result).get("empty", "")
    view.refill(as_numbers(result), points_of(result))


def colours_of(result: xarray.DataArray) -> dict[str, Any]:
    """Colours that are others than a tensor's own: of log-probabilities one scale that ends at 0,
    not two of which one is empty; and places where nothing was measured are empty."""
    found: dict[str, Any] = {"empty": empty_of(result)} if empty_of(result) else {}
    finite = (
        result.values[np.isfinite(result.values)] if result.dtype.kind == "f" else result.values
    )
    if finite.dtype.kind in "fiu" and finite.size and finite.max() <= 0 and finite.min() < 0:
        found |= {"limits": [float(finite.min()), 0.0], "palette": "sequential"}
    return found


def empty_of(result: xarray.DataArray) -> str:
    """What places without a number are; "" where some of them were measured, and gave NaN."""
    if "empty" in result.attrs:
        return str(result.attrs["empty"])
    points, run = int(result.attrs.get("points", 0)), int(result.attrs.get("run", 0))
    if run >= points or result.dtype.kind != "f":
        return ""
    missing = int(np.isnan(result.values).sum())
    each = max(1, result.size // points) if result.size >= points else 1
    return "not run" if 0 < missing <= (points - run) * each else ""


def spread_of(result: xarray.DataArray) -> dict[str, Any]:
    """The standard error of each bar, where there are bars and errors, and room for them."""
    errors = errors_of(result)
    if errors is None or result.ndim != 1:
        return {}
    ends = np.concatenate([result.values - errors, result.values + errors, result.values])
    ends = ends[np.isfinite(ends)]
    scale = {"min": float(ends.min()), "max": float(ends.max())} if ends.size else {}
    return {"spread": [float(each) for each in errors], "scale": scale}


def errors_of(result: xarray.DataArray) -> np.ndarray | None:
    """A standard error for each point, where there is one."""
    found = result.coords.get(ERROR)
    return None if found is None or found.dims != result.dims else np.asarray(found.values)


def points_of(result: xarray.DataArray) -> Points:
    """The points with their numbers and their words."""
    values = np.asarray(result.values)
    return Points(axes(result), values, size_of(result), errors_of(result), note_of(result))


def size_of(result: xarray.DataArray) -> np.ndarray:
    """How much each point stands out; -inf for what is not ranked.

    Where there is one baseline it is the distance from that. Else of numbers of both signs the
    distance from 0, and of others the number itself, so that of log-probabilities the likeliest
    come first. Where `attrs["best"]` is `"least"`, as of ranks, the least do.
    """
    values = np.asarray(result.values)
    if values.dtype.kind not in "fiu":
        return np.full(values.shape, -np.inf)
    wide = values.astype(np.float64)
    known = np.isfinite(wide)
    baseline = result.coords.get("baseline")
    both = known.any() and wide[known].min() < 0 < wide[known].max()
    signed = both or result.attrs.get("change")  # of a change, 0 is nothing
    size = np.abs(wide) if signed else wide
    if baseline is not None and not baseline.ndim:
        size = np.abs(wide - float(baseline))
    return np.where(known, -wide if result.attrs.get("best") == "least" else size, -np.inf)


def note_of(result: xarray.DataArray) -> str:
    """What the numbers are to be read against, where each of it is one number."""
    told = []
    attrs = result.attrs
    if "logit" in attrs and "rest" in attrs:
        whole = result.ndim == 2
        sums = f"heads together {number(float(result.sum()))}, " if whole else ""
        told.append(f"{sums}all that is no head's {number(attrs['rest'])}")
        told.append(f"the model's own {number(attrs['logit'])}")
    elif "logit" in attrs:
        told.append(f"sum {number(float(result.sum()))}, the model's own {number(attrs['logit'])}")
    for kind in ("baseline", "reference"):
        beside = result.coords.get(kind)
        if beside is not None and not beside.ndim:
            told.append(f"{kind} {number(float(beside))}")
        elif beside is None and isinstance(attrs.get(kind), float):
            told.append(f"{kind} {number(attrs[kind])}")
    if ERROR in attrs and errors_of(result) is None:
        told.append(f"standard error {number(attrs[ERROR])} of a point on average")
    points, run = int(attrs.get("points", 0)), int(attrs.get("run", 0))
    if run < points:
        told.append(f"{run} of {points} points were run")
    return ", ".join(told)
