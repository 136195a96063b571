"""What a sweep's results remember of its cell, so that `as_cell` can write a point of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from nnsight_magic.analyses.cell_of_point import quoted
from nnsight_magic.analyses.cell_of_sweep import axis_of_recipe
from nnsight_magic.analyses.opening import mark_of
from nnsight_magic.analyses.points import Grid
from nnsight_magic.language.program import Program
from nnsight_magic.magics.options import Line


def sweep_recipe(
    model: Any, line: Line, inputs: Any, names: Sequence[str], program: Program, points: Grid
) -> str:
    """The recipe as JSON, for `attrs`.

    Args:
        model: what it runs on.
        line: of the cell.
        inputs, names: the prompts, and their names.
        program: the cell.
        points: of its grid.
    """
    assert program.loop is not None
    told: dict[str, Any] = {
        "analysis": "sweep",
        "model": mark_of(model),
        "code": program.source,
        "line": _line(line, _as_given(line, inputs), names),
        "axes": {
            variable: axis_of_recipe(axis)
            for variable, axis in zip(program.loop.variables, points.axes, strict=True)
        },
        "collected": list(program.loop.collected),
        "paired": points.paired,
    }
    if line.new_tokens is not None:
        told["no"] = "its points are generations, and a %%trace cell is one forward"
    prompts = [axis for axis in points.axes if axis.prompts]
    if prompts:
        texts = _as_given(line, list(prompts[0].values))
        if texts is None:
            told["no"] = (
                told.get("no") or "its prompts come from a variable and stand in a chat's template"
            )
        lines = [_line(line, text, ()) for text in texts or ()]
        told["prompts"] = {"name": prompts[0].name, "lines": lines}
    return json.dumps(told)


def _line(line: Line, texts: Any, names: Sequence[str]) -> str:
    """The line of a trace cell: the prompts as they stood there, and the options it shares.

    Args:
        line: of the sweep.
        texts: one prompt or several.
        names: of the prompts.
    """
    given = [texts] if isinstance(texts, str) else texts
    if not isinstance(given, list) or not all(isinstance(each, str) for each in given):
        return " ".join([f"-p {line.prompt}", *_options(line)])
    written = [quoted(each) for each in given]
    if names:
        written = [f"{name}={each}" for name, each in zip(names, written, strict=True)]
    return " ".join([*written, *_options(line)])


def _options(line: Line) -> list[str]:
    """Options that a sweep and a trace have in common."""
    found = [f"-m {line.model}"] if line.options.get("model") else []
    return [*found, *(["--chat"] if line.chat else []), *(["--grad"] if line.grad else [])]


def _as_given(line: Line, texts: Any) -> Any:
    """Prompts before a chat's template was put around them."""
    if not line.chat:
        return texts
    if not line.prompts:
        return None  # by their variable
    return list(line.prompts)
