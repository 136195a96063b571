"""The steps of a generation that a loop visits: `tracer.iter[1:4]`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, NoReturn, TypeVar

from nnsight_magic.engine.places.spellings import refuse_block_of_steps
from nnsight_magic.engine.values.words import index_text
from nnsight_magic.errors import NoSuchIndexError

S = TypeVar("S", bound=int)


class Steps(Iterator[S]):
    """The steps of a generation, one after another; `for`, and no `with`."""

    def __init__(self, steps: Iterator[S], wrote: str):
        self._steps, self._wrote = steps, wrote

    def __next__(self) -> S:
        return next(self._steps)

    def __enter__(self) -> NoReturn:
        refuse_block_of_steps(self._wrote, f"for step in {self._wrote}:")

    def __exit__(self, *_: Any) -> None:
        """Python asks for it before it enters."""


class ChosenSteps(Generic[S]):
    """`tracer.iter[...]`: an iterator over the steps that an index, a slice or a list chooses.

    Args:
        count: how many steps there are.
        visit: goes through steps of these numbers.
        more: what to do to have more of them.
    """

    def __init__(self, count: int, visit: Callable[[Iterable[int]], Iterator[S]], more: str):
        self._steps, self._visit, self._more = range(count), visit, more

    def __getitem__(self, which: int | slice | Iterable[int]) -> Steps[S]:
        steps = self._steps
        if isinstance(which, slice):
            chosen: Iterable[int] = steps[which]
        else:
            indices = list(which) if isinstance(which, Iterable) else [which]
            for index in indices:
                if not -len(steps) <= index < len(steps):
                    raise NoSuchIndexError(
                        f"tracer.iter[{which}]: there are {len(steps)} steps, 0 to "
                        f"{len(steps) - 1}.\n{self._more}"
                    )
            chosen = sorted(steps[index] for index in indices)
        return Steps(self._visit(chosen), f"tracer.iter[{index_text(which)}]")
