"""A progress bar for generations that take long enough to be waited for."""

from __future__ import annotations

from typing import Any

from nnsight_magic.progress import progress_bar

DELAY = 2.0  # seconds before a bar appears; most cells are done by then


class TokenProgress:
    """Counts new tokens for a bar: a streamer, as transformers' `generate` calls one."""

    def __init__(self, total: int) -> None:
        self._bar = progress_bar(total=total, desc="generating", unit="token", delay=DELAY)
        self._prompt_seen = False

    def put(self, tokens: Any) -> None:
        if not self._prompt_seen:  # the first call brings the prompt
            self._prompt_seen = True
        elif self._bar.n < self._bar.total:
            self._bar.update()

    def end(self) -> None:
        self.close()

    def close(self) -> None:
        self._bar.close()
