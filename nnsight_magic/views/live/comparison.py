"""Two runs side by side, and their difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets
import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.colouring import automatic
from nnsight_magic.views.data.dense import as_tensor
from nnsight_magic.views.data.points import Points
from nnsight_magic.views.data.words import number
from nnsight_magic.views.live.tensor import STORED, TensorView
from nnsight_magic.views.live.view import ShownText, View
from nnsight_magic.views.still.points import LARGEST, html_table, table_text

SUBTRACTED = 1 << 27  # values up to which the difference is computed


class CompareView(View):
    """Two tensors and `second - first`, drawn in one colour scale at one place.

    What is set on `first` (axes, place, window, limits) holds for all three.

    Attributes:
        first, second, difference: the viewers; `difference` may be `None` for huge tensors.
        amplified: whether the difference has a colour scale of its own.
    """

    title = ShownText().tag(sync=True)
    notice = traitlets.Unicode().tag(sync=True)
    first = traitlets.Instance(TensorView).tag(sync=True, **ipywidgets.widget_serialization)
    second = traitlets.Instance(TensorView).tag(sync=True, **ipywidgets.widget_serialization)
    difference: traitlets.Instance[TensorView | None] = traitlets.Instance(
        TensorView, allow_none=True
    ).tag(sync=True, **ipywidgets.widget_serialization)
    amplified = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        first: Any,
        second: Any,
        title: str = "",
        *,
        names: tuple[str, str] = ("first", "second"),
        stored: int = STORED,
        points: Points | None = None,
        **options: Any,
    ) -> None:
        """A view of two tensors.

        Args:
            first, second: of one shape.
            names: of the two.
            stored: how many values are stored with the view.
            points: the difference by its points, where these have words; it then has a scale of its
                own, that goes as far to both sides.
            options: as of `TensorView`; and `amplified`.

        Raises:
            BadInputError: they are of two shapes.
        """
        import torch

        self.points = points

        first, second = as_tensor(first), as_tensor(second)
        if first.shape != second.shape:
            raise BadInputError(
                f"shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared"
            )
        if points is not None:  # the tensors may be gone when it is read
            self._rows = _rows(points, names, first, second)
        state = {k: options.pop(k) for k in list(options) if k in ("layout", "twin", "amplified")}
        left = TensorView(first, names[0], stored=stored // 3, **options)
        options["selection"] = left.selection
        right = TensorView(second, names[1], stored=stored // 3, **options)
        left.scale = right.scale = _joint(left.stats, right.stats)
        difference, notice = None, ""
        if first.numel() <= SUBTRACTED:
            with torch.no_grad():
                change = _wide(second) - _wide(first).to(second.device)
            difference = TensorView(
                change, f"{names[1]} − {names[0]}", stored=stored // 3, **options
            )
            size = [first.shape[axis] if axis >= 0 else 1 for axis in left.drawn]
            limits, _ = automatic(left.scale, size)
            if points is not None:
                limits = [difference.stats.get(each, 0.0) for each in ("min", "max")]
            end = max(abs(each) for each in limits) or 1.0
            difference.scale = {"min": -end, "max": end}
        else:
            notice = "too large for a difference: slice the tensors first"
        super().__init__(
            kind="compare",
            title=title,
            first=left,
            second=right,
            difference=difference,
            notice=notice,
            selection=left.selection,
            **state,
        )

    def text(self) -> str:
        change = self.difference.stats if self.difference else {}
        most = max(abs(change.get("min", 0)), abs(change.get("max", 0)))
        told = f"{self.first.text()} against {self.second.text()}: differ by at most {most:.4g}"
        if self.points is None:
            return told
        return "\n".join([told, *table_text(self._rows)])

    def still(self) -> str:
        views = [self.first, self.second, *([self.difference] if self.difference else [])]
        told = html_table(self._rows) if self.points is not None else ""
        return "".join(view.still() for view in views) + told


def _rows(points: Points, names: tuple[str, str], first: Any, second: Any) -> list[list[str]]:
    """The points that differ most: in words, both numbers, and their difference."""
    rows = [["", *names, "difference"]]
    for at in points.ranked(LARGEST):
        both = [number(float(each[at])) for each in (first, second)]
        rows.append([points.in_words(at), *both, points.number_at(at)])
    return rows


def _wide(tensor: Any) -> Any:
    """Precise enough to be subtracted."""
    import torch

    if tensor.is_complex() or tensor.dtype == torch.float64:
        return tensor.detach()
    wide = torch.float64 if not tensor.is_floating_point() else torch.float32
    return tensor.detach().to(wide)


def _joint(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """What colours need to know of both."""
    known = [stats for stats in (first, second) if "min" in stats]
    if not known:
        return {}
    scale = {"min": min(s["min"] for s in known), "max": max(s["max"] for s in known)}
    drawn = [stats["drawn"] for stats in known if stats.get("drawn")]
    if drawn:
        lows, usual, highs = zip(*drawn, strict=True)
        scale["drawn"] = [min(lows), max(usual), max(highs)]
    return scale


def compare(first: Any, second: Any, title: str = "", **options: Any) -> CompareView:
    """Shows two tensors of one shape side by side, or two results of the same axes; see
    `CompareView`.

    Raises:
        BadInputError: they are of two shapes, or have other axes.
    """
    for one, other in ((first, second), (second, first)):
        if hasattr(one, "_compared_") and not hasattr(other, "_compared_"):
            raise BadInputError(
                f"A result is compared with another one, and this is {type(other).__name__}."
            )
    if hasattr(first, "_compared_"):
        return first._compared_(second, title, options)
    return CompareView(first, second, title, **options)
