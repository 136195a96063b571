"""Numbers with named axes: what an analysis gives.

A `Result` is an `xarray.DataArray`, so that `effect.sel(layer=23)`, `.max("position")`,
`.to_pandas()` and `.to_zarr()` are there. Added to it are its forms: a heat map in the notebook, a
map of half blocks and the five largest points in a console, a figure with labelled axes.

An axis counts its places (`layer` 0…29); where they have words (the token at a position), a
coordinate beside it has these, `position_text`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from nnsight_magic.analyses.recipe_name import RECIPE
from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.roles import Axis
from nnsight_magic.views.data.words import number, visible

if TYPE_CHECKING:
    import torch

    from nnsight_magic.analyses.cell_of_point import CellText
    from nnsight_magic.views.live.tensor import TensorView

LARGEST = 5  # points that are told in words
AUTOMATIC = {"limits": [], "palette": "auto"}  # the colours of any tensor
TEXTS = "_text"  # behind an axis' name: the words at its places


@dataclass(frozen=True)
class Along:
    """One axis: its name, its places, and words for them where there are any.

    >>> Along("position", range(3), ["The", " Eiff", "el"]).label(1)
    "position 1 ' Eiff'"
    """

    name: str
    places: Sequence[Any]
    words: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.words is not None and len(self.words) != len(self.places):
            raise BadInputError(
                f"The axis {self.name} has {len(self.places)} places and {len(self.words)} words."
            )

    def label(self, at: int) -> str:
        """One place in words."""
        word = "" if self.words is None else f" {self.words[at]!r}"
        return f"{self.name} {self.places[at]}{word}"


class Result(xarray.DataArray):
    """What an analysis measured: numbers with named axes, and what they were measured with.

    `attrs` hold, as texts and numbers alone, so that every file format takes them: `model`,
    `prompt`, `metric`, `version`, and what else the analysis says of itself.
    """

    __slots__ = ()

    # -- as a cell ---------------------------------------------------------------------------

    def as_cell(self, **place: Any) -> CellText:
        """One point as the text of a `%%trace` cell that gives the same number.

        Args:
            place: on every axis, by its name: a layer's number, a position, a token's text where it
                stands once.

        Raises:
            BadInputError: an axis is missing, there is no such place, nothing was measured there,
                or the result does not say how it was measured.
        """
        from nnsight_magic.analyses.cell_of_point import cell_of, point_of

        along = axes(self)
        fixed = {
            str(name): self.coords[name].item()
            for name in self.coords
            if not self.coords[name].ndim and not str(name).endswith(TEXTS)
        }
        at = point_of(along, fixed, place)
        value = float(self.values[tuple(at)])
        point = {axis.name: axis.places[k] for axis, k in zip(along, at, strict=True)}
        if value != value:
            raise BadInputError(
                f"Nothing was measured at {self.point_words(at)}: there is no number to give."
            )
        return cell_of(self.attrs, str(self.name), {**fixed, **point}, value)

    def point_words(self, at: Sequence[int]) -> str:
        """A point in words, from its places along the axes: `layer 3, position 2 ' Tower'`."""
        along = zip(axes(self), at, strict=True)
        return ", ".join(axis.label(int(k)) for axis, k in along)

    def _binary_op(self, *args: Any, **kwargs: Any) -> Any:
        return _computed(super()._binary_op(*args, **kwargs))

    def _unary_op(self, *args: Any, **kwargs: Any) -> Any:
        return _computed(super()._unary_op(*args, **kwargs))

    def reduce(self, *args: Any, **kwargs: Any) -> Any:
        return _computed(super().reduce(*args, **kwargs))

    # -- as a view ----------------------------------------------------------------------------

    def view(self, **state: Any) -> TensorView:
        """The heat map: a tensor view with the labels of the axes.

        Args:
            state: as `TensorView` takes it: `limits`, `palette`, `drawn`, …

        Raises:
            BadInputError: these are no numbers.
        """
        from nnsight_magic.views.live.tensor import TensorView

        words = {axis.name: _words(axis) for axis in axes(self)}
        return TensorView(
            as_numbers(self),
            self.title,
            axes=[str(name) for name in self.dims],
            words=words,
            **(self.colours() | state),
        )

    def refill(self, view: TensorView, before: Result) -> None:
        """Shows these values in the view of others, of which they are more.

        Args:
            view: what `before.view()` gave; colours that the user chose since stay.
            before: what the view shows.

        Raises:
            BadInputError: they are of another shape.
        """
        shown = AUTOMATIC | before.colours()
        if {name: getattr(view, name) for name in shown} == shown:
            for name, value in (AUTOMATIC | self.colours()).items():
                setattr(view, name, value)
        view.refill(as_numbers(self))

    def colours(self) -> dict[str, Any]:
        """Limits and palette where they are others than a tensor's own: of log-probabilities one
        scale that ends at 0, not two of which one is empty."""
        finite = self.values[np.isfinite(self.values)] if self.dtype.kind == "f" else self.values
        if finite.size and finite.max() <= 0 and finite.min() < 0:
            return {"limits": [float(finite.min()), 0.0], "palette": "sequential"}
        return {}

    def figure(self, **state: Any) -> Any:
        """A matplotlib figure with labelled axes, of vectors where the file format has them.

        Args:
            state: as in `view`.

        >>> effect = with_axes([[1.0, 2.0]], [Along("layer", [0]), Along("head", [0, 1])], "effect")
        >>> [axes.get_xlabel() for axes in effect.figure().axes][0]
        'head'
        """
        return self.view(**state).figure()

    def _ipython_display_(self) -> None:
        from nnsight_magic.views.display import in_notebook

        if self.ndim and in_notebook():
            self.view()._ipython_display_()
        else:
            print(self.text())

    # -- as text ------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What it is: its metric where it has one, else its name."""
        return str(self.attrs.get("title") or self.attrs.get("metric") or self.name or "")

    def text(self) -> str:
        """Title and size, in a terminal the map, and the largest points in words."""
        if not self.ndim:
            return xarray.DataArray.__repr__(self)
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        drawn = self._map()
        lines = [f"{self.title} ({sizes})", *([drawn] if drawn else [])]
        points = list(largest(self))
        width = max((len(words) for words, _ in points), default=0)
        lines += [f"{words:<{width}}  {number(value)}" for words, value in points]
        return "\n".join(lines)

    def __repr__(self) -> str:
        return self.text()

    def _map(self) -> str | None:
        from nnsight_magic.views.still.half_blocks import terminal_map

        try:
            tensor = as_numbers(self)
        except BadInputError:
            return None
        words = (tuple(_words(axis)) for axis in axes(self))
        shown = [
            Axis(str(name), size, each)
            for (name, size), each in zip(self.sizes.items(), words, strict=True)
        ]
        return terminal_map(tensor, shown, **self.colours())


