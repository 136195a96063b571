"""The lines that make a figure of what a view shows, to be run in the next cell."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

from nnsight_magic.views.data.roles import ROWS, TOKENS
from nnsight_magic.views.data.seen import Seen, axes_of, colouring_of, cut_of
from nnsight_magic.views.data.wire import AxisState


def figure_code(seen: Seen, variable: str = "") -> str:
    """Python that draws the same with the same labels at the same limits.

    The tensor is called by its `variable` in the notebook; where it has none, by the name that it
    was saved by or by how it is written.
    """
    given = ", ".join(f"{name}={value!r}" for name, value in _state(seen).items())
    name = re.sub(r"[^\w.-]+", "_", seen.title or "tensor").strip("_") or "tensor"
    title = f", {seen.title!r}" if seen.title else ""
    return (
        "from nnsight_magic.views import show\n\n"
        f"figure = show({_written(seen, variable)}{title}, {given}).figure()\n"
        f'figure.savefig("{name}.pdf")\n'
        "figure\n"
    )


def _written(seen: Seen, variable: str) -> str:
    for text in (variable, seen.title, seen.expression):
        try:
            parsed = ast.parse(text, mode="eval").body
        except (SyntaxError, ValueError):
            continue
        if isinstance(parsed, ast.Name | ast.Attribute | ast.Subscript):
            return text
    return "tensor"


def _tokens(seen: Seen, axes: Sequence[AxisState]) -> list[Any]:
    """What labels the axes of tokens: of a batch, each prompt's own."""
    for axis, given in zip(axes, seen.tensor.labels.axes, strict=True):
        if axis["role"] not in TOKENS:
            continue
        if given.rows and axes[given.along]["role"] in ROWS:
            return [list(row) for row in given.rows]
        if len(axis["labels"]) == axis["size"]:
            return list(axis["labels"])
    return []


def _state(seen: Seen) -> dict[str, Any]:
    """The arguments of a new viewer, in the order in which one would write it."""
    cut, axes = cut_of(seen), axes_of(seen)
    limits, palette = colouring_of(seen, cut)
    state: dict[str, Any] = {"axes": [axis["role"] for axis in axes]}
    tokens = _tokens(seen, axes)
    if tokens:
        state["tokens"] = tokens
    state |= {"drawn": list(cut.drawn), "limits": list(limits), "palette": palette}
    if any(cut.index):
        state["index"] = list(cut.index)
    if cut.window != (0, cut.size[0], 0, cut.size[1]):
        state["window"] = list(cut.window)
    if seen.tensor.array.complex:
        state["part"] = cut.part
    if cut.order is not None:
        state["ordered"] = True
    return state
