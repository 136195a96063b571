"""How far a sweep has come: for a bar, for a callback, and for the error that ends it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from nnsight_magic.progress import progress_bar


@dataclass(frozen=True)
class HowFar:
    """How far a sweep has come.

    Attributes:
        done: points that are finished, those that have failed included.
        total: points in all.
        seconds: since it began.
        left: seconds that are left, by the points so far; `None` before the first.
        results: what has been finished since the last call, by the points' numbers.
        forwards: of the model so far, those of references and without any change included.
    """

    done: int
    total: int
    seconds: float
    left: float | None
    results: dict[int, Any] = field(default_factory=dict)
    forwards: int = 0


Watching = bool | Callable[[HowFar], None]


class Finished:
    """The results of a sweep as they come.

    Attributes:
        results: by the points' numbers.
        forwards: of the model so far.

    Args:
        total: points in all.
        watching: a bar if true; or who is told of every batch.
    """

    def __init__(self, total: int, watching: Watching):
        self.results: dict[int, Any] = {}
        self.forwards = 0
        self._total = total
        self._told = watching if callable(watching) else None
        self._bar = progress_bar(total=total, delay=1, disable=watching is not True)
        self._began = time.perf_counter()

    @contextmanager
    def shown(self) -> Iterator[Finished]:
        with self._bar:
            yield self

    def add(self, results: dict[int, Any]) -> None:
        """These points are finished. Tell who watches."""
        self.results.update(results)
        self._bar.update(len(results))
        if self._told is not None and results:
            seconds, done = time.perf_counter() - self._began, len(self.results)
            left = seconds / done * (self._total - done)
            self._told(HowFar(done, self._total, seconds, left, results, self.forwards))

    def explain(self, error: BaseException, point: int | None, name: str) -> None:
        """Hang the finished points onto an error, or an interrupt, and say where it came up."""
        where = "" if point is None else f" at point {point}, {name}"
        seen = error.__dict__
        seen["finished"], seen["point"], seen["point_name"] = self.results, point, name
        error.add_note(
            f"In a sweep{where}. {len(self.results)} of {self._total} points were finished: "
            "the error's `finished` has their results by number (sys.last_value.finished)."
        )


def name_of_point(variants: Iterable[Any], number: int, arguments: tuple) -> str:
    """How a point is called: by the grid that it is of, or by what the function was given."""
    describe = getattr(variants, "describe", None)
    if describe is not None:
        return describe(number)
    shown = [
        f"tensor {tuple(each.shape)}" if isinstance(each, torch.Tensor) else repr(each)[:60]
        for each in arguments
    ]
    return f"({', '.join(shown)})"
