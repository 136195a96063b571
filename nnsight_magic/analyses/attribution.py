"""Attribution patching: activation patching of all places at once, by a gradient.

What patching a place would do is approximated by its first-order term, with one backward pass for
all places together:

    score = (a_clean - a_corrupt) · ∂metric/∂a        at the corrupt run

Nanda 2023, "Attribution patching"; Syed et al. 2023, arXiv:2310.10348; Kramár et al. 2024,
arXiv:2403.00745. How good it is differs from site to site, so it is measured: some of the places
are patched exactly, and the result says how both agree. `rules` has better ways back than the
plain gradient.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Literal

import torch

from nnsight_magic.analyses.exact_check import CHECKED, check_count, some_of, told
from nnsight_magic.analyses.integrated_gradients import STEPS, Integrated, integrated
from nnsight_magic.analyses.metric import Answer, Measured, Metric, metric_of
from nnsight_magic.analyses.pair import Pair, pair_of
from nnsight_magic.analyses.patching import check_lengths, patched_at, recipe_of_pair
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.recipe import RECIPE
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.analyses.rules import RULES, Rule, check_method, followed
from nnsight_magic.analyses.site_run import (
    along_of,
    chosen_layers,
    gradients_at,
    last_logits,
    read,
    with_forced,
    with_gradient,
)
from nnsight_magic.analyses.sites import HEAD, POSITION, Place, axes_of, place_of
from nnsight_magic.errors import BadInputError, WrongValueError

Method = Rule | Literal["ig"]
METHODS = (*RULES, "ig")


def attribute(
    model: Any,
    clean: Any,
    corrupt: Any,
    answer: Answer | Measured,
    versus: Answer | None = None,
    *,
    site: str = "resid_post",
    method: Method | None = None,
    steps: int = STEPS,
    by: str | Sequence[str] | None = None,
    layers: Iterable[int] | None = None,
    align: Sequence[tuple[int, int]] | str | None = None,
    check: int = CHECKED,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Estimate what `patch` gives at every place of a site, with two forwards and a backward.

    Args:
        model, clean, corrupt, answer, versus, site, by, layers, align, progress: as in `patch`.
        method: how the backward pass goes: `"grad"`, `"norm"` (scales of norms are constants) or
            `"relp"` (attention patterns and the slopes of activations are too). By default
            `"norm"` for attention and its heads and `"relp"` for the residual stream and the MLP;
            `"grad"` where the model has not what these speak of, and `attrs["method"]` says so.
            `"ig"`: the plain gradient, averaged on the way from the corrupt prompt's embeddings to
            the clean one's, which have to be as many.
        steps: points on that way, the midpoints of as many equal parts.
        check: how many of the largest points, and as many at random, are patched exactly; 0: none.
        seed: of the random ones.

    Returns:
        How far the metric would move from the corrupt run, axes as in `patch`. With `check`,
        `attrs["correlation"]` is Pearson's between estimate and exact effect at the checked points,
        and `attrs["exact"]` lists them: `[[point…, estimate, exact], …]`. By `"ig"`
        `attrs["complete"]` is the sum over all tokens at the embeddings, which with many steps
        becomes `reference - baseline`.

    Raises:
        As `patch`; BadInputError too where there is no such method, or by `"ig"` where the prompts
        have different lengths.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> scores = analyses.attribute(
    ...     model, "The Eiffel Tower is in the city of", "The Colosseum is in the city of",
    ...     " Paris", " Rome", align="same", check=0)
    >>> scores.dims
    ('layer', 'position')
    """
    place = place_of(site)
    axes = axes_of(place, by)
    check_method(method, METHODS)
    check_count(check)
    if method == "relp" and site in ("q", "k"):
        raise BadInputError(
            f'"relp" counts attention patterns as constants, so nothing goes back to {place.words}'
            '. Use method="norm".'
        )
    metric = metric_of(model, answer, versus)
    pair = pair_of(model, clean, corrupt, align)
    check_lengths(place, axes, pair)
    chosen = chosen_layers(model, layers)
    way: Integrated | None = None
    if method == "ig":
        way = integrated(model, pair, metric, place, chosen, steps)
        there, here, slopes = way.there, way.here, way.slopes
        reference, baseline, used = way.reference, way.baseline, "ig"
    else:
        there, reference = read(model, pair.source, metric, place, chosen)
        here, slopes, baseline, used = _slopes(model, pair, metric, place, chosen, method)
    positions = [at for _, at in pair.positions]
    along = along_of(place, axes, chosen, positions, pair.target_texts, here[chosen[0]])
    scores = torch.stack([
        _scores(place, axes, pair, there[layer], here[layer], slopes[layer]) for layer in chosen
    ])  # fmt: skip
    attrs = {
        **model_words(model, corrupt if isinstance(corrupt, str) else pair.target.tolist()),
        "from": clean if isinstance(clean, str) else str(pair.source.tolist()),
        "metric": metric.words,
        "site": site,
        "method": used,
        "baseline": baseline,
        "change": 1,
        "reference": reference,
        RECIPE: recipe_of_pair(
            "attribute", model, pair, metric, site, baseline, rule=used.split(",")[0], steps=steps
        ),
        **({"complete": way.complete, "steps": steps} if way is not None else {}),
    }
    if check:
        attrs |= _checked(
            model, pair, metric, place, along, there, scores, baseline, check, seed, progress
        )
    close = f", r = {attrs['correlation']:.2f} with exact" if "correlation" in attrs else ""
    used_so = used if way is None else f"{used}, {way.words}"
    attrs["title"] = f"change of the {metric.words}, attributed to {place.words} ({used_so}{close})"
    return with_axes(scores, along, "attributed", attrs)


