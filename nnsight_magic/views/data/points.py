"""The points of a grid of numbers as a view has them: in words, and the largest of them first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.words import brief, number

RANKED = 20  # points of a table


@dataclass(frozen=True)
class Along:
    """One axis: its name, its places, and words for them where there are any.

    >>> Along("position", range(3), ["The", " Eiff", "el"]).label(1)
    "position 1 ' Eiff'"
    """

    name: str
    places: Sequence[Any]
    words: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.words is not None and len(self.words) != len(self.places):
            raise BadInputError(
                f"The axis {self.name} has {len(self.places)} places and {len(self.words)} words."
            )

    def label(self, at: int) -> str:
        """One place in words."""
        word = "" if self.words is None else f" {self.words[at]!r}"
        return f"{self.name} {self.places[at]}{word}"


@dataclass(frozen=True)
class Points:
    """Numbers at the points of a grid.

    Attributes:
        axes: in the order of the values' axes.
        values: of any rank from 1 on.
        size: how much each point stands out, of the same shape: larger comes first. What is not
            finite in it is left out of the ranking.
        errors: a standard error for each, where there is one.
        note: what the numbers are to be read against: `baseline -8.7, reference 2.86`.
    """

    axes: Sequence[Along]
    values: np.ndarray
    size: np.ndarray
    errors: np.ndarray | None = None
    note: str = ""

    def ranked(self, count: int = RANKED) -> list[tuple[int, ...]]:
        """The points that stand out most, as places along the axes, the first of equals first."""
        flat = np.where(np.isfinite(self.size), self.size, -np.inf).astype(np.float64).ravel()
        known = int(np.isfinite(flat).sum())
        order = np.argsort(-flat, kind="stable")[: min(count, known)]
        return [tuple(int(k) for k in np.unravel_index(int(at), self.values.shape)) for at in order]

    def in_words(self, at: Sequence[int]) -> str:
        """A point: `layer 9, position 3 ' Tower'`."""
        along = zip(self.axes, at, strict=True)
        return ", ".join(axis.label(int(k)) for axis, k in along)

    def told(self, count: int) -> Iterator[tuple[str, str]]:
        """The points that stand out most: each in words, and its number."""
        for at in self.ranked(count):
            yield self.in_words(at), self.number_at(at)

    def number_at(self, at: Sequence[int]) -> str:
        """A point's number, with its standard error where it has one."""
        value = number(float(self.values[tuple(at)]))
        if self.errors is None:
            return value
        return f"{value} ± {number(float(self.errors[tuple(at)]))}"

    def packed(self) -> dict[str, Any]:
        """JSON: the points that stand out most with their numbers, and how many were measured."""
        ranked = self.ranked()
        found: dict[str, Any] = {
            "ranked": [list(at) for at in ranked],
            "values": [brief(float(self.values[at])) for at in ranked],
            "count": int(self.values.size),
            "known": int(np.isfinite(self.values.astype(np.float64)).sum()),
        }
        if self.errors is not None:
            found["errors"] = [brief(float(self.errors[at])) for at in ranked]
        return found
