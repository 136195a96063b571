"""What a cell displays where it stands: its last expression, and what is given to `show`."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from IPython.display import display

from nnsight_magic import terminal
from nnsight_magic.errors import BadInputError
from nnsight_magic.language.tokens import PromptRow
from nnsight_magic.printable import printable
from nnsight_magic.results.labels import labels_for, sizes_of, vocabulary_of
from nnsight_magic.results.record import prompt_of
from nnsight_magic.views.data.containers import found_in, holds_tensors
from nnsight_magic.views.data.dense import as_tensor, is_list_of_tensors
from nnsight_magic.views.data.roles import Axis, infer_axes
from nnsight_magic.views.still.half_blocks import terminal_map


def show_value(
    live: bool, value: Any, text: str = "", model: Any = None, rows: Sequence[PromptRow] = ()
) -> None:
    """Displays a value: tensors in viewers where the notebook is `live`, as maps in a terminal.

    `text` is how the value is written; `model` and `rows` tell what its axes stand for. What no
    viewer can show is displayed as anything else.
    """
    labels = partial(_labels, model=model, rows=rows)
    one = hasattr(value, "untyped_storage") or is_list_of_tensors(value)
    if one or holds_tensors(value):
        shown = _viewed(value, text, labels, one) if live else _mapped(value, text, labels)
        if shown:
            return
    display(value)


def _labels(tensor: Any, text: str, model: Any, rows: Sequence[PromptRow]) -> dict[str, Any]:
    """How a viewer is to label a tensor of the cell."""
    if model is None:
        return {}
    shape, before = as_tensor(tensor).shape, []
    if isinstance(tensor, list | tuple):
        before, shape = ["item"], shape[1:]
    prompts = [prompt_of(row) for row in rows]
    return labels_for(shape, text, prompts, sizes_of(model), vocabulary_of(model), before)


def _viewed(value: Any, text: str, labels: Any, one: bool) -> bool:
    from nnsight_magic.views.live.several import several
    from nnsight_magic.views.live.tensor import TensorView

    try:
        if one:
            view = TensorView(value, text, **labels(value, text=text))
        else:
            view = several(value, text, each=partial(labels, text=""))
    except BadInputError:  # it has no values, or no numbers
        return False
    display(view)
    return True


def _mapped(value: Any, text: str, labels: Any) -> bool:
    """Prints a tensor, or those of a container by their names, where there is a terminal."""
    if not terminal.in_terminal():
        return False
    if hasattr(value, "untyped_storage"):
        drawn = terminal_map(value, _axes(value, labels(value, text=text)))
        if drawn is not None:
            print(drawn)
        return drawn is not None
    found = found_in(value)
    for name, tensor in found.tensors.items():
        drawn = terminal_map(tensor, _axes(tensor, labels(tensor, text="")))
        print(f"{name}: {tensor!r}" if drawn is None else f"{name}:\n{drawn}")
    if found.others:
        print(printable(f"besides: {', '.join(found.others)}"))
    return True


def _axes(tensor: Any, labels: dict[str, Any]) -> Sequence[Axis]:
    return infer_axes(tensor.shape, labels["axes"], labels["tokens"]) if labels else ()
