"""The axes of a result, its values as a tensor, and its title."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.points import Along
from nnsight_magic.views.data.words import visible

if TYPE_CHECKING:
    import torch

TEXTS = "_text"  # behind an axis' name: the words at its places


def axes(result: xarray.DataArray) -> list[Along]:
    """The axes of a result, also after a selection."""
    found = []
    for name in map(str, result.dims):
        places = result[name].values.tolist()
        texts = result.coords.get(name + TEXTS)
        words = texts.values.tolist() if texts is not None and texts.dims == (name,) else None
        found.append(Along(name, places, words))
    return found


def words_of(axis: Along) -> list[str]:
    """How the places are labelled in a heat map: `2 osse`."""
    if axis.words is None:
        return [str(place) for place in axis.places]
    return [f"{place} {visible(word)}" for place, word in zip(axis.places, axis.words, strict=True)]


def title_of(result: xarray.DataArray) -> str:
    """What it is: its metric where it has one, else its name."""
    return str(result.attrs.get("title") or result.attrs.get("metric") or result.name or "")


def as_numbers(result: xarray.DataArray) -> torch.Tensor:
    """The values as a tensor.

    Raises:
        BadInputError: they are no numbers.
    """
    import torch

    values = np.ascontiguousarray(result.values)
    if values.dtype.kind not in "fiub":
        raise BadInputError(f"{result.name or 'this'} holds {values.dtype}, no numbers to draw.")
    return torch.from_numpy(values)
