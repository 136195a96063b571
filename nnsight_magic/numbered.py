"""Alike numbered neighbours as one: the thirty blocks of a model are one row of its tree."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")


@dataclass(frozen=True)
class Run(Generic[Item]):
    """So many alike items under consecutive numbers, or one item under any name.

    Attributes:
        first, last: the names at its ends, the same where it is one.
        item: the first.
    """

    first: str
    last: str
    count: int
    item: Item

    @property
    def label(self) -> str:
        """`[0 … 29]`, `[3]` or `mlp`."""
        if self.count > 1:
            return f"[{self.first} … {self.last}]"
        return f"[{self.first}]" if self.first.isdecimal() else self.first


def runs(
    items: Iterable[tuple[str, Item]], kind: Callable[[Item], Any] = lambda item: item
) -> list[Run[Item]]:
    """Neighbours together whose names count up one by one, and whose `kind` is the same.

    >>> [run.label for run in runs([("embed", "E"), ("0", "B"), ("1", "B"), ("2", "C")])]
    ['embed', '[0 … 1]', '[2]']
    """
    found: list[Run[Item]] = []
    for name, item in items:
        last = found[-1] if found else None
        if last is not None and _follows(last.last, name) and kind(last.item) == kind(item):
            found[-1] = Run(last.first, name, last.count + 1, last.item)
        else:
            found.append(Run(name, name, 1, item))
    return found


def _follows(name: str, next_one: str) -> bool:
    """Whether both are numbers as Python writes them, and the second is one more."""
    return name.isdecimal() and name == str(int(name)) and next_one == str(int(name) + 1)
