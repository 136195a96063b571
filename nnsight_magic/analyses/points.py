"""The points of a sweep: named axes, and the places on them.

    grid(layer=model.layers, position=range(9))          # every layer with every position
    grid.points(layer=[3, 9], position=[2, 7])           # two points

A grid is what `model.sweep` takes as its variants, and calls its points by name in errors.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from nnsight_magic.errors import BadInputError


@dataclass(frozen=True)
class Axis:
    """One axis of a grid.

    Attributes:
        name: what it is called.
        values: what the function is given for each place.
        words: what the places say, where that is known: the texts of tokens.
        prompts: whether its values are prompts, on each of which its points run.
    """

    name: str
    values: tuple[Any, ...]
    words: tuple[str, ...] | None = None
    prompts: bool = False

    def __len__(self) -> int:
        return len(self.values)

    @property
    def places(self) -> list[Any]:
        """What the axis counts by: its values if they are numbers or texts, else their places."""
        plain = all(isinstance(each, int | float | str) for each in self.values)
        alike = len({isinstance(each, str) for each in self.values}) == 1
        if plain and alike and len(set(self.values)) == len(self.values):
            return list(self.values)
        return list(range(len(self.values)))

    def label(self, at: int) -> str:
        """One place in words.

        >>> Axis("position", (0, 1), ("The", " Col")).label(1)
        "position=1 (' Col')"
        """
        word = "" if self.words is None else f" ({self.words[at]!r})"
        place = self.places[at]
        text = repr(place) if isinstance(place, str) else f"{place}"
        return f"{self.name}={text[:60]}{word}"

    def with_words(self, tokens: Sequence[str]) -> Axis:
        """The axis with these tokens' texts, if it counts positions of theirs and has no words."""
        count = len(tokens)
        fits = all(type(v) is int and -count <= v < count for v in self.values)
        if self.words is not None or not fits or self.name not in ("position", "token"):
            return self
        words = tuple(tokens[int(value)] for value in self.values)
        return Axis(self.name, self.values, words, self.prompts)


@dataclass(frozen=True)
class Grid(Sequence[tuple[Any, ...]]):
    """Points with named axes: all combinations of their places, or as they stand side by side.

    Attributes:
        axes: in the order in which the function is given their values.
        paired: the first places of all axes are a point, the second ones, and so on.

    >>> found = grid(layer=range(2), head=[0, 3])
    >>> list(found), found.describe(3)
    ([(0, 0), (0, 3), (1, 0), (1, 3)], 'layer=1, head=3')
    """

    axes: tuple[Axis, ...]
    paired: bool = False
    _at: tuple[tuple[int, ...], ...] = field(default=(), repr=False, compare=False)

    def __post_init__(self) -> None:
        lengths = [range(len(axis)) for axis in self.axes]
        found = zip(*lengths, strict=True) if self.paired else itertools.product(*lengths)
        object.__setattr__(self, "_at", tuple(found))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """Places along each axis of the results; of points, how many there are."""
        return (len(self._at),) if self.paired else tuple(map(len, self.axes))

    def __len__(self) -> int:
        return len(self._at)

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return (self[number] for number in range(len(self)))

    def __getitem__(self, number: Any) -> Any:
        at = zip(self.axes, self._at[number], strict=True)
        return tuple(axis.values[place] for axis, place in at)

    def describe(self, number: int) -> str:
        """A point in words: `layer=3, position=2 (' osse')`."""
        at = zip(self.axes, self._at[number], strict=True)
        return ", ".join(axis.label(place) for axis, place in at)

    def prompt_of(self) -> list[int] | None:
        """For each point which prompt it runs on; `None` where no axis is of prompts."""
        found = [k for k, axis in enumerate(self.axes) if axis.prompts]
        return [at[found[0]] for at in self._at] if found else None

    def with_words(self, tokens: Sequence[str]) -> Grid:
        """The grid with the tokens' texts beside the positions."""
        return Grid(tuple(axis.with_words(tokens) for axis in self.axes), self.paired)


class _GridMaker:
    """`grid(...)`, and `grid.points(...)`."""

    def __call__(self, **axes: Any) -> Grid:
        """Every combination of the axes' places, the last axis running fastest.

        Args:
            axes: by their names: the blocks of a model, a range, a list of numbers, texts, tensors
                or prompts.

        Raises:
            BadInputError: there is no axis, or an axis is empty or nothing that has places.
        """
        return Grid(axes_of(axes))

    def points(self, **axes: Any) -> Grid:
        """The points that stand side by side: the first places, the second ones, and so on.

        Raises:
            BadInputError: as `grid`; or the axes are of several lengths.

        >>> list(grid.points(layer=[3, 9], position=[2, 7]))
        [(3, 2), (9, 7)]
        """
        found = axes_of(axes)
        if len({len(axis) for axis in found}) > 1:
            told = ", ".join(f"{axis.name} {len(axis)}" for axis in found)
            raise BadInputError(f"Points have as many places on every axis. Found: {told}.")
        return Grid(found, paired=True)

    def __repr__(self) -> str:
        return "grid"


grid = _GridMaker()


def axes_of(given: dict[str, Any]) -> tuple[Axis, ...]:
    """The axes by their names.

    Raises:
        BadInputError: there is none, or one is empty or nothing that has places.
    """
    if not given:
        raise BadInputError("A grid has at least one axis: grid(layer=model.layers).")
    for name in ("baseline", "reference", "point"):
        if name in given:
            raise BadInputError(
                f"The axis {name} needs another name: a result has that one for another thing."
            )
    return tuple(_axis(name, values) for name, values in given.items())


def _axis(name: str, values: Any) -> Axis:
    if isinstance(values, Axis):
        found = Axis(name, values.values, values.words, values.prompts)
    elif isinstance(values, str | bytes | dict) or not hasattr(values, "__iter__"):
        raise BadInputError(
            f"The axis {name} takes a range, a list, or the blocks of a model: {name}=range(12).\n"
            f"Found: {values!r:.80}."
        )
    else:
        found = Axis(name, _places(values))
    if not len(found):
        raise BadInputError(f"The axis {name} is empty: there is no point on it.")
    return found


def _places(values: Any) -> tuple[Any, ...]:
    """What an axis counts: of blocks their numbers, of a tensor its items, plain where it can."""
    listed = list(values)
    if listed and all(getattr(each, "is_block", False) is True for each in listed):
        return tuple(int(each.parts[-1]) for each in listed)
    if hasattr(values, "untyped_storage") and values.ndim == 1:
        return tuple(values.tolist())
    return tuple(listed)
