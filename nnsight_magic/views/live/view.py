"""What all views have in common: their code, their selection, questions from the browser, and how
they are displayed.

The browser asks by custom messages, `{"do": "plane", "id": 7, …}`, and gets `{"re": 7, …}` with
binary buffers, or `{"re": 7, "error": "…"}`, which the view shows. JupyterLab delivers these on a
thread of its own while a cell may be running: what answers them reads stored tensors only. Of
questions that come faster than they are answered, the newest of a kind is: see `questions`.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable, Mapping
from typing import Any

import anywidget
import ipywidgets
import traitlets

from nnsight_magic.errors import GoneError, NnsightError
from nnsight_magic.printable import escape, printable
from nnsight_magic.views import bundle
from nnsight_magic.views.live.questions import Questions

Answer = tuple[Mapping[str, Any], list[bytes]]


class Routed(ipywidgets.Widget):
    """A widget whose messages go to the thread that the browser names."""

    def open(self) -> None:
        """Opens the comm.

        ipykernel sends a message to the thread that last wrote on its comm, whatever thread the
        browser asked for. While a cell writes to a view, as a generation does, the stop button's
        message would wait for the very cell that it is to stop.
        """
        super().open()
        comm: Any = self.comm  # ipykernel's, in a kernel
        if hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = lambda data, named: named


class ShownText(traitlets.Unicode):
    """A text that the page shows; what would act on the page is shown as signs."""

    def validate(self, obj: Any, value: Any) -> str:
        return printable(super().validate(obj, value))


class Selection(Routed):
    """What is selected in the views that share it; set any of it from Python or in a view.

    Attributes:
        token: the position of a token, or -1.
        step: a step of a generation, or -1.
        module: the path of a module, or "".
        head: an attention head, or -1.
        layer: the number of a block, or -1.
    """

    token = traitlets.Int(-1).tag(sync=True)
    step = traitlets.Int(-1).tag(sync=True)
    module = traitlets.Unicode("").tag(sync=True)
    head = traitlets.Int(-1).tag(sync=True)
    layer = traitlets.Int(-1).tag(sync=True)


class SharedLayout(ipywidgets.Layout):
    """The layout of every view that was given none: a notebook stores each, at two kilobytes."""

    sealed = False

    def __setattr__(self, name: str, value: Any) -> None:
        if self.sealed and name in self.keys and not name.startswith("_"):
            raise AttributeError(
                f"this layout is shared by all views; give the view one of its own: "
                f"view.layout = ipywidgets.Layout({name}={value!r})"
            )
        super().__setattr__(name, value)


_layouts: list[SharedLayout] = []


def shared_layout() -> SharedLayout:
    """The one of this process; a new one where its comm was closed, as a test's may be."""
    if not _layouts or _layouts[-1].comm is None:
        _layouts[:] = [SharedLayout()]
        _layouts[0].sealed = True
    return _layouts[-1]


class View(Routed, anywidget.AnyWidget):
    """Base of all views.

    The traits that anywidget wants are in the class: anywidget itself makes a class of its own
    for every instance, which takes longer than all else that a view does.
    """

    _esm = traitlets.Unicode("export default {}").tag(sync=True)
    _anywidget_id = traitlets.Unicode().tag(sync=True)
    kind = traitlets.Unicode().tag(sync=True)
    twin: Any = traitlets.Unicode().tag(sync=True)  # by which the live view finds its still twin
    selection = traitlets.Instance(Selection).tag(sync=True, **ipywidgets.widget_serialization)
    _code = traitlets.Instance(bundle.Code).tag(sync=True, **ipywidgets.widget_serialization)

    def __init__(self, **traits: Any) -> None:
        unknown = [name for name in traits if not self.has_trait(name)]
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no {', '.join(unknown)}: check the spelling"
            )
        self._lock = threading.Lock()
        self._questions = Questions(self._reply)
        if traits.get("selection") is None:
            traits["selection"] = Selection()
        traits.setdefault("_esm", bundle.loader())
        traits.setdefault("layout", shared_layout())
        traits.setdefault("twin", uuid.uuid4().hex)
        super().__init__(_code=bundle.code(), **traits)
        self.on_msg(self._asked)

    def add_traits(self, **traits: traitlets.TraitType) -> None:
        new = {name: trait for name, trait in traits.items() if not self.has_trait(name)}
        if new:
            super().add_traits(**new)

    @traitlets.default("_anywidget_id")
    def _default_id(self) -> str:
        return f"{type(self).__module__}.{type(self).__name__}"

    @property
    def answers(self) -> dict[str, Callable[[dict[str, Any]], Answer]]:
        """What the browser may ask for, by name."""
        return {}

    def _asked(self, _: Any, content: Any, buffers: Any) -> None:
        """Takes a message; what asks for nothing that is known is all of one kind."""
        if not isinstance(content, dict) or not isinstance(content.get("id"), int):
            return  # nobody waits for an answer
        kind = str(content.get("do"))
        known = kind in ("hello", "code") or kind in self.answers
        self._questions.take(kind if known else "", content)

    def _reply(self, content: dict[str, Any], older: list[int]) -> None:
        """Answers a question; whatever is wrong with it becomes a notice in the view.

        `older` are the numbers of questions that are not answered, since this one is newer.
        """
        try:
            reply, data = self._answer(content)
        except GoneError as gone:
            reply, data = {"error": str(gone), "gone": True}, []
        except NnsightError as error:
            reply, data = {"error": error.message}, []
        except Exception as error:  # a view must not wait forever, whatever went wrong
            what = content.get("do")
            reply, data = {"error": f"{what!r} failed: {type(error).__name__}: {error}"}, []
        again = {"again": older} if older else {}
        self.send({**reply, **again, "re": content["id"]}, data)

    def _answer(self, content: dict[str, Any]) -> Answer:
        if content.get("do") == "hello":
            return {}, []
        if content.get("do") == "code":
            data, version = bundle.packed_code()
            return {"version": version}, [data]
        answer = self.answers.get(str(content.get("do")))
        if answer is None:
            return {"error": f"this view cannot {str(content.get('do'))[:40]!r}"}, []
        import torch

        with self._lock, torch.no_grad():
            return answer(content)

    # -- display ------------------------------------------------------------------------------

    def still(self) -> str:
        """The view as static HTML: what a saved notebook shows without a kernel."""
        return f"<p>{escape(self.text())}</p>"

    def still_png(self) -> bytes | None:
        """The view as a picture, for places that show no HTML."""
        return None

    def text(self) -> str:
        """The view in words."""
        return self.kind

    @property
    def page_title(self) -> str:
        """What a page with the view alone is called."""
        return getattr(self, "title", "") or self.kind

    def on_terminal(self) -> str:
        """The view as a terminal shows it."""
        return printable(self.text())

    def in_a_line(self) -> str:
        """What is shown, for `repr`: the first line of its words."""
        return self.text()

    def __repr__(self) -> str:
        lines = self.in_a_line().strip().splitlines() or [""]
        first = " ".join(lines[0].split())
        shown = first if len(first) <= 100 else first[:99] + "…"
        return f"<{type(self).__name__}: {printable(shown)}>"

    def _ipython_display_(self) -> None:
        from nnsight_magic.views.display import show_view

        show_view(self)

    def save_html(self, path: Any) -> None:
        """Writes one self-contained interactive page."""
        from nnsight_magic.views.page import save_page

        save_page(self, path)
