"""Runs without any change that many variants read: of a reference, and of what is swept itself."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nnsight_magic.engine.sweeping.layout import NotTokenwise
from nnsight_magic.engine.sweeping.reference import ReadOnly
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.errors import NeverRanError

if TYPE_CHECKING:
    from torch import nn

    from nnsight_magic.engine.sites.site import Touch
    from nnsight_magic.engine.sweeping.clean import CleanRun


class SharedRun:
    """One run, whose values are handed out as often as they are asked for.

    Args:
        clean: the run.
        name: what its prompt is called.
        lends: give copies that may be written to, and let nothing of it flow on. That is how a
            function is run with its writes left out. Else a write is refused.
    """

    def __init__(self, clean: CleanRun, name: str, *, lends: bool = False):
        self.clean, self.name, self._lends = clean, name, lends

    def pause(self, touch: Touch, ancestry: list[nn.Module]) -> Pause:
        """The value at a touch.

        Raises:
            NeverRanError: the run has no such value.
        """
        try:
            value = self.clean.value(touch, ancestry)
        except NotTokenwise:
            raise NeverRanError(
                f"{touch.where} has no value in the run of {self.name}: the forward ended and it "
                "had not run."
            ) from None
        if self._lends:
            pause = Pause(touch.site, value, lambda pause: None, False)
        else:
            pause = ReadOnly(touch.site, value, self.name)
        pause.touch = touch
        return pause

    def learn(self, touches: Iterable[tuple[Touch, list[nn.Module]]]) -> None:
        """Pass these sites in one forward, in whichever order they come."""
        wanted = {t.site: (t, ancestry) for t, ancestry in touches if not self.clean.has(t.site)}
        if wanted:
            self.clean.learn([*wanted.values()], set(), keys=False)


def reading_of(
    run: SharedRun, holder: Callable[[], Any]
) -> Callable[[], AbstractContextManager[None]]:
    """Blocks in which what is touched belongs to a run that is shared.

    Args:
        run: the run.
        holder: gives what runs now: a variant, or the sweep itself. It has an attribute `reading`.
    """

    @contextmanager
    def reading() -> Iterator[None]:
        now = holder()
        before, now.reading = now.reading, run
        try:
            yield
        finally:
            now.reading = before

    return reading


@dataclass(frozen=True)
class WantedOfShared:
    """A touch of a run that is shared."""

    run: SharedRun
    touch: Touch
    ancestry: list[nn.Module]

    def pause_or_error(self) -> Pause | Exception:
        """As `SharedRun.pause`; an error is for the one who waits, on the line of the touch."""
        try:
            return self.run.pause(self.touch, self.ancestry)
        except Exception as error:
            return error
