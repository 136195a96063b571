"""Two runs side by side, and their difference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import ipywidgets
import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.colouring import automatic
from nnsight_magic.views.data.dense import as_tensor
from nnsight_magic.views.live.tensor import STORED, TensorView
from nnsight_magic.views.live.view import ShownText, View

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
        **options: Any,
    ) -> None:
        import torch

        first, second = as_tensor(first), as_tensor(second)
        if first.shape != second.shape:
            raise BadInputError(
                f"shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be compared"
            )
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
            end = max(abs(each) for each in limits)
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
        return f"{self.first.text()} against {self.second.text()}: differ by at most {most:.4g}"

    def still(self) -> str:
        views = [self.first, self.second, *([self.difference] if self.difference else [])]
        return "".join(view.still() for view in views)


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
    """Shows two tensors of one shape side by side; see `CompareView`."""
    return CompareView(first, second, title, **options)
