"""Integrated gradients: the gradient on the way between two prompts, not at one of them alone.

A gradient at the corrupt run sees the slope there. Patching goes a long way, on which the slope
changes; so the gradient is averaged over points on the straight line between the embeddings, the
midpoints of `steps` equal parts:

    e_k = e_corrupt + (k + 1/2) / steps · (e_clean - e_corrupt)
    score = (a_clean - a_corrupt) · mean over k of ∂metric/∂a at e_k

Sundararajan et al. 2017, arXiv:1703.01365. At the embeddings themselves the scores of all tokens
sum to the difference of the metric between both prompts (completeness), up to what the midpoints
leave; that gap is told. At later places it is an approximation: Hanna et al. 2024,
arXiv:2403.17806, "EAP-IG".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.analyses.metric import Metric
from nnsight_magic.analyses.pair import Pair
from nnsight_magic.analyses.site_run import (
    gradients_at,
    last_logits,
    read,
    with_forced,
    with_gradient,
)
from nnsight_magic.analyses.sites import Place, place_of
from nnsight_magic.errors import BadInputError

STEPS = 10
TOKENS = 1024  # of all rows of a batch together: each keeps its graph


@dataclass(frozen=True)
class Integrated:
    """What the way from the corrupt prompt to the clean one gave.

    Attributes:
        there, here: what stands at the place in the clean and in the corrupt run, by block.
        slopes: the mean gradient there.
        reference, baseline: the metric of the clean and of the corrupt run.
        complete: the sum of the scores at the embeddings.
        steps: how many points there were.
    """

    there: dict[int, torch.Tensor]
    here: dict[int, torch.Tensor]
    slopes: dict[int, torch.Tensor]
    reference: float
    baseline: float
    complete: float
    steps: int

    @property
    def words(self) -> str:
        """How complete it is, for titles."""
        whole = self.reference - self.baseline
        return f"{self.steps} steps, sum over tokens {self.complete:.3g} of {whole:.3g}"


def integrated(
    model: Any, pair: Pair, metric: Metric, place: Place, layers: Sequence[int], steps: int
) -> Integrated:
    """The mean gradient of the metric at a place in each of these blocks.

    Raises:
        BadInputError: the prompts have different lengths, so there is no line between them; or
            there are no steps.
    """
    lengths = [each.shape[1] for each in (pair.source, pair.target)]
    if lengths[0] != lengths[1]:
        raise BadInputError(
            "Integrated gradients go from the embeddings of one prompt to those of the other, so "
            f"both must have as many tokens; found {lengths[0]} and {lengths[1]}."
        )
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise BadInputError(f"steps is how many points are on the way, 1 or more; found {steps!r}.")
    there, reference = read(model, pair.source, metric, place, layers)
    here, baseline = read(model, pair.target, metric, place, layers)
    embedded = place_of("resid_pre")
    ends = [read(model, ids, metric, embedded, [0])[0][0] for ids in (pair.target, pair.source)]
    way = ends[1] - ends[0]
    slopes = {layer: torch.zeros_like(value) for layer, value in here.items()}
    at_embedding = torch.zeros_like(way)
    ids = with_forced(pair.target, metric)
    parts = (torch.arange(steps, device=way.device) + 0.5).to(way) / steps
    for some in parts.split(max(1, TOKENS // ids.shape[1])):
        points = ends[0] + some[:, None, None] * way
        found, first = _gradients(model, ids, metric, place, layers, points)
        for layer, gradient in found.items():
            slopes[layer] += gradient.sum(0, keepdim=True) / steps
        at_embedding += first.sum(0, keepdim=True) / steps
    complete = float((way.float() * at_embedding.float()).sum().detach())
    return Integrated(there, here, slopes, reference, baseline, complete, steps)


def _gradients(
    model: Any,
    ids: torch.Tensor,
    metric: Metric,
    place: Place,
    layers: Sequence[int],
    points: torch.Tensor,
) -> tuple[dict[int, torch.Tensor], torch.Tensor]:
    """The metric's gradient at the place and at the embeddings, a row for each point.

    Args:
        points: `(rows, tokens, hidden)`, put in place of the embeddings.
    """
    values: dict[int, Any] = {}
    rows = ids.expand(len(points), -1)
    with model.trace(rows, grad=True, **last_logits(model, metric)) as tracer:
        tracer.expect(place.on(model.layers[layer]) for layer in layers)
        points = points.clone().requires_grad_()
        model.layers[0].resid_pre = points
        for layer in sorted(set(layers)):
            values[layer] = with_gradient(place.value(model.layers[layer]))
        inputs = [*values.values(), points]
        *found, first = gradients_at(metric(model.logits).sum(), inputs)
    return dict(zip(values, found, strict=True)), first
