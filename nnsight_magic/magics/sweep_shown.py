"""What a sweep shows: its heat map, which fills while it runs, and its results in words."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from nnsight_magic.analyses.swept import NotOneArray, Swept
from nnsight_magic.engine.sweeping.how_far import HowFar
from nnsight_magic.progress import progress_bar

OFTEN = 0.2  # seconds between two pictures of a map that fills
DELAY = 1.0  # seconds before a bar appears


class Filling:
    """Shows a sweep while it runs: a bar, and where views are shown the map of its first name.

    Args:
        name: what is drawn, of the names that are collected.
        live: whether views are shown.
        total: points in all.
        known: points that an earlier run has left.
    """

    def __init__(self, name: str, total: int, *, live: bool, quiet: bool, known: int = 0):
        self.view: Any = None
        self._drawn: Any = None  # the result that the view shows
        self._name, self._live, self._last = name, live and not quiet, 0.0
        self._bar = progress_bar(total=total, initial=known, delay=DELAY, disable=quiet)

    def watch(self, found: Swept, how_far: HowFar) -> None:
        """A batch is through."""
        self._bar.update(len(how_far.results))
        now = time.monotonic()
        if self._live and now - self._last >= OFTEN:
            self._draw(found)
            self._last = time.monotonic()

    def _draw(self, found: Swept) -> None:
        from nnsight_magic.views.display import show_live

        try:
            result = found.result(self._name)
        except NotOneArray:  # it is told at the end
            return
        if not result.ndim or not result.size or result.dtype.kind in "OU":
            return
        if self.view is None:
            self.view = result.view()
            show_live(self.view)
        else:
            result.refill(self.view, self._drawn)
        self._drawn = result

    def close(self, found: Swept | None) -> None:
        """The sweep is over, or was stopped: the map as it is, and its still twin."""
        from nnsight_magic.views.display import show_still

        self._bar.close()
        if found is not None and self.view is not None:
            self._draw(found)
            show_still(self.view)


@dataclass(frozen=True)
class SweepResult:
    """What a sweep collected, by its names.

    Attributes:
        results: for each name a `Result`, or a list where values fit into no array.
        notices: what the reader should know.
        drawn: the name whose map is shown already.
    """

    results: dict[str, Any]
    notices: tuple[str, ...] = ()
    drawn: str = ""
    views: bool = field(default=True, repr=False)

    def __getitem__(self, name: str) -> Any:
        return self.results[name]

    def text(self) -> str:
        """The results in words, one below the other."""
        return "\n\n".join([*self.notices, *(_text(n, each) for n, each in self.results.items())])

    def __repr__(self) -> str:
        return self.text()

    def _ipython_display_(self) -> None:
        from nnsight_magic.views.display import in_notebook, show_view

        if not self.views or not in_notebook():
            print(self.text())
            return
        for notice in self.notices:
            print(notice)
        for name, each in self.results.items():
            if name != self.drawn and getattr(each, "ndim", 0) and each.dtype.kind not in "OU":
                show_view(each.view())
            elif name != self.drawn and getattr(each, "ndim", 0):
                each._ipython_display_()  # a table of texts
            elif name != self.drawn:
                print(_text(name, each))


def _text(name: str, result: Any) -> str:
    if not hasattr(result, "text"):
        return f"{name}: {result!r}"
    return result.text()