def _slopes(
    model: Any, pair: Pair, metric: Metric, place: Place, layers: Sequence[int], method: Rule | None
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor], float, str]:
    """What stands at the place in the corrupt run, and the metric's gradient there."""
    if method is not None:
        return *_backward(model, pair, metric, place, layers, method), method
    usual: Rule = "norm" if place.name in ("attn", "heads", "q", "k", "v", "pattern") else "relp"
    try:
        return *_backward(model, pair, metric, place, layers, usual), usual
    except WrongValueError as error:
        why = str(error).split("\n")[0]
        return *_backward(model, pair, metric, place, layers, "grad"), f"grad, since {why}"


def _backward(
    model: Any, pair: Pair, metric: Metric, place: Place, layers: Sequence[int], rule: Rule
) -> tuple[dict[int, torch.Tensor], dict[int, torch.Tensor], float]:
    values: dict[int, Any] = {}
    last = max(layers)
    detaches = rule == "relp" and place.name != "pattern"
    blocks = list(model.layers)
    ids, options = with_forced(pair.target, metric), last_logits(model, metric)
    with followed(model, rule), model.trace(ids, grad=True, **options) as tracer:
        expected = [place.on(blocks[layer]) for layer in layers]
        tracer.expect([*expected, *((block.attn, "pattern") for block in blocks if detaches)])
        for layer, block in enumerate(blocks):
            if not detaches and layer > last:
                break
            if layer in layers and not place.late:
                values[layer] = with_gradient(place.value(block))
            if detaches:
                block.attn.pattern = block.attn.pattern.detach()
            if layer in layers and place.late:
                values[layer] = with_gradient(place.value(block))
        measured = metric(model.logits)[0]
        slopes = gradients_at(measured, [values[layer] for layer in layers])
    here = {layer: values[layer].detach() for layer in layers}
    return here, dict(zip(layers, slopes, strict=True)), float(measured.detach())


def _scores(
    place: Place,
    axes: Sequence[str],
    pair: Pair,
    there: torch.Tensor,
    here: torch.Tensor,
    slope: torch.Tensor,
) -> torch.Tensor:
    """The first-order effect at one block, summed over all but the axes, float32."""
    axis = place.token_axis
    if POSITION in axes:
        source, target = (
            torch.tensor(each, device=here.device) for each in zip(*pair.positions, strict=True)
        )
        there = there.index_select(axis, source)
        here, slope = here.index_select(axis, target), slope.index_select(axis, target)
    effect = (there.float() - here.float()) * slope.float()
    kept = {POSITION: axis, HEAD: place.head_axis}
    dims = [kept[each] for each in axes]
    others = [dim for dim in range(effect.ndim) if dim not in dims]
    found = effect.sum(others)
    in_order = sorted(range(len(dims)), key=lambda k: dims[k])
    return found.permute([in_order.index(k) for k in range(len(dims))]).cpu()


def _checked(
    model: Any,
    pair: Pair,
    metric: Metric,
    place: Place,
    along: Sequence[Along],
    there: dict[int, torch.Tensor],
    scores: torch.Tensor,
    baseline: float,
    count: int,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    """Some points patched exactly: the largest ones, and others at random."""
    points = list(product(*(range(len(axis.places)) for axis in along)))
    some = some_of(points, scores, count, seed)
    named = [[axis.places[k] for axis, k in zip(along, point, strict=True)] for point in some]
    exact = patched_at(
        model, pair, metric, place, [axis.name for axis in along], named, there, progress
    )
    effects = [each - baseline for each in exact]  # as `patch` gives them
    return told(named, [float(scores[point]) for point in some], effects)
