"""The lines that make a figure of what a view shows, to be run in the next cell."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from nnsight_magic.views.data.array import GoneError
from nnsight_magic.views.data.roles import ROWS, TOKENS
from nnsight_magic.views.data.seen import axes_of, colouring_of, place_of

if TYPE_CHECKING:
    from nnsight_magic.views.live.tensor import TensorView


def lines_of(view: TensorView) -> str:
    """Python that draws the same with the same labels at the same limits.

    The tensor is called by the name that it was saved by; where it has none, by how it is written.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in _state(view).items())
    name = re.sub(r"[^\w.-]+", "_", view.title or "tensor").strip("_") or "tensor"
    title = f", {view.title!r}" if view.title else ""
    return (
        "from nnsight_magic.views import show\n\n"
        f"figure = show({_written(view)}{title}, {given}).figure()\n"
        f'figure.savefig("{name}.pdf")\n'
        "figure\n"
    )


def _written(view: TensorView) -> str:
    for text in (_variable(view), view.title, view.expression):
        try:
            parsed = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if isinstance(parsed, ast.Name | ast.Attribute | ast.Subscript):
            return text
    return "tensor"


def _variable(view: TensorView) -> str:
    """The notebook's own name of the tensor, where it has one."""
    from IPython import get_ipython

    shell = get_ipython()
    try:
        tensor = view.array.tensor
    except GoneError:
        return ""
    names = getattr(shell, "user_ns", {}).items()
    return next((n for n, v in list(names) if v is tensor and not n.startswith("_")), "")


def _tokens(view: TensorView, axes: Sequence[dict[str, Any]]) -> list[Any]:
    """What labels the axes of tokens: of a batch, each prompt's own."""
    for axis, given in zip(axes, view.labels.axes, strict=True):
        if axis["role"] not in TOKENS:
            continue
        if given.rows and axes[given.along]["role"] in ROWS:
            return [list(row) for row in given.rows]
        if len(axis["labels"]) == axis["size"]:
            return list(axis["labels"])
    return []


def _state(view: TensorView) -> dict[str, Any]:
    """What a new viewer is to be told, in the order in which one would write it."""
    place, axes = place_of(view), axes_of(view)
    limits, palette = colouring_of(view, place)
    state: dict[str, Any] = {"axes": [axis["role"] for axis in axes]}
    tokens = _tokens(view, axes)
    if tokens:
        state["tokens"] = tokens
    state |= {"drawn": list(place.drawn), "limits": list(limits), "palette": palette}
    if any(place.index):
        state["index"] = list(place.index)
    if place.window != (0, place.size[0], 0, place.size[1]):
        state["window"] = list(place.window)
    if view.array.complex:
        state["part"] = place.part
    if place.order is not None:
        state["ordered"] = True
    return state
