"""A viewer of anything that holds tensors."""

from __future__ import annotations

from typing import Any

from nnsight_magic.views.data.containers import holds_tensors
from nnsight_magic.views.live.comparison import compare
from nnsight_magic.views.live.several import several
from nnsight_magic.views.live.tensor import TensorView
from nnsight_magic.views.live.view import View


def show(tensor: Any, title: Any = "", **options: Any) -> View:
    """A viewer of any tensor or array; see `TensorView` for what can be given.

    Of a dict, list or tuple with tensors of several shapes in it each is shown by its name. Of two
    results of analyses, `show(first, second)`, both and their difference.

    >>> show([[1.0, 2.0], [3.0, 4.0]], "numbers", axes=("token", "feature")).text()
    'numbers (2, 2) float64, cpu'
    """
    if hasattr(title, "_compared_"):
        return compare(tensor, title, **options)
    if hasattr(tensor, "_shown_"):  # a result, which knows its axes
        return tensor._shown_(title, options)
    if holds_tensors(tensor):
        return several(tensor, title, **options)
    return TensorView(tensor, title, **options)
