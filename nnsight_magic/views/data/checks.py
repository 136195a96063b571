"""Checks as a view has them: what was checked of what, whether it holds, and why, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from nnsight_magic.printable import printable
from nnsight_magic.views.data.wire import CheckedForm

State = Literal["holds", "warns", "fails", "none"]
MARKS: dict[State, str] = {"holds": "✓", "warns": "!", "fails": "✗", "none": "·"}
# What a mark says to who does not see it.
SAID: dict[State, str] = {
    "holds": "holds",
    "warns": "warning",
    "fails": "fails",
    "none": "says nothing",
}


@dataclass(frozen=True)
class Check:
    """One check.

    Attributes:
        name: what was checked, in a word or two.
        state: whether it holds; `none` where it does not apply.
        words: what was found.
    """

    name: str
    state: State
    words: str


@dataclass(frozen=True)
class Checked:
    """What was checked of one thing.

    Attributes:
        title: what that is.
        checks: in their order.
    """

    title: str
    checks: Sequence[Check]

    def packed(self) -> CheckedForm:
        """JSON for the front end."""
        told = [(each.state, printable(each.name), printable(each.words)) for each in self.checks]
        return {"title": printable(self.title), "checks": told}


def counted(checks: Iterable[Check]) -> str:
    """How many hold, in words.

    >>> counted([Check("a", "holds", ""), Check("b", "fails", ""), Check("c", "none", "")])
    '1 of 2 checks holds, 1 fails'
    """
    states = [each.state for each in checks if each.state != "none"]
    holding, count = states.count("holds"), len(states)
    if holding == count:
        return f"all {count} checks hold" if count != 1 else "its check holds"
    told = [f"{holding} of {count} checks hold{'s' * (holding == 1)}"]
    if fails := states.count("fails"):
        told.append(f"{fails} fail{'s' * (fails == 1)}")
    if warns := states.count("warns"):
        told.append(f"{warns} warn{'s' * (warns == 1)}")
    return ", ".join(told)
