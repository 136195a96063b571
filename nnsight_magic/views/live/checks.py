"""Checks in words, each with its mark, and a map that belongs to them."""

from __future__ import annotations

from collections.abc import Sequence

import ipywidgets
import traitlets

from nnsight_magic.views.data.checks import Checked
from nnsight_magic.views.data.wire import packed_json
from nnsight_magic.views.live.tensor import TensorView
from nnsight_magic.views.live.view import Selection, ShownText, View


class ChecksView(View):
    """What was checked, thing by thing.

    Attributes:
        title: what the checks are of, and how many hold.
        notices: what the reader should know.
        packed: the checks, as `Checked` packs them.
        map: a viewer of numbers that belong to them, or `None`.
    """

    title = ShownText().tag(sync=True)
    notices = traitlets.List(ShownText()).tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    map: traitlets.Instance[TensorView | None] = traitlets.Instance(
        TensorView, allow_none=True
    ).tag(sync=True, **ipywidgets.widget_serialization)

    def __init__(
        self,
        title: str,
        groups: Sequence[Checked],
        drawn: TensorView | None = None,
        *,
        notices: Sequence[str] = (),
        selection: Selection | None = None,
    ) -> None:
        """A view of checks.

        Args:
            title: what they are of.
            groups: what was checked, each thing with its checks.
            drawn: a viewer of numbers that belong to them.
            notices: what the reader should know.
            selection: what other views share with this one.
        """
        self.groups = tuple(groups)
        super().__init__(
            kind="checks",
            title=title,
            notices=list(notices),
            packed=packed_json([each.packed() for each in groups]),
            map=drawn,
            selection=selection or (None if drawn is None else drawn.selection),
        )

    def text(self) -> str:
        from nnsight_magic.views.still.checks import text

        return text(self.title, self.groups, self.notices)

    def on_terminal(self) -> str:
        from nnsight_magic.printable import printable
        from nnsight_magic.terminal import width
        from nnsight_magic.views.still.checks import text

        return printable(text(self.title, self.groups, self.notices, width()))

    def in_a_line(self) -> str:
        return self.title

    def still(self) -> str:
        from nnsight_magic.views.still.checks import html

        drawn = "" if self.map is None else self.map.still()
        return html(self.title, self.groups, self.notices, drawn)

    def still_png(self) -> bytes | None:
        return None if self.map is None else self.map.still_png()
