"""The patterns of several heads as one matplotlib figure, for a paper."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from nnsight_magic.views.data.words import visible
from nnsight_magic.views.still.colour_maps import COLOUR_MAPS
from nnsight_magic.views.still.figure import new_figure

SIDE, ACROSS = 1.5, 5  # inches of a pattern, and how many stand in a row at most
WORDS = 24  # tokens that are written on an axis at most


def heads_figure(
    patterns: np.ndarray, heads: Sequence[int], tokens: Sequence[str], title: str
) -> Any:
    """All of them in one scale from 0 to 1, tokens on the outer axes.

    Args:
        patterns: `(heads, from, to)`; a last column more than there are tokens is a sink.
        heads: their numbers.
        tokens: the prompt's.
    """
    across = min(ACROSS, len(heads))
    down = math.ceil(len(heads) / across)
    sheet = new_figure((SIDE * across + 2.2, SIDE * down + 1.4))
    axes = np.atleast_2d(sheet.subplots(down, across, squeeze=False))
    queries = [visible(token) for token in tokens]
    keys = [*queries, "sink"][: patterns.shape[2]]
    shown = None
    for place, plane in enumerate(axes.ravel()):
        if place >= len(heads):
            plane.set_axis_off()
            continue
        shown = plane.imshow(
            patterns[place],
            COLOUR_MAPS["nnsight_magic.sequential"],
            vmin=0,
            vmax=1,
            interpolation="nearest",
            aspect="auto",
        )
        plane.set_title(f"head {heads[place]}", fontsize=8, pad=3)
        _words(plane.set_yticks, queries if place % across == 0 else [], 0)
        _words(plane.set_xticks, keys if place + across >= len(heads) else [], 90)
    sheet.suptitle(title, fontsize=10)
    sheet.supylabel("from (query)", fontsize=9)
    sheet.supxlabel("to (key)", fontsize=9)
    if shown is not None:
        bar = sheet.colorbar(shown, ax=axes, shrink=0.6)
        bar.ax.tick_params(labelsize=8)
    return sheet


def _words(put: Any, words: Sequence[str], rotation: int) -> None:
    """Every token, or each so many-th where they have no room."""
    step = max(1, -(-len(words) // WORDS))
    places = range(0, len(words), step)
    written = [words[place].replace("$", r"\$") for place in places]
    put(list(places), written, fontsize=6, rotation=rotation)
