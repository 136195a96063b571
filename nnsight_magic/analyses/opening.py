"""A point of a result, measured again: the cell of it, and its run as views.

Results hold texts and numbers alone, so the model is found by a mark in the recipe, as long as it
lives; and running a cell's text is a thing of the magics, which say here who does it.
"""

from __future__ import annotations

import json
import uuid
import weakref
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from nnsight_magic.analyses.recipe_name import RECIPE
from nnsight_magic.errors import BadInputError

if TYPE_CHECKING:
    import xarray

    from nnsight_magic.views.live.view import Selection, View

RESIDUAL = "residual_here"  # what the last block gives, which is held against a plain run's
_MODELS: dict[str, weakref.ref[Any]] = {}
# Runs the text of a trace cell: called with the model, the text, a title, lines that read further
# values, and a selection for its views. The extension puts one here when it is loaded.
RUNNERS: list[Callable[[Any, str, str, Sequence[str], Any], list[Any]]] = []


def mark_of(model: Any) -> str:
    """The mark by which a result finds its model again, in this process."""
    for mark, known in _MODELS.items():
        if known() is model:
            return mark
    mark = uuid.uuid4().hex[:12]
    _MODELS[mark] = weakref.ref(model, lambda _: _MODELS.pop(mark, None))
    return mark


def model_by(mark: str) -> Any:
    """The model of that mark; `None` where it is gone, or was one of another process."""
    known = _MODELS.get(mark)
    return None if known is None else known()


class Measured(Protocol):
    """A result, as far as its points are measured again."""

    def as_cell(self, **place: Any) -> str: ...
    def point_words(self, at: Sequence[int]) -> str: ...


class PointsOf:
    """Measures points of one result again, for its view."""

    def __init__(self, result: xarray.DataArray, measured: Measured) -> None:
        self._result, self._measured = result, measured

    @property
    def _recipe(self) -> dict[str, Any]:
        return json.loads(self._result.attrs.get(RECIPE, "{}"))

    @property
    def can(self) -> list[str]:
        """`cell`, and `open` where the model is there and cells can be run."""
        recipe = self._recipe
        if not recipe or "no" in recipe:
            return []
        there = bool(RUNNERS) and model_by(recipe.get("model", "")) is not None
        return ["cell", "open"] if there else ["cell"]

    def cell(self, at: Sequence[int]) -> str:
        """The text of a cell that gives the number at these places."""
        return self._measured.as_cell(**self._places(at))

    def opened(self, at: Sequence[int], selection: Selection) -> list[View]:
        """The point's run, beside the same without its writes."""
        text = self.cell(at)
        model = model_by(self._recipe.get("model", ""))
        if not RUNNERS or model is None:
            raise BadInputError(
                "The model that measured this is not here; its cell can be run: as a cell."
            )
        words = self._measured.point_words(at)
        return RUNNERS[-1](model, text, words, self._beside(at), selection)

    def _places(self, at: Sequence[int]) -> dict[str, Any]:
        from nnsight_magic.analyses.result_axes import axes

        return {
            axis.name: axis.places[int(k)] for axis, k in zip(axes(self._result), at, strict=True)
        }

    def _beside(self, at: Sequence[int]) -> list[str]:
        """What is read besides: the pattern of the head that the point is about, and behind a write
        the residual stream."""
        fixed = {
            str(name): value.item() for name, value in self._result.coords.items() if not value.ndim
        }
        place = fixed | self._places(at)
        layer, head = place.get("layer"), place.get("head")
        recipe = self._recipe
        found = []
        # k and v are of key-value heads, which several patterns share.
        if type(layer) is type(head) is int and recipe.get("site") not in ("k", "v"):
            found.append(f"pattern_here = layers[{layer}].attn.pattern[:, {head}]")
        if recipe["analysis"] not in ("attribute", "dla"):
            found.append(f"{RESIDUAL} = layers[-1].output")
        return found
