"""Activation patching: what one place carries of the difference between two prompts.

The model runs on the corrupt prompt, and at one place after another its activations are replaced by
those of the clean prompt (denoising). How far the metric moves back says how much of the fact
stands there: Vig et al. 2020, arXiv:2004.12265; Meng et al. 2022, arXiv:2202.05262; Heimersheim and
Nanda 2024, arXiv:2404.15255, on how to read it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import torch

from nnsight_magic.analyses.metric import Answer, Measured, Metric, metric_of
from nnsight_magic.analyses.pair import Pair, pair_of
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.recipe import RECIPE, recipe
from nnsight_magic.analyses.result import Result, with_axes
from nnsight_magic.analyses.site_run import along_of, chosen_layers, last_logits, read, with_forced
from nnsight_magic.analyses.sites import HEAD, POSITION, Place, axes_of, place_of
from nnsight_magic.errors import BadInputError


def patch(
    model: Any,
    clean: Any,
    corrupt: Any,
    answer: Answer | Measured,
    versus: Answer | None = None,
    *,
    site: str = "resid_post",
    by: str | Sequence[str] | None = None,
    layers: Iterable[int] | None = None,
    reverse: bool = False,
    align: Sequence[tuple[int, int]] | str | None = None,
    progress: bool = True,
) -> Result:
    """Patch every place of a site from the clean prompt into the corrupt one.

    Args:
        model: a `LanguageModel`.
        clean, corrupt: texts or ids, of as many tokens, unless `align` says what belongs together.
        answer: its log-probability is measured; with `versus`, the difference of their logits.
        site: `resid_pre`, `resid_mid`, `resid_post`, `attn`, `mlp`, `heads`, `q`, `k`, `v`,
            `pattern`, `neurons`.
        by: the axes beside the layer, `"position"`, `"head"` or both; by default the site's own.
        layers: the blocks; all by default.
        reverse: from the corrupt prompt into the clean one (noising).
        align: pairs of positions, or `"same"` for the tokens that both prompts have.
        progress: show a bar if it takes longer than a second.

    Returns:
        How far the metric moves when the place is patched, axes `layer` and those of `by`. `attrs`
        have `baseline`, the metric with nothing patched, and `reference`, the other prompt's own;
        `normalized(result)` is the part of the way between them.

    Raises:
        BadInputError: the prompts do not align, or there is no such site or axis.
        TokenTextError: the answer is no token.
        NnsightError: the architecture has no such place; the message says which.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> effect = analyses.patch(
    ...     model, "The Eiffel Tower is in the city of", "The Colosseum is in the city of",
    ...     " Paris", " Rome", align="same", layers=[10, 20])
    >>> effect.dims
    ('layer', 'position')
    """
    place = place_of(site)
    axes = axes_of(place, by)
    metric = metric_of(model, answer, versus)
    source, target = (corrupt, clean) if reverse else (clean, corrupt)
    pair = pair_of(model, source, target, align)
    check_lengths(place, axes, pair)
    chosen = chosen_layers(model, layers)
    there, reference = read(model, pair.source, metric, place, chosen)
    here, baseline = read(model, pair.target, metric, place, chosen[:1])
    positions = [at for _, at in pair.positions]
    along = along_of(place, axes, chosen, positions, pair.target_texts, here[chosen[0]])
    points = list(product(*(axis.places for axis in along)))
    names = [axis.name for axis in along]
    found = patched_at(model, pair, metric, place, names, points, there, progress)
    way = "corrupt from clean" if not reverse else "clean from corrupt"
    attrs = {
        **model_words(model, target if isinstance(target, str) else pair.target.tolist()),
        "from": source if isinstance(source, str) else str(pair.source.tolist()),
        "metric": metric.words,
        "title": f"change of the {metric.words}, {place.words} patched ({way})",
        "site": site,
        "baseline": baseline,
        "change": 1,
        "reference": reference,
        RECIPE: recipe_of_pair("patch", model, pair, metric, site, baseline, reverse=reverse),
    }
    shaped = torch.tensor(found).reshape([len(axis.places) for axis in along]) - baseline
    return with_axes(shaped, along, "patched", attrs)


def normalized(result: Result) -> Result:
    """How far each point goes from the baseline (0) to the reference (1): the effect's share.

    Raises:
        BadInputError: both are the same number, so there is no way to go.
    """
    baseline, reference = result.attrs["baseline"], result.attrs["reference"]
    if baseline == reference:
        raise BadInputError(
            f"The metric is {baseline:.4g} on both prompts: there is no difference to restore."
        )
    found = result / (reference - baseline)
    title = f"{result.attrs.get('title', '')}, as a part of the whole difference"
    found.attrs.update({**result.attrs, "title": title})
    if RECIPE in result.attrs:
        told = json.loads(result.attrs[RECIPE])
        found.attrs[RECIPE] = json.dumps({**told, "whole": reference - baseline})
    return found


def recipe_of_pair(
    analysis: str,
    model: Any,
    pair: Pair,
    metric: Metric,
    site: str,
    baseline: float,
    *,
    reverse: bool = False,
    **more: Any,
) -> str:
    """How a point of two prompts is measured again, for `attrs`."""
    ways = ("corrupt", "clean") if reverse else ("clean", "corrupt")
    prompts = dict(zip(ways, (pair.source, pair.target), strict=True))
    return recipe(
        analysis,
        model,
        {name: prompts[name] for name in ("clean", "corrupt")},
        metric,
        ways=list(ways),
        site=site,
        positions=[list(each) for each in pair.positions],
        baseline=baseline,
        **more,
    )


def check_lengths(place: Place, axes: Sequence[str], pair: Pair) -> None:
    """Refuses what has no meaning in prompts of different lengths."""
    lengths = [each.shape[1] for each in (pair.source, pair.target)]
    if lengths[0] == lengths[1]:
        return
    if POSITION not in axes:
        raise BadInputError(
            f"{place.name} by {' and '.join(axes)} is patched at all tokens at once, so both "
            f"prompts must have as many; found {lengths[0]} and {lengths[1]}.\n"
            'Say by=("position", "head"), or give prompts of one length.'
        )
    if place.name == "pattern":
        raise BadInputError(
            "A row of a pattern has a column for each token of its own prompt, so both prompts "
            f"must have as many; found {lengths[0]} and {lengths[1]}."
        )


def patched_at(
    model: Any,
    pair: Pair,
    metric: Metric,
    place: Place,
    names: Sequence[str],
    points: Sequence[Sequence[int]],
    there: dict[int, torch.Tensor],
    progress: bool,
) -> list[float]:
    """The metric with the place patched at each of these points.

    Args:
        names: of the axes that a point counts along.
        there: what is put in, by the block's number.
    """
    comes_from = {here: source for source, here in pair.positions}

    def at(*point: int) -> float:
        where = dict(zip(names, point, strict=True))
        position, head = where.get(POSITION), where.get(HEAD)
        origin = None if position is None else comes_from[position]
        new = there[where["layer"]][place.index(origin, head)]
        place.write(model.layers[where["layer"]], new, position, head)
        return float(metric(model.logits.value)[0])

    ids, options = with_forced(pair.target, metric), last_logits(model, metric)
    return model.sweep(ids, at, [tuple(point) for point in points], progress=progress, **options)
