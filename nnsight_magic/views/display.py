"""A view under a cell: the live widget, and its still twin in an output of its own.

A notebook's front end picks one form of an output and drops the others when that one fails, so
what must survive without a kernel cannot stand beside the widget in the same output. The live view
hides its twin while it is alive.
"""

from __future__ import annotations

import base64
from typing import Any, Protocol

from nnsight_magic.front_end import shows_views
from nnsight_magic.printable import printable

# Where the widget cannot be shown, JupyterLab writes a line of error in its place, as text alone; a
# twin that follows takes that line away.
HIDES_ERROR = (
    "<style>.jp-OutputArea-child:has(~ .jp-OutputArea-child .nnv-still)"
    " > .jupyter-widgets:not(:has(*)){display:none}</style>"
)


class Shown(Protocol):
    """A view, as far as displaying it needs to know of it."""

    @property
    def twin(self) -> str: ...
    def text(self) -> str: ...
    def on_terminal(self) -> str: ...
    def still(self) -> str: ...
    def still_png(self) -> bytes | None: ...
    def _repr_mimebundle_(self) -> Any: ...


def show_view(view: Shown, in_place_of: str = "") -> None:
    """Displays both, or prints text where there is no notebook.

    The live view takes the place of the output that has the display id `in_place_of`.
    """
    if not in_notebook():
        print(view.on_terminal())
        return
    show_live(view, in_place_of)
    show_still(view)


def in_notebook() -> bool:
    """Whether what is displayed is seen where widgets may be shown."""
    from IPython import get_ipython

    return shows_views(get_ipython())


def show_live(view: Shown, in_place_of: str = "") -> None:
    """The widget alone, for a view that is still being filled; `show_still` comes later."""
    from IPython.display import publish_display_data

    bundle = view._repr_mimebundle_() or {}
    data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
    # No text: where the widget is not shown, its twin says it all.
    place = {"transient": {"display_id": in_place_of}, "update": True} if in_place_of else {}
    publish_display_data({**data, "text/plain": ""}, metadata, **place)


def show_still(view: Shown) -> None:
    """The still twin alone."""
    from IPython.display import publish_display_data

    publish_display_data(still_bundle(view))


def still_bundle(view: Shown) -> dict[str, Any]:
    """HTML, PNG and text of a view, marked so that the live view finds its twin."""
    from nnsight_magic.views.still.style import whole

    html = whole(HIDES_ERROR + view.still(), view.twin)
    data: dict[str, Any] = {"text/html": html, "text/plain": printable(view.text())}
    png = view.still_png()
    if png:
        data["image/png"] = base64.b64encode(png).decode()
    return data
