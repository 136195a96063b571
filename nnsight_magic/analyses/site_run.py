"""The points of an analysis, blocks times positions or heads, and a run that reads a place."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Sequence
from numbers import Integral
from typing import Any

import torch

from nnsight_magic.analyses.metric import Metric
from nnsight_magic.analyses.result import Along
from nnsight_magic.analyses.sites import HEAD, POSITION, Place
from nnsight_magic.errors import BadInputError, WrongValueError


def chosen_layers(model: Any, layers: Iterable[int] | None) -> list[int]:
    """The numbers of the blocks, all of them by default; negative ones count from the last.
    Numbers of numpy are numbers, too, such as those of another result's `layer` axis.

    Raises:
        BadInputError: there is no such block, or none was chosen.
    """
    count = len(model.layers)
    chosen = list(range(count)) if layers is None else list(layers)
    if not chosen:
        raise BadInputError("layers is empty: there is no block to go through.")
    for layer in chosen:
        if (
            isinstance(layer, bool)
            or not isinstance(layer, Integral)
            or not -count <= layer < count
        ):
            raise BadInputError(
                f"There is no block {layer!r}: there are {count}, 0 to {count - 1}."
            )
    return [int(layer) % count for layer in chosen]


def with_forced(ids: torch.Tensor, metric: Metric) -> torch.Tensor:
    """The prompt `(1, tokens)` with all of the answer but its last token behind it."""
    more = torch.tensor([metric.forced], dtype=ids.dtype, device=ids.device)
    return torch.cat([ids, more], 1) if metric.forced else ids


def last_logits(model: Any, metric: Metric) -> dict[str, int]:
    """The option of a forward by which it computes only the logits that the metric reads."""
    known = inspect.signature(model.module.forward).parameters
    if metric.function is None and "logits_to_keep" in known:
        return {"logits_to_keep": len(metric.answer)}
    return {}


def read(
    model: Any, ids: torch.Tensor, metric: Metric, place: Place, layers: Sequence[int]
) -> tuple[dict[int, torch.Tensor], float]:
    """What stands at a place in each of these blocks, and the metric, in an untouched run.

    Args:
        ids: `(1, tokens)`.
        layers: in any order, each once or more.
    """
    values: dict[int, torch.Tensor] = {}
    with model.trace(with_forced(ids, metric), **last_logits(model, metric)):
        for layer in sorted(set(layers)):
            values[layer] = place.value(model.layers[layer]).value
        logits = model.logits.value
    return values, float(metric(logits).detach()[0])


def with_gradient(value: Any) -> Any:
    """A value of a trace that has a gradient, whether or not the model's weights have one."""
    return value if value.requires_grad else value.requires_grad_()


def gradients_at(
    measured: torch.Tensor, values: Sequence[Any], *, keep: bool = False
) -> list[torch.Tensor]:
    """The gradient of the metric at values of the trace; the weights' own `grad` stays as it is.

    Args:
        keep: whether the graph is needed once more.

    Raises:
        WrongValueError: it does not depend on one of them; the message says which.
    """
    found = torch.autograd.grad(measured, values, retain_graph=keep, allow_unused=True)
    for value, gradient in zip(values, found, strict=True):
        if gradient is None:
            raise WrongValueError(
                f"The metric has no gradient at {getattr(value, 'where', 'what was put in')}: it "
                "does not depend on it, or the model computes it without one."
            )
    return [gradient.detach() for gradient in found]


def along_of(
    place: Place,
    axes: Sequence[str],
    layers: Sequence[int],
    positions: Sequence[int],
    texts: Sequence[str],
    value: torch.Tensor,
) -> list[Along]:
    """The axes of a result: the layer, and those asked for.

    Args:
        positions: of the prompt.
        texts: all tokens of the prompt, or none where there is no tokenizer.
        value: what stands at the place in one block; its shape says how many heads there are.
    """
    found = [Along("layer", layers)]
    for axis in axes:
        if axis == POSITION:
            words = [texts[k] for k in positions] if texts else None
            found.append(Along(POSITION, list(positions), words))
        else:
            assert axis == HEAD
            assert place.head_axis is not None
            found.append(Along(HEAD, list(range(value.shape[place.head_axis]))))
    return found
