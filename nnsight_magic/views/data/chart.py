"""Lines over places in their order: measured numbers with intervals, beside what they are read
against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from nnsight_magic.errors import BadInputError
from nnsight_magic.printable import printable
from nnsight_magic.views.data.wire import ChartForm, LineForm
from nnsight_magic.views.data.words import brief

Role = Literal["main", "second", "spread"]


@dataclass(frozen=True)
class Line:
    """One line.

    Attributes:
        name: what it is of.
        values: one for each place; NaN leaves a gap.
        role: `main` is what the chart is about, `second` stands beside it, and of a `spread` the
            ground between `low` and `high` is filled.
        low, high: the ends of an interval at each place, if there are any.
    """

    name: str
    values: Sequence[float]
    role: Role = "main"
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None

    def at(self, place: int) -> str:
        """The value with its interval, in words; "" where there is none."""
        if not isfinite(self.values[place]):
            return ""
        told = f"{self.values[place]:.2f}"
        if self.low is None or self.high is None:
            return told
        return f"{told} ({self.low[place]:.2f} to {self.high[place]:.2f})"

    def packed(self) -> LineForm:
        def numbers(values: Sequence[float]) -> list[float | None]:
            return [brief(each) for each in values]

        return {
            "name": printable(self.name),
            "role": self.role,
            "values": numbers(self.values),
            "low": None if self.low is None else numbers(self.low),
            "high": None if self.high is None else numbers(self.high),
        }


@dataclass(frozen=True)
class Level:
    """A height at which something stands for all places, such as chance."""

    name: str
    value: float


@dataclass(frozen=True)
class Chart:
    """Lines over the same places, from 0 to 1.

    Attributes:
        title: what is shown.
        across: what the places are, `layer`.
        labels: their names.
        lines: the first is the main one.
        levels: heights that are drawn through.
        notes: what is said above it.
        numbers: the numbers of the blocks that the places are, if they are blocks.

    Raises:
        BadInputError: a line has more or fewer values than there are places.
    """

    title: str
    across: str
    labels: Sequence[str]
    lines: Sequence[Line]
    levels: Sequence[Level] = ()
    notes: Sequence[str] = ()
    numbers: Sequence[int] | None = None

    def __post_init__(self) -> None:
        for line in self.lines:
            ends = [each for each in (line.low, line.high) if each is not None]
            for values in (line.values, *ends):
                if len(values) != len(self.labels):
                    raise BadInputError(
                        f"{line.name} has {len(values)} values for {len(self.labels)} places."
                    )

    def packed(self) -> ChartForm:
        """JSON for the front end."""
        return {
            "across": self.across,
            "labels": [printable(each) for each in self.labels],
            "lines": [line.packed() for line in self.lines],
            "levels": [(printable(each.name), each.value) for each in self.levels],
            "numbers": None if self.numbers is None else list(self.numbers),
        }
