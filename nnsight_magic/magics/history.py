"""The runs of a session, for `%runs` and `%saved`: result objects, which hold no tensors."""

from __future__ import annotations

from typing import Any

from nnsight_magic.errors import OptionError

REMEMBERED = 200


class Runs:
    """The last runs, by number. Numbers count from 1 and are never used again."""

    def __init__(self) -> None:
        self._results: dict[int, Any] = {}
        self.next_number = 1

    def add(self, result: Any) -> None:
        self._results[result.number] = result
        self.next_number = result.number + 1
        while len(self._results) > REMEMBERED:
            del self._results[next(iter(self._results))]

    def __iter__(self):
        return iter(self._results.values())

    def __len__(self) -> int:
        return len(self._results)

    def get(self, number: str) -> Any:
        """The run of that number, as it stands in a line."""
        if not number.isdigit() or int(number) not in self._results:
            known = list(self._results)
            there = f"there are {known[0]} to {known[-1]}" if known else "there is none yet"
            raise OptionError(f"no run {number!r}; {there}")
        return self._results[int(number)]
