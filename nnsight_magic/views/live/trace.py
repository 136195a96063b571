"""What a trace shows: its facts, its tokens, its saved tensors and the modules, small at first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import ipywidgets
import traitlets

from nnsight_magic.printable import escape
from nnsight_magic.views.data.two_texts import TwoTexts
from nnsight_magic.views.live.comparison import CompareView
from nnsight_magic.views.live.steps import StepsView
from nnsight_magic.views.live.tensor import TensorView
from nnsight_magic.views.live.tokens import TokensView
from nnsight_magic.views.live.tree import TreeView
from nnsight_magic.views.live.view import Selection, ShownText, View

_child = ipywidgets.widget_serialization


class TraceView(View):
    """Several views as one result; they share one selection.

    Attributes:
        title: what ran, such as `run 3`.
        facts: what to say beside the title, in order.
        wrote: what the cell wrote.
        notices: what the user should know.
        tokens, steps, tree: the views, or `None`.
        tensors: viewers of what was saved, shown as thumbnails that open.
        others: what else was saved, in words.
        texts: texts with the writes and without, where they differ, as `TwoTexts` packs them.
        open_tensors: which of them are open, by their place.
        tree_open: whether the modules are shown.
        has_tree: whether there is a tree to show; it may be made when it is first opened.
    """

    title = ShownText().tag(sync=True)
    facts = traitlets.List(ShownText()).tag(sync=True)
    wrote = traitlets.List(ShownText()).tag(sync=True)
    notices = traitlets.List(ShownText()).tag(sync=True)
    tokens: traitlets.Instance[TokensView | None] = traitlets.Instance(
        TokensView, allow_none=True
    ).tag(sync=True, **_child)
    steps: traitlets.Instance[StepsView | None] = traitlets.Instance(
        StepsView, allow_none=True
    ).tag(sync=True, **_child)
    tree: traitlets.Instance[TreeView | None] = traitlets.Instance(TreeView, allow_none=True).tag(
        sync=True, **_child
    )
    tensors = traitlets.List(
        traitlets.Union([traitlets.Instance(TensorView), traitlets.Instance(CompareView)])
    ).tag(sync=True, **_child)
    others = traitlets.List(ShownText()).tag(sync=True)
    texts = traitlets.List(traitlets.Dict()).tag(sync=True)
    open_tensors = traitlets.List(traitlets.Int()).tag(sync=True)
    tree_open = traitlets.Bool(False).tag(sync=True)
    has_tree = traitlets.Bool(False).tag(sync=True)

    def __init__(
        self,
        title: str,
        facts: Sequence[str] = (),
        *,
        wrote: Sequence[str] = (),
        notices: Sequence[str] = (),
        tokens: TokensView | None = None,
        steps: StepsView | None = None,
        tree: TreeView | None = None,
        tensors: Sequence[TensorView | CompareView] = (),
        make_tree: Callable[[], TreeView | None] | None = None,
        texts: Sequence[TwoTexts] = (),
        words: str = "",
        **state: Any,
    ) -> None:
        """`make_tree` makes the tree when it is first opened; `words` is the result as text."""
        self.words = words
        self._make_tree = make_tree
        self.two_texts = tuple(texts)
        selection = state.pop("selection", None) or Selection()
        for view in (tokens, steps, tree, *tensors):
            _share(selection, view)
        super().__init__(
            kind="trace",
            title=title,
            facts=list(facts),
            wrote=list(wrote),
            notices=list(notices),
            has_tree=tree is not None or make_tree is not None,
            tokens=tokens,
            steps=steps,
            tree=tree,
            tensors=list(tensors),
            texts=[each.packed() for each in texts],
            selection=selection,
            **state,
        )
        self.observe(self._tree_wanted, "tree_open")

    def put(self, **parts: Any) -> None:
        """Sets parts (`tokens`, `steps`, `tree`, `tensors`), each with this view's selection."""
        with self.hold_sync():
            for name, part in parts.items():
                views = list(part) if name == "tensors" else [part]
                for view in views:
                    _share(self.selection, view)
                setattr(self, name, views if name == "tensors" else part)

    def put_texts(self, texts: Sequence[TwoTexts]) -> None:
        """Sets the texts with the writes and without."""
        self.two_texts = tuple(texts)
        self.texts = [each.packed() for each in texts]

    def grow(self, make_tree: Callable[[], TreeView | None]) -> None:
        """From now on there are modules to show."""
        self._make_tree = make_tree
        self.has_tree = True

    def _tree_wanted(self, change: Any) -> None:
        if change["new"] and self.tree is None and self._make_tree is not None:
            self.put(tree=self._make_tree())

    def save_html(self, path: Any) -> None:
        """Writes one self-contained interactive page, the modules included."""
        self._tree_wanted({"new": True})
        super().save_html(path)

    def text(self) -> str:
        if self.words:
            return self.words
        head = " · ".join([self.title, *self.facts])
        parts = [view.text() for view in (self.tokens, self.steps, *self.tensors) if view]
        return "\n".join([head, *parts, *(f"note: {each}" for each in self.notices)])

    def still(self) -> str:
        """The parts one after another; further tensors only as pictures while they are few."""
        from nnsight_magic.views.still.style import frame
        from nnsight_magic.views.still.trace import html
        from nnsight_magic.views.still.two_texts import MOST
        from nnsight_magic.views.still.two_texts import html as html_of_texts

        parts = [view.still() for view in (self.steps, self.tokens) if view]
        if self.two_texts:
            shown = "".join(html_of_texts(each) for each in self.two_texts[:MOST])
            parts.insert(int(self.steps is not None), frame(shown))
        size = 0
        for view in self.tensors:
            still = view.still() if size < STILL_BUDGET else frame(escape(view.text()))
            size += len(still)
            parts.append(still)
        if self.others:
            parts.append(
                frame(f"<div class='d'>also saved: {escape(', '.join(self.others))}</div>")
            )
        return html(self.title, self.facts, self.wrote, self.notices, parts)


def _share(selection: Selection, view: View | None) -> None:
    """Gives a view, and those that it is made of, this selection."""
    names = ("first", "second", "difference")
    for each in (view, *(getattr(view, name, None) for name in names)):
        if each is not None and each.selection is not selection:
            each.selection = selection


STILL_BUDGET = 20_000  # bytes of pictures in the still view
STORED_TOTAL = 32_000  # values that all tensors of a result store together
STORED_TENSORS = 12  # tensors of a result of which something is stored


def stored_share(count: int, place: int = 0) -> int:
    """How many values the tensor at `place` among `count` of one result may store.

    With it a result adds less than 200 kB to a notebook, whatever its tensors.
    """
    if place >= STORED_TENSORS:
        return 0
    return STORED_TOTAL // min(STORED_TENSORS, max(1, count))
