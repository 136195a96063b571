"""Views of several tensors, each by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.containers import found_in
from nnsight_magic.views.live.tensor import TensorView
from nnsight_magic.views.live.trace import TraceView, stored_share

OPEN = 3  # so few are opened at once
LABELS = ("axes", "tokens", "vocabulary", "sizes")


def several(
    value: Any,
    title: str = "",
    each: Callable[[Any], dict[str, Any]] | None = None,
    **options: Any,
) -> TraceView:
    """A view of every tensor in a container.

    Args:
        each: the labels of one of the tensors, where they are known for each.
        options: `axes`, `tokens`, `vocabulary` and `sizes` go to each tensor that they fit;
            `selection` and `layout` are those of the whole.

    Raises:
        BadInputError: the labels fit none of the tensors, or an option is about one tensor alone.
    """
    found = found_in(value)
    labels = {name: options.pop(name) for name in LABELS if options.get(name) is not None}
    own = {name: options.pop(name) for name in ("selection", "layout") if name in options}
    if options:
        raise BadInputError(
            f"{', '.join(options)} is about one tensor, found {len(found.tensors)}; show one of "
            f"them, such as the one called {next(iter(found.tensors))!r}"
        )
    views, refused = [], []
    for place, (name, tensor) in enumerate(found.tensors.items()):
        stored = stored_share(len(found.tensors), place)
        try:
            views.append(
                TensorView(tensor, name, stored=stored, **(each(tensor) if each else labels))
            )
            continue
        except BadInputError as error:
            refused.append((name, error))
        try:
            views.append(TensorView(tensor, name, stored=stored))
        except BadInputError as error:  # of the tensor: it has no values
            found.others.append(f"{name}: {error}")
    if refused and len(refused) == len(found.tensors) and labels:
        raise refused[0][1]
    facts = [f"{len(views)} tensor{'s' * (len(views) != 1)}"]
    if found.left_out:
        facts.append(f"{found.left_out} more are not shown: show a part of them")
    if found.others:
        facts.append(f"besides: {', '.join(found.others[:8])}{' …' * (len(found.others) > 8)}")
    kind = "dict" if isinstance(value, Mapping) else type(value).__name__
    few = list(range(len(views))) if len(views) <= OPEN else []
    return TraceView(title or kind, facts, tensors=views, open_tensors=few, **own)