def with_axes(
    values: Any, along: Sequence[Along], name: str, attrs: Mapping[str, Any] | None = None
) -> Result:
    """Numbers with names for their axes.

    Args:
        values: of any rank; bfloat16 and float64 become float32.
        along: the axes, in the order of `values`.
        name: of the variable.
        attrs: what they were measured with; texts, numbers and lists of them.

    Raises:
        BadInputError: axes and values do not fit.

    >>> effect = with_axes([[1.0, 2.0]], [Along("layer", [3]), Along("head", [0, 1])], "effect")
    >>> float(effect.sel(layer=3, head=1))
    2.0
    """
    array = _array(values)
    if array.shape != tuple(len(each.places) for each in along):
        wanted = ", ".join(f"{each.name} {len(each.places)}" for each in along)
        raise BadInputError(f"Values of shape {array.shape} for the axes {wanted}.")
    coords: dict[str, Any] = {}
    for each in along:
        coords[each.name] = list(each.places)
        if each.words is not None:
            coords[each.name + TEXTS] = (each.name, [str(word) for word in each.words])
    told = {"version": version("nnsight_magic"), **(attrs or {})}
    return Result(array, coords, [each.name for each in along], name=name, attrs=told)


def axes(result: xarray.DataArray) -> list[Along]:
    """The axes of a result, also after a selection."""
    found = []
    for name in map(str, result.dims):
        places = result[name].values.tolist()
        texts = result.coords.get(name + TEXTS)
        words = texts.values.tolist() if texts is not None and texts.dims == (name,) else None
        found.append(Along(name, places, words))
    return found


def largest(result: xarray.DataArray, count: int = LARGEST) -> Iterator[tuple[str, float]]:
    """The largest points with their places in words, the largest first.

    Where there is one baseline these are the farthest from it. Else of numbers of both signs they
    are the farthest from 0, and of others the greatest, which of
    log-probabilities are the likeliest. Where `attrs["best"]` is `"least"`, as of ranks, they are
    the least. What is not finite is left out.
    """
    values = np.asarray(result.values)
    if not np.issubdtype(values.dtype, np.number):
        return
    flat = values.astype(np.float64).ravel()
    known = np.isfinite(flat)
    baseline = result.coords.get("baseline")
    both = known.any() and flat[known].min() < 0 < flat[known].max()
    signed = both or result.attrs.get("change")  # of a change, 0 is nothing
    size = np.abs(flat) if signed else flat
    if baseline is not None and not baseline.ndim:
        size = np.abs(flat - float(baseline))
    size = np.where(known, -flat if result.attrs.get("best") == "least" else size, -np.inf)
    along = axes(result)
    for at in np.argsort(-size, kind="stable")[: min(count, int(known.sum()))]:
        place = np.unravel_index(int(at), values.shape)
        words = ", ".join(each.label(int(k)) for each, k in zip(along, place, strict=True))
        yield words, float(flat[at])


def as_numbers(result: xarray.DataArray) -> torch.Tensor:
    """The values as a tensor.

    Raises:
        BadInputError: they are no numbers.
    """
    import torch

    values = np.ascontiguousarray(result.values)
    if values.dtype.kind not in "fiub":
        raise BadInputError(f"{result.name or 'this'} holds {values.dtype}, no numbers to draw.")
    return torch.from_numpy(values)


def _computed(found: Any) -> Any:
    """Numbers that were computed from others: no run gives them, so no cell is offered for one."""
    if isinstance(found, xarray.DataArray):
        found.attrs.pop(RECIPE, None)
    return found


def _words(axis: Along) -> list[str]:
    """How the places are labelled in a heat map: `2 osse`."""
    if axis.words is None:
        return [str(place) for place in axis.places]
    return [f"{place} {visible(word)}" for place, word in zip(axis.places, axis.words, strict=True)]


def _array(values: Any) -> np.ndarray:
    detach = getattr(values, "detach", None)
    if detach is not None:
        tensor = detach().cpu()
        values = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float64 else array
