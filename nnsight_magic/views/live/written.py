"""Texts by strength: a slider chooses one, and a kernel writes those that are not there yet."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.wire import packed_json
from nnsight_magic.views.data.written import Written
from nnsight_magic.views.live.view import Answer, Selection, ShownText, View

MOST = 1e6  # a strength that a page may ask for


class WrittenView(View):
    """Texts at several strengths beside the ones without.

    Attributes:
        title: what was done.
        notices: what is said above them.
        packed: the texts, as `Written` packs them.
        strength: the one that is shown.
        can: `write`, where further strengths can be written.
    """

    title = ShownText().tag(sync=True)
    notices = traitlets.List(ShownText()).tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    strength = traitlets.Float().tag(sync=True)
    can = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        written: Written,
        more: Callable[[float], Written] | None = None,
        *,
        selection: Selection | None = None,
    ) -> None:
        """A view of texts.

        Args:
            written: the texts.
            more: writes those of a further strength, and gives all.
            selection: what other views share with this one.
        """
        self.written, self._more = written, more
        others = [each for each in written.strengths if each]
        super().__init__(
            kind="written",
            title=written.title,
            notices=list(written.notes),
            packed=packed_json(written.packed()),
            strength=others[len(others) // 2] if others else 0.0,
            can=[] if more is None else ["write"],
            selection=selection,
        )

    @property
    def answers(self) -> dict[str, Any]:
        return {"write": self._write}

    def _write(self, asked: dict[str, Any]) -> Answer:
        strength = asked.get("strength")
        if not isinstance(strength, int | float) or not math.isfinite(strength):
            raise BadInputError(f"{strength!r:.40} is no strength.")
        if abs(strength) > MOST:
            raise BadInputError(f"A strength of {strength:.3g} is out of all proportion.")
        if self._more is None:
            raise BadInputError("The model is not here any more: run the cell again.")
        self.written = self._more(float(strength))
        self.packed = packed_json(self.written.packed())
        return {}, []

    def text(self) -> str:
        from nnsight_magic.views.still.written import text

        return text(self.written)

    def on_terminal(self) -> str:
        from nnsight_magic.terminal import width
        from nnsight_magic.views.still.written import text

        return text(self.written, width())

    def in_a_line(self) -> str:
        return self.title

    def still(self) -> str:
        from nnsight_magic.views.still.written import html

        return html(self.written)
