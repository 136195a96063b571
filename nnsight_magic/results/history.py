"""The runs of a session, for `%runs` and `%saved`.

Result objects hold no tensors: what a cell saved lives as long as the notebook's variable. But the
same cell run again gives its names to other tensors, and these two runs are what one wants to
compare. So a tensor that a later trace has put another in the place of is kept here, up to a
budget, the oldest going first, and no longer than there is a variable of its name: `del`, `%reset`
and `%saved --drop` free them all.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnsight_magic.errors import OptionError

REMEMBERED = 200
BUDGET = 1 << 30  # bytes of storage


class Runs:
    """The last runs, by number. Numbers count from 1 and are never used again."""

    def __init__(self) -> None:
        self._results: dict[int, Any] = {}
        self._saved_last: dict[str, Any] = {}
        self._overwritten: list[tuple[str, Any]] = []  # names with tensors, the oldest first
        self.next_number = 1

    def add(self, result: Any) -> None:
        self._results[result.number] = result
        self._saved_last.update({each.name: each for each in result.saved})
        self.next_number = result.number + 1
        while len(self._results) > REMEMBERED:
            self._forget(self._results.pop(next(iter(self._results))))

    def __iter__(self):
        return iter(self._results.values())

    def __len__(self) -> int:
        return len(self._results)

    def get(self, number: str) -> Any:
        """The run of that number, as it is written in a line."""
        if not number.isdigit() or int(number) not in self._results:
            known = list(self._results)
            there = f"there are {known[0]} to {known[-1]}" if known else "there is none yet"
            raise OptionError(f"no run {number!r}; {there}")
        return self._results[int(number)]

    def drop(self, number: str) -> None:
        """Forgets a run and the tensors that are kept of it; what it saved stays the notebook's.

        Raises:
            OptionError: if there is no such run.
        """
        self._forget(self._results.pop(self.get(number).number))

    def _forget(self, result: Any) -> None:
        gone = {id(each.tensor) for each in result.saved}
        self._overwritten = [each for each in self._overwritten if id(each[1]) not in gone]

    # -- tensors that were overwritten ----------------------------------------------------------

    def standing(self, namespace: Mapping[str, Any]) -> dict[str, Any]:
        """The tensors that runs have saved and that are still the notebook's variables."""
        saved = ((name, each.tensor) for name, each in self._saved_last.items())
        return {name: t for name, t in saved if t is not None and namespace.get(name) is t}

    def keep_overwritten(
        self, before: Mapping[str, Any], namespace: Mapping[str, Any], budget: int = BUDGET
    ) -> None:
        """Keeps what was `standing` before a run and has another value of its name now."""
        for name, tensor in before.items():
            if name in namespace and namespace[name] is not tensor:
                self._overwritten.append((name, tensor))
        while self._overwritten and self.overwritten_bytes > budget:
            del self._overwritten[0]

    def release_gone(self, namespace: Mapping[str, Any]) -> None:
        """Lets go of the tensors whose names are no variables any more."""
        if self._overwritten:
            self._overwritten = [each for each in self._overwritten if each[0] in namespace]

    @property
    def overwritten_bytes(self) -> int:
        return sum(tensor.untyped_storage().nbytes() for _, tensor in self._overwritten)
