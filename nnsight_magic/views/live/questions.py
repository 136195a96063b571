"""Questions from the browser, of which only the newest of a kind matters.

A page may ask faster than a picture is made: while one is, its questions wait in the kernel's
queue, where nobody sees them, and are handed over one by one. So a question that comes right behind
an answer is put aside until the queue is empty. Of those put aside, the newest of each kind is
answered, and the answer names the others, which the page asks again if it still wants to know.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Any

BEHIND = 0.005  # seconds after an answer in which a question must have waited in the queue
TURN = 0.002  # seconds in which the event loop takes the next message out of it
LONGEST = 1.0  # seconds that a question is put aside where the queue does not get empty
SHARE = 10  # and this many times as long as the last answers took


class Questions(threading.local):
    """The questions to one view; each thread that they come to has a queue of its own.

    Args:
        answer: answers one, given the numbers of those of its kind that it stands for.
    """

    def __init__(self, answer: Callable[[dict[str, Any], list[int]], None]) -> None:
        self._answer = answer
        self._aside: dict[str, tuple[dict[str, Any], list[int]]] = {}
        self._answered = float("-inf")  # when, on the monotonic clock
        self._took = 0.0
        self._due = 0.0
        self._came = self._seen = 0  # counts of questions

    def take(self, kind: str, question: dict[str, Any]) -> None:
        """Answers a question, at once or when those behind it in the queue are known.

        Without an event loop there is no queue, and every question is answered at once.
        """
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            self._answer(question, [])
            return
        self._came += 1
        now = time.monotonic()
        if not self._aside and now - self._answered > BEHIND:
            self._answer_all({kind: (question, [])})
            return
        if not self._aside:
            self._due = now + max(LONGEST, SHARE * self._took)
            self._seen = self._came
            loop.call_later(TURN, self._turn, loop)
        before, older = self._aside.pop(kind, (None, []))
        if before is not None:
            older.append(before["id"])
        self._aside[kind] = (question, older)

    def _turn(self, loop: asyncio.AbstractEventLoop) -> None:
        """Answers what was put aside, unless there are more questions and there is time left."""
        if self._seen != self._came and time.monotonic() < self._due:
            self._seen = self._came
            loop.call_later(TURN, self._turn, loop)
            return
        aside, self._aside = self._aside, {}
        self._answer_all(aside)

    def _answer_all(self, questions: dict[str, tuple[dict[str, Any], list[int]]]) -> None:
        begun = time.monotonic()
        for question, older in questions.values():
            self._answer(question, older)
        self._answered = time.monotonic()
        self._took = self._answered - begun
