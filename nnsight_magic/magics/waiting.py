"""A word while something takes long, gone when it is there: no thread, no timer."""

from __future__ import annotations

import sys
import uuid
from types import TracebackType
from typing import Any

from nnsight_magic.front_end import shows_views
from nnsight_magic.printable import escape, printable

LONGEST = 60  # characters: a word that goes over two lines could not be wiped off


class Waiting:
    """Says `word` from the beginning of a block to its end.

    In a notebook it is an output that is empty afterwards, unless what comes of the block has
    taken the `place`, its display id. In a terminal it is a line that is wiped off. Where neither
    is, as in a file of output, nothing is said: it could not be taken back.
    """

    def __init__(self, shell: Any, word: str) -> None:
        word = " ".join(printable(word).split())
        self._word = word if len(word) <= LONGEST else f"{word[: LONGEST - 1]}…"
        self._in_notebook = shows_views(shell)
        self._place = ""

    def __enter__(self) -> Waiting:
        if self._in_notebook:
            self._place = uuid.uuid4().hex
            self._publish(self._word)
        else:
            self._write(self._word)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._in_notebook:
            self._write("\r\x1b[K")
        elif self._place:
            self._publish("", update=True)

    def place(self) -> str:
        """The display id of the word, which whoever asks now puts something in the place of."""
        place, self._place = self._place, ""
        return place

    def _write(self, text: str) -> None:
        if hasattr(sys.stdout, "isatty") and sys.stdout.isatty():
            sys.stdout.write(text)
            sys.stdout.flush()

    def _publish(self, text: str, update: bool = False) -> None:
        from IPython.display import publish_display_data

        data = {"text/plain": text, "text/html": escape(text)}
        publish_display_data(data, transient={"display_id": self._place}, update=update)
