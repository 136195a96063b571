"""Two results of the same points beside each other, and their difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray

from nnsight_magic.analyses.result_axes import as_numbers, axes, title_of, words_of
from nnsight_magic.analyses.result_shown import colours_of
from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.points import Along, Points
from nnsight_magic.views.data.words import visible

if TYPE_CHECKING:
    from nnsight_magic.views.live.comparison import CompareView

TOLD_APART = ("how", "method", "site", "model", "from", "prompt", "metric")  # in this order
LONGEST = 40  # characters of a name
SHOWN = 6  # places of an axis that a message lists


def compared(
    first: xarray.DataArray, second: xarray.DataArray, title: str, options: Mapping[str, Any]
) -> CompareView:
    """Three maps: both results in one colour scale, and `second - first` in one of its own.

    Args:
        first, second: of the same axes with the same places.
        title: of the view; by default what both measured.
        options: as `CompareView` takes them.

    Raises:
        BadInputError: their axes differ, or these are no numbers.
    """
    from nnsight_magic.views.live.comparison import CompareView

    along = same_axes(first, second)
    state = dict(options)
    names = state.pop("names", None) or names_of(first, second)
    titles = title_of(first), title_of(second)
    if not title and titles[0] == titles[1]:
        title = titles[0]
    elif not title and first.attrs.get("metric") == second.attrs.get("metric"):
        title = str(first.attrs.get("metric", ""))
    view = CompareView(
        as_numbers(first),
        as_numbers(second),
        title,
        names=names,
        axes=[axis.name for axis in along],
        words={axis.name: words_of(axis) for axis in along},
        points=difference_of(first, second, along),
        **state,
    )
    for each, result in ((view.first, first), (view.second, second)):
        each.empty = colours_of(result).get("empty", "")
    if view.difference is not None:
        view.difference.empty = view.first.empty or view.second.empty
    _one_sided(view, first, second)
    return view


def same_axes(first: xarray.DataArray, second: xarray.DataArray) -> list[Along]:
    """The axes that both have; where their words differ, with both.

    Raises:
        BadInputError: they have other axes, or other places on one.
    """
    one, other = axes(first), axes(second)
    if [axis.name for axis in one] != [axis.name for axis in other]:
        raise BadInputError(
            f"These have other axes: {_sizes(one)} against {_sizes(other)}. Two results are "
            "compared point by point; take a part of one, such as .max('position'), or turn it: "
            ".transpose(…)."
        )
    return [_both(*pair) for pair in zip(one, other, strict=True)]


def _both(one: Along, other: Along) -> Along:
    if list(one.places) != list(other.places):
        common = [place for place in one.places if place in list(other.places)]
        take = f".sel({one.name}={common[:SHOWN]!r}…)" if len(common) > SHOWN else None
        take = take or f".sel({one.name}={common!r})"
        advice = f"Take those that both have: {take}." if common else "They have none in common."
        raise BadInputError(
            f"The axis {one.name} has other places: {_some(one.places)} against "
            f"{_some(other.places)}. {advice}"
        )
    if one.words is None or other.words is None or list(one.words) == list(other.words):
        return one
    words = [
        a if a == b else f"{visible(a)}/{visible(b)}"
        for a, b in zip(one.words, other.words, strict=True)
    ]
    return Along(one.name, one.places, words)


def names_of(first: xarray.DataArray, second: xarray.DataArray) -> tuple[str, str]:
    """What tells the two apart: their names, else what they were measured with."""
    if first.name != second.name and first.name and second.name:
        return str(first.name), str(second.name)
    for key in TOLD_APART:
        one, other = (str(each.attrs.get(key, "")) for each in (first, second))
        if one != other and one and other:
            return _short(one), _short(other)
    return "first", "second"


def difference_of(
    first: xarray.DataArray, second: xarray.DataArray, along: Sequence[Along]
) -> Points:
    """The points at which the two differ, the farthest apart first."""
    change = np.asarray(second.values, np.float64) - np.asarray(first.values, np.float64)
    return Points(along, change, np.abs(change), note="points by their difference")


def _one_sided(view: CompareView, first: xarray.DataArray, second: xarray.DataArray) -> None:
    """Of two results that are nowhere above 0, such as log-probabilities, the scale ends there."""
    known = [colours_of(each) for each in (first, second)]
    if all(each.get("limits") for each in known):
        view.first.limits = [min(each["limits"][0] for each in known), 0.0]
        view.first.palette = view.second.palette = "sequential"
        view.second.limits = view.first.limits


def _sizes(along: Sequence[Along]) -> str:
    return ", ".join(f"{axis.name} {len(axis.places)}" for axis in along) or "none"


def _some(places: Sequence[Any]) -> str:
    shown = ", ".join(map(str, places[:SHOWN]))
    return shown if len(places) <= SHOWN else f"{shown}, … ({len(places)})"


def _short(text: str) -> str:
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
