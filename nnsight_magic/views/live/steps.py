"""The steps of a generation: text that streams in, and what could have come instead."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import traitlets

from nnsight_magic.views.data.strips import Step
from nnsight_magic.views.live.view import Answer, ShownText, View

PAUSE = 0.12  # seconds between two updates of the browser while text streams in


class StepsView(View):
    """A generation.

    While it runs, `add` appends steps and `stopped` tells whether the stop button was pressed;
    `finish` ends it. The button's message comes on another thread where Jupyter has one (ipykernel
    7 and later), so `stopped` is to be asked between two steps.

    Attributes:
        steps: as the browser reads them; set by `add`.
        running: whether more may come.
        selection.step: the step that is looked at.
    """

    title = ShownText().tag(sync=True)
    prompt = traitlets.List(traitlets.Unicode()).tag(sync=True)
    steps = traitlets.List().tag(sync=True)
    running = traitlets.Bool(False).tag(sync=True)
    stopping = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        prompt: Sequence[str],
        steps: Sequence[Step] = (),
        title: str = "",
        *,
        running: bool = False,
        on_stop: Callable[[], None] | None = None,
        **state: Any,
    ) -> None:
        self.all_steps: list[Step] = list(steps)
        self.on_stop = on_stop
        self._stop = threading.Event()
        self._sent = 0.0
        super().__init__(
            kind="steps",
            title=title,
            prompt=list(prompt),
            steps=[step.packed() for step in self.all_steps],
            running=running,
            **state,
        )

    def add(self, step: Step) -> None:
        """Appends a step; the browser is told a few times a second."""
        self.put(len(self.all_steps), step)

    def put(self, index: int, step: Step) -> None:
        """Sets the step at an index, the next one or one that is there already."""
        self.all_steps[index : index + 1] = [step]
        now = time.monotonic()
        if now - self._sent >= PAUSE:
            self._sent = now
            self._tell()

    def finish(self) -> None:
        """No more steps will come."""
        self._tell()
        self.running = False
        self.stopping = False

    def replace(self, steps: Sequence[Step]) -> None:
        """Puts what is known in the end in the place of what was seen on the way."""
        self.all_steps[:] = steps
        self._tell()

    def _tell(self) -> None:
        self.steps = [step.packed() for step in self.all_steps]

    @property
    def stopped(self) -> bool:
        """Whether the stop button was pressed."""
        return self._stop.is_set()

    def stop(self) -> None:
        """As the button does."""
        self._stop.set()
        self.stopping = self.running
        if self.on_stop is not None:
            self.on_stop()

    @property
    def answers(self) -> dict[str, Callable[[dict[str, Any]], Answer]]:
        return {"stop": self._stopped}

    def _stopped(self, _: dict[str, Any]) -> Answer:
        self.stop()
        return {}, []

    def text(self) -> str:
        told = "".join(self.prompt) + " → " + "".join(step.token for step in self.all_steps)
        return f"{self.title}: {told}" if self.title else told

    def still(self) -> str:
        from nnsight_magic.views.still.tokens import steps_html

        return steps_html(self.prompt, self.all_steps, self.title, self.selection.step)
