"""What an analysis found as the last line of a cell: its view, and its text where there is none."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from nnsight_magic.views.live.view import View


class ShowsItself(Protocol):
    """Has a view and a text, and is shown by the one that the place is for."""

    def view(self) -> View: ...
    def text(self) -> str: ...

    def __repr__(self) -> str:
        return self.text()

    def _ipython_display_(self) -> None:
        from nnsight_magic.views.display import in_notebook

        if in_notebook():
            self.view()._ipython_display_()
        else:
            print(self.text())
