"""A streamer of the user's: it is given every new token once, however often a text is written."""

from __future__ import annotations

from typing import Any


class Streamed:
    """What was streamed so far, of one generation.

    Args:
        streamer: the user's, as transformers' `generate` takes it.
        last: how many new tokens there are to be; the step behind the last brings one more.
    """

    def __init__(self, streamer: Any, last: int):
        self._streamer, self._last = streamer, last
        self._told = 0
        self._ended = False

    def of_a_run(self) -> _OfARun:
        """The streamer for one run of `generate`; a further one writes the same text again."""
        return _OfARun(self)

    def put(self, place: int, tokens: Any) -> None:
        """The prompt at place 0, behind it the new tokens one by one."""
        if self._told == place <= self._last:
            self._told += 1
            self._streamer.put(tokens)

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._streamer.end()


class _OfARun:
    def __init__(self, streamed: Streamed):
        self._streamed = streamed
        self._place = 0

    def put(self, tokens: Any) -> None:
        place, self._place = self._place, self._place + 1
        self._streamed.put(place, tokens)

    def end(self) -> None:
        self._streamed.end()

    def __deepcopy__(self, memo: dict) -> _OfARun:
        return self  # PEFT copies what `generate` is given
