"""A grid of measured numbers: its map, its points by rank, and one of them opened."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import ipywidgets
import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.points import Points
from nnsight_magic.views.data.wire import packed_json
from nnsight_magic.views.live.tensor import TensorView
from nnsight_magic.views.live.view import Answer, Selection, ShownText, View


class Opener(Protocol):
    """Who can measure a point again; the views know no models."""

    def cell(self, at: Sequence[int]) -> str:
        """The text of a cell that measures the point at these places.

        Raises:
            NnsightError: there is none; the message says why.
        """
        ...

    def opened(self, at: Sequence[int], selection: Selection) -> list[View]:
        """What the point's run was, as views.

        Raises:
            NnsightError: it cannot be run; the message says why.
        """
        ...

    @property
    def can(self) -> list[str]:
        """What of this is there: `cell`, `open`."""
        ...


class PointsView(View):
    """Numbers at the points of a grid, as a map (of one axis: bars) and as a ranked table.

    Attributes:
        map: the viewer of the numbers; its `cell` is the point that is selected.
        note: what the numbers are to be read against.
        opened: the views of the point that was opened last.
        of: the places of that point.
        can: what can be done with a point: `cell` (a cell of it), `open` (its run).
    """

    title = ShownText().tag(sync=True)
    note = ShownText().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    map = traitlets.Instance(TensorView).tag(sync=True, **ipywidgets.widget_serialization)
    opened = traitlets.List(traitlets.Instance(View)).tag(
        sync=True, **ipywidgets.widget_serialization
    )
    of = traitlets.List(traitlets.Int()).tag(sync=True)
    can = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        drawn: TensorView,
        points: Points,
        opener: Opener | None = None,
        **state: Any,
    ) -> None:
        """A view of points.

        Args:
            drawn: the viewer of their numbers.
            points: the same numbers.
            opener: who can measure one of them again.
            state: any of the attributes, as they are to be at first.

        Raises:
            BadInputError: the map shows a tensor of another shape.
        """
        if tuple(drawn.array.shape) != points.values.shape:
            raise BadInputError(
                f"A map of {tuple(drawn.array.shape)} for points of {points.values.shape}."
            )
        self.points, self._opener = points, opener
        super().__init__(
            kind="points",
            title=state.pop("title", drawn.title),
            note=points.note,
            packed=packed_json(points.packed()),
            map=drawn,
            can=[] if opener is None else opener.can,
            selection=state.pop("selection", None) or drawn.selection,
            **state,
        )

    @property
    def cell(self) -> list[int]:
        """The places of the point that is selected; none at first."""
        return list(self.map.cell)

    @cell.setter
    def cell(self, at: Sequence[int]) -> None:
        self.map.cell = self._checked(at)

    def refill(self, tensor: Any, points: Points) -> None:
        """Shows further values at the same points.

        Raises:
            BadInputError: they are of another shape.
        """
        self.map.refill(tensor)
        self.points = points
        with self.hold_sync():
            self.packed = packed_json(points.packed())
            self.note = points.note

    def release(self) -> None:
        """Lets go of the numbers; the view goes on with what it stored."""
        self.map.release()

    # -- questions from the browser -----------------------------------------------------------

    @property
    def answers(self) -> dict[str, Any]:
        return {"cell": self._cell, "open": self._open}

    def _cell(self, asked: dict[str, Any]) -> Answer:
        if self._opener is None:
            raise BadInputError("There is no cell for these numbers: nothing says where from.")
        return {"text": str(self._opener.cell(self._checked(asked.get("at"))))}, []

    def _open(self, asked: dict[str, Any]) -> Answer:
        if self._opener is None:
            raise BadInputError("These points cannot be run again: nothing says where from.")
        import torch

        at = self._checked(asked.get("at"))
        with torch.enable_grad():  # questions are answered without
            views = self._opener.opened(at, self.selection)
        with self.hold_sync():
            self.opened, self.of = views, at
        return {}, []

    def _checked(self, at: Any) -> list[int]:
        """Places along the axes.

        Raises:
            BadInputError: these are none; a page may send anything.
        """
        shape = self.points.values.shape
        sound = isinstance(at, list | tuple) and len(at) == len(shape)
        sound = sound and all(type(k) is int and 0 <= k < n for k, n in zip(at, shape, strict=True))
        if not sound:
            raise BadInputError(f"There is no point {at!r:.60} in a grid of {shape}.")
        return [int(k) for k in at]

    # -- without a browser --------------------------------------------------------------------

    def figure(self) -> Any:
        """What the map shows now, as a matplotlib figure."""
        return self.map.figure()

    def text(self) -> str:
        from nnsight_magic.views.still.points import text

        return text(self.points, self.title)

    def in_a_line(self) -> str:
        return self.text().splitlines()[0]

    def on_terminal(self) -> str:
        from nnsight_magic.views.still.half_blocks import terminal_map

        drawn = terminal_map(
            self.map.array.tensor,
            self.map.labels.axes,
            self.map.limits,
            self.map.palette,
            self.map.empty,
        )
        head, *rest = super().on_terminal().split("\n")
        return "\n".join([head, *([drawn] if drawn else []), *rest])

    def still(self) -> str:
        from nnsight_magic.views.still.points import html

        return html(self.points, self.map.still(), self.cell)

    def still_png(self) -> bytes | None:
        return self.map.still_png()
