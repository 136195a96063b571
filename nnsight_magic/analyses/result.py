"""Numbers with named axes: what an analysis gives.

A `Result` is an `xarray.DataArray`, so that `effect.sel(layer=23)`, `.max("position")`,
`.to_pandas()` and `.to_zarr()` are there. Added to it are its forms: a heat map in the notebook, a
map of half blocks and the five largest points in a console, a figure with labelled axes.

An axis counts its places (`layer` 0…29); where they have words (the token at a position), a
coordinate beside it has these, `position_text`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from nnsight_magic.analyses.recipe_name import RECIPE
from nnsight_magic.analyses.result_axes import TEXTS, as_numbers, axes, title_of, words_of
from nnsight_magic.analyses.result_compared import compared
from nnsight_magic.analyses.result_shown import colours_of, points_of, refill, view_of
from nnsight_magic.errors import BadInputError
from nnsight_magic.version import __version__
from nnsight_magic.views.data.points import Along as Along
from nnsight_magic.views.data.roles import Axis
from nnsight_magic.views.still.points import bars_text, text

if TYPE_CHECKING:
    from nnsight_magic.analyses.cell_of_point import CellText
    from nnsight_magic.views.live.comparison import CompareView
    from nnsight_magic.views.live.points import PointsView

TEXTS_TOLD = 40  # of points that are texts


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
        if self.dtype.kind in "OU":
            raise BadInputError("A cell is offered for a number, and these are texts.")
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

    def view(self, **state: Any) -> PointsView:
        """The view: a map with the labels of the axes, or bars, and the points by rank.

        Args:
            state: as `TensorView` takes it: `limits`, `palette`, `drawn`, …; and `selection`.

        Raises:
            BadInputError: these are no numbers.
        """
        return view_of(self, self, state)

    def _shown_(self, title: str, options: Mapping[str, Any]) -> PointsView:
        """The view that `show(result)` gives."""
        return self.view(**({"title": title} if title else {}), **options)

    def _compared_(self, other: Any, title: str, options: Mapping[str, Any]) -> CompareView:
        """The view that `compare(result, other)` gives.

        Raises:
            BadInputError: the other is no result, or one of other axes.
        """
        if not isinstance(other, xarray.DataArray):
            raise BadInputError(
                f"A result is compared with another one, and this is {type(other).__name__}."
            )
        return compared(self, other, title, options)

    def refill(self, view: PointsView, before: Result) -> None:
        """Shows these values in the view of others, of which they are more.

        Args:
            view: what `before.view()` gave; colours that the user chose since stay.
            before: what the view shows.

        Raises:
            BadInputError: they are of another shape.
        """
        refill(self, view, before)

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

        if self.ndim and in_notebook() and self.dtype.kind not in "OU":
            self.view()._ipython_display_()
        elif self.ndim and in_notebook():
            from IPython.display import publish_display_data

            from nnsight_magic.views.still import texts

            html = texts.html(*self._texts())
            publish_display_data({"text/html": html, "text/plain": self.text()})
        else:
            print(self.text())

    # -- as text ------------------------------------------------------------------------------

    @property
    def title(self) -> str:
        """What it is: its metric where it has one, else its name."""
        return title_of(self)

    def text(self) -> str:
        """Title and size, in a terminal the map, and the largest points in words."""
        if not self.ndim:
            return xarray.DataArray.__repr__(self)
        if self.dtype.kind in "OU":
            from nnsight_magic.views.still import texts

            return texts.text(*self._texts())
        head, *rest = text(points_of(self), self.title).split("\n")
        drawn = self._map()
        return "\n".join([head, *([drawn] if drawn else []), *rest])

    def _texts(self) -> tuple[str, list[tuple[str, str]], str | None, int]:
        """Title, texts behind their points, the baseline's, and how many more there are."""
        sizes = ", ".join(f"{name} {size}" for name, size in self.sizes.items())
        flat = [str(each) for each in self.values.ravel()]
        places = [np.unravel_index(k, self.shape) for k in range(min(len(flat), TEXTS_TOLD))]
        words = [self.point_words([int(k) for k in at]) for at in places]
        beside = self.coords.get("baseline")
        baseline = None if beside is None or beside.ndim else str(beside.item())
        rows = [*zip(words, flat, strict=False)]
        return f"{self.title} ({sizes})", rows, baseline, len(flat) - len(rows)

    def __repr__(self) -> str:
        return self.text()

    def _map(self) -> str | None:
        from nnsight_magic.terminal import in_terminal, width
        from nnsight_magic.views.still.half_blocks import terminal_map

        try:
            tensor = as_numbers(self)
        except BadInputError:
            return None
        if self.ndim == 1 and in_terminal():
            lines = bars_text(points_of(self), width())
            if lines:
                return "\n".join(lines)
        words = (tuple(words_of(axis)) for axis in axes(self))
        shown = [
            Axis(str(name), size, each)
            for (name, size), each in zip(self.sizes.items(), words, strict=True)
        ]
        return terminal_map(tensor, shown, **colours_of(self))


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
    told = {"version": __version__, **(attrs or {})}
    return Result(array, coords, [each.name for each in along], name=name, attrs=told)


def _computed(found: Any) -> Any:
    """Numbers that were computed from others: no run gives them, so no cell is offered for one."""
    if isinstance(found, xarray.DataArray):
        found.attrs.pop(RECIPE, None)
    return found


def _array(values: Any) -> np.ndarray:
    detach = getattr(values, "detach", None)
    if detach is not None:
        tensor = detach().cpu()
        values = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    array = np.asarray(values)
    return array.astype(np.float32) if array.dtype == np.float64 else array
