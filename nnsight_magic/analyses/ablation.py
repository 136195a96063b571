"""Ablation: what a prediction loses without one place.

Three ways of taking a place out, and they answer different questions: *zero* puts 0 there, which a
model never saw; *mean* what stands there on average over other texts, which keeps what does not
depend on the text; *resample* what stands there in other texts of the same length, which the model
has seen, and whose spread says how much hangs on the choice. They disagree about which head matters
most, so a result says which way it is of (Wang et al. 2022, arXiv:2211.00593; Chan et al. 2022,
"Causal scrubbing"; Zhang and Nanda 2023, arXiv:2309.16042).
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any, Literal

import torch

from nnsight_magic.analyses.metric import Answer, Measured, Metric, metric_of
from nnsight_magic.analyses.pair import ids_of_prompt, texts_of
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.recipe import RECIPE, recipe, written
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.analyses.site_run import along_of, chosen_layers, last_logits, read, with_forced
from nnsight_magic.analyses.sites import HEAD, POSITION, Place, axes_of, place_of
from nnsight_magic.errors import BadInputError
from nnsight_magic.near import listing

How = Literal["zero", "mean", "resample"]


def ablate(
    model: Any,
    prompt: Any,
    answer: Answer | Measured,
    versus: Answer | None = None,
    *,
    site: str = "heads",
    how: How = "zero",
    over: Iterable[Any] = (),
    by: str | Sequence[str] | None = None,
    layers: Iterable[int] | None = None,
    repeats: int = 4,
    seed: int = 0,
    first: bool = False,
    progress: bool = True,
) -> Result:
    """Take out every place of a site, one at a time.

    Args:
        model: a `LanguageModel`.
        prompt: a text or ids.
        answer: its log-probability is measured; with `versus`, the difference of their logits.
        site: as in `patch`.
        how: `"zero"`, `"mean"` over the tokens of `over`, or `"resample"` from texts of `over` that
            have as many tokens as the prompt.
        over: texts, for `"mean"` and `"resample"`. Where all have as many tokens as the prompt, the
            mean is taken at each position by itself, else over all positions.
        by: the axes beside the layer; by default the site's own.
        layers: the blocks; all by default.
        repeats: texts drawn for each point, for `"resample"`.
        seed: of the drawing.
        first: take the first token into a mean over positions too. It is left out otherwise: its
            residual stream can be a hundred times longer than that of others.
        progress: show a bar if it takes longer than a second.

    Returns:
        How far the metric moves when the place is taken out, axes `layer` and those of `by`;
        `attrs["baseline"]` is the metric of the untouched run. For `"resample"` the mean of the
        repeats, with the coordinate `standard_error` of each point's; `attrs["standard_error"]` is
        their mean.

    Raises:
        BadInputError: there is nothing to take a mean over, no text of that length to resample, no
            such site or axis.
        TokenTextError: the answer is no token.
    """
    place, metric = place_of(site), metric_of(model, answer, versus)
    axes, chosen = axes_of(place, by), chosen_layers(model, layers)
    ids = ids_of_prompt(model, prompt)
    others = _others(model, ids, place, how, over, repeats, seed)
    here, baseline = read(model, ids, metric, place, chosen)
    instead = _instead(model, metric, place, here, how, others, first=first)
    texts = texts_of(model, ids)
    along = along_of(place, axes, chosen, range(ids.shape[1]), texts, here[chosen[0]])
    values = _ablated(model, with_forced(ids, metric), metric, place, along, instead, progress)
    attrs = {
        **model_words(model, prompt),
        "metric": metric.words,
        "title": f"change of the {metric.words}, {place.words} ablated ({_words(how, others)})",
        "site": site,
        "how": how,
        "baseline": baseline,
        "change": 1,
        RECIPE: _recipe(model, ids, metric, place, how, others, baseline, first=first),
    }
    found = with_axes(values.mean(-1) - baseline, along, "ablated", attrs)
    if len(instead) > 1:
        error = values.std(-1) / len(instead) ** 0.5
        found.attrs["standard_error"] = float(error.mean())
        found = found.assign_coords(standard_error=(found.dims, error.numpy()))
    return found


def _recipe(
    model: Any,
    ids: torch.Tensor,
    metric: Metric,
    place: Place,
    how: How,
    others: list[torch.Tensor],
    baseline: float,
    *,
    first: bool,
) -> str:
    """How a point is measured again: what is put there comes from other texts, by their order."""
    lengths = [each.shape[1] for each in others]
    keys = [tuple(each[0].tolist()) for each in others]
    distinct = dict(zip(keys, others, strict=True)) if how == "resample" else {}
    used = list(distinct.values()) if how == "resample" else others
    texts = [written(model, each, metric.forced) for each in used]
    by_position = set(lengths) == {ids.shape[1]}
    more: dict[str, Any] = {
        "others": texts,
        "drawn": [list(distinct).index(key) for key in keys] if how == "resample" else [],
        "token_axis": place.token_axis,
        "by_position": by_position,
        "first_left_out": not first,
        "ends": lengths,
        "count": len(others) if by_position else sum(lengths) - (not first) * len(others),
    }
    if None in texts:
        more["no"] = "a text of over was given as token ids, and no text is read as just these"
    return recipe(
        "ablate", model, {"main": ids}, metric, site=place.name, how=how, baseline=baseline, **more
    )


Values = dict[int, torch.Tensor]  # by the block's number


def _others(
    model: Any,
    ids: torch.Tensor,
    place: Place,
    how: How,
    over: Iterable[Any],
    repeats: int,
    seed: int,
) -> list[torch.Tensor]:
    """The other texts, as ids; for `"resample"` those that are drawn."""
    if how not in ("zero", "mean", "resample"):
        raise BadInputError(f'how is "zero", "mean" or "resample"; found {how!r}.')
    texts = [over] if isinstance(over, str) else list(over)
    if how == "zero":
        if texts:
            raise BadInputError('over is for how="mean" and how="resample"; zero needs no text.')
        return []
    if not texts:
        raise BadInputError(f'how="{how}" needs texts to take from: over=["…", "…"].')
    others = [ids_of_prompt(model, each) for each in texts]
    alike = [each for each in others if each.shape == ids.shape]
    tokens = ids.shape[1]
    lengths = sorted({each.shape[1] for each in others})
    if how == "mean":
        if place.name == "pattern" and len(alike) < len(others):
            raise BadInputError(
                "The mean of patterns is taken at each position, so all texts must have the "
                f"prompt's {tokens} tokens; found {listing(map(str, lengths))}."
            )
        return others
    alike = [each for each in alike if not torch.equal(each, ids)]
    if not alike:
        raise BadInputError(
            f"None of these texts can stand in for the prompt: another text of {tokens} tokens is "
            f"needed; found {listing(map(str, lengths))} tokens."
        )
    if repeats < 1:
        raise BadInputError(f"repeats is at least 1; found {repeats}.")
    drawn = random.Random(seed)
    return [drawn.choice(alike) for _ in range(repeats)]


def _instead(
    model: Any, metric: Metric, place: Place, here: Values, how: How, others: list, *, first: bool
) -> list[Values]:
    """What is put in place of what stands there, in the same shape, for each block."""
    if how == "zero":
        return [{layer: torch.zeros_like(value) for layer, value in here.items()}]
    if how == "resample":
        known: dict[tuple[int, ...], Values] = {}
        for ids in others:
            key = tuple(ids[0].tolist())
            if key not in known:
                known[key] = read(model, ids, metric, place, list(here))[0]
        return [known[tuple(ids[0].tolist())] for ids in others]
    return [_mean(model, metric, place, here, others, first=first)]


def _mean(
    model: Any, metric: Metric, place: Place, here: Values, others: list, *, first: bool
) -> Values:
    """The mean over texts, at each position where all have the prompt's length, else over all."""
    sums: dict[int, torch.Tensor] = {}
    tokens = {ids.shape[1] for ids in others}
    axis = place.token_axis
    some = next(iter(here.values()))
    by_position = tokens == {some.shape[axis] - len(metric.forced)}
    count = 0
    for ids in others:
        values, _ = read(model, ids, metric, place, list(here))
        count += 1 if by_position else ids.shape[1] - (not first)
        for layer, value in values.items():
            value = value.double()
            if not by_position:
                length = ids.shape[1] - (not first)
                value = value.narrow(axis, int(not first), length).sum(axis, keepdim=True)
            sums[layer] = sums[layer] + value if layer in sums else value
    if not count:
        raise BadInputError(
            "These texts have no token but the first, which is left out of the mean; first=True "
            "takes it in."
        )
    return {
        layer: (sums[layer] / count).to(value.dtype).expand_as(value)
        for layer, value in here.items()
    }


def _ablated(
    model: Any,
    ids: torch.Tensor,
    metric: Metric,
    place: Place,
    along: Sequence[Along],
    instead: list[Values],
    progress: bool,
) -> torch.Tensor:
    """The metric at every point, in the order of the axes, and for each of `instead`."""
    names = [axis.name for axis in along]

    def at(*point: int) -> float:
        *where_, which = point
        where = dict(zip(names, where_, strict=True))
        position, head = where.get(POSITION), where.get(HEAD)
        new = instead[which][where["layer"]][place.index(position, head)]
        place.write(model.layers[where["layer"]], new, position, head)
        return float(metric(model.logits.value)[0])

    points = list(product(*(axis.places for axis in along), range(len(instead))))
    options = last_logits(model, metric)
    found = model.sweep(ids, at, points, progress=progress, **options)
    return torch.tensor(found).reshape(*(len(axis.places) for axis in along), len(instead))


def _words(how: How, others: list[torch.Tensor]) -> str:
    texts = len({tuple(ids[0].tolist()) for ids in others})
    return {
        "zero": "zero",
        "mean": f"mean of {texts} text{'s' * (texts != 1)}",
        "resample": f"{len(others)} times from {texts} text{'s' * (texts != 1)}",
    }[how]
