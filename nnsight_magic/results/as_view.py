"""A result as a live view: tokens with predictions, steps, saved tensors, modules."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from nnsight_magic.engine.model.browse import tree_of
from nnsight_magic.results.as_text import plain_text
from nnsight_magic.results.labels import labels_of
from nnsight_magic.results.parts import (
    facts,
    names_of,
    others,
    prompt_with_steps,
    run_in_words,
    steps_in,
    strips_of,
    strips_of_two,
    texts_of,
)
from nnsight_magic.results.record import RunRecord, SavedVariable
from nnsight_magic.views.data.modules import ModuleNote
from nnsight_magic.views.live.comparison import CompareView
from nnsight_magic.views.live.steps import StepsView
from nnsight_magic.views.live.tensor import TensorView
from nnsight_magic.views.live.tokens import TokensView
from nnsight_magic.views.live.trace import TraceView, stored_share
from nnsight_magic.views.live.tree import TreeView, tell_trees
from nnsight_magic.views.live.view import Selection


class OnScreen:
    """Where one result is shown: the view that was made last, and what a new one needs.

    `live` is a view that is on the screen already, since a generation streamed into it.
    """

    def __init__(self, model: Any) -> None:
        self._model = weakref.ref(model)
        self._view: TraceView | None = None
        self.live: TraceView | None = None

    def view(self, record: RunRecord) -> TraceView:
        if self._view is None:
            self._view = view_of(record, lambda: tree_after(self._model(), record))
        return self._view

    def show(self, record: RunRecord) -> None:
        """Shows the result; where its live view is there already, that is filled."""
        from nnsight_magic.views.display import show_still, show_view

        model = self._model()
        if model is not None:
            tell_trees(model.module, notes_of(record))
        if self.live is None:
            show_view(self.view(record))
            return
        self._view, self.live = self.live, None
        fill(self._view, record, lambda: tree_after(self._model(), record))
        show_still(self._view)


def view_of(record: RunRecord, make_tree: Callable[[], TreeView | None] | None = None) -> TraceView:
    """A new view of a result."""
    selection = Selection()
    return TraceView(
        f"run {record.number}",
        facts(record),
        wrote=record.wrote,
        notices=record.notices,
        tokens=tokens_of(record, selection),
        steps=steps_of(record, selection),
        tensors=tensors_of(record, selection),
        texts=texts_of(record),
        others=others(record),
        make_tree=make_tree,
        words=plain_text(record),
        selection=selection,
    )


def fill(view: TraceView, record: RunRecord, make_tree: Callable[[], TreeView | None]) -> None:
    """Puts a result into the view that its generation streamed into."""
    selection = view.selection
    prompt = prompt_with_steps(record)
    steps: Any = view.steps
    if prompt is not None and steps is not None:
        steps.replace(steps_in(record, prompt))
    view.facts, view.wrote = facts(record), list(record.wrote)
    view.notices, view.others = list(record.notices), others(record)
    view.put(tokens=tokens_of(record, selection), tensors=tensors_of(record, selection))
    view.put_texts(texts_of(record))
    view.grow(make_tree)
    view.words = plain_text(record)


# -- tokens and steps -------------------------------------------------------------------------


def tokens_of(record: RunRecord, selection: Any) -> TokensView | None:
    """The prompts; the one that the writes changed most is looked at first."""
    strips = strips_of(record)
    if not strips:
        return None
    changed = [max((kl for kl in strip.kl if kl == kl), default=0.0) for strip in strips]
    return TokensView(strips, strip=changed.index(max(changed)), selection=selection)


def steps_of(record: RunRecord, selection: Any) -> StepsView | None:
    prompt = prompt_with_steps(record)
    if prompt is None:
        return None
    name = names_of(record)[0]
    return StepsView(list(prompt.tokens), steps_in(record, prompt), name, selection=selection)


# -- tensors ----------------------------------------------------------------------------------


def tensors_of(record: RunRecord, selection: Any) -> list[TensorView]:
    """Viewers of the saved tensors, and lists of them, that are still there, within the result's
    share of a file."""
    parts = [part for each in record.saved for part in each.parts or (each,)]
    alive = [each for each in parts if each.drawable is not None]
    return [
        tensor_of(record, each, selection, stored_share(len(alive), place))
        for place, each in enumerate(alive)
    ]


def tensor_of(record: RunRecord, saved: SavedVariable, selection: Any, stored: int) -> TensorView:
    return TensorView(
        saved.drawable,
        saved.name,
        **labels_of(record, saved),
        expression=saved.where,
        weak=True,
        stored=stored,
        module=module_of(record, saved),
        selection=selection,
    )


def module_of(record: RunRecord, saved: SavedVariable) -> str:
    """The real path of the module whose value was saved; "" where there are none or several."""
    return saved.modules[0] if len(saved.modules) == 1 else ""


# -- modules ----------------------------------------------------------------------------------


def tree_after(model: Any, record: RunRecord) -> TreeView | None:
    """The model's tree, with what the run says about its modules."""
    if model is None:
        return None
    return tree_of(model, title=record.model.name, notes=notes_of(record))


def notes_of(record: RunRecord) -> dict[str, ModuleNote]:
    notes: dict[str, dict[str, Any]] = {}
    for each in record.modules:
        note = notes.setdefault(each.path, {"saved": ()})
        if each.shape is not None:
            note[each.kind] = str(tuple(each.shape))
        note["wrote"] = note.get("wrote", False) or each.wrote
    for saved in record.saved:
        for path in saved.modules:
            note = notes.setdefault(path, {})
            note["saved"] = (*note.get("saved", ()), saved.name)
    for path in record.ran.idle:
        notes.setdefault(path, {})["idle"] = True
    return {path: ModuleNote(**note) for path, note in notes.items()}


# -- two runs ---------------------------------------------------------------------------------


def comparison_of(first: RunRecord, second: RunRecord) -> TraceView:
    """Two runs: each prompt with both predictions, and what both saved with its difference."""
    selection = Selection()
    titles = f"run {first.number}", f"run {second.number}"
    strips, notices = strips_of_two(first, second, titles), []
    tensors = []
    others_by_name = {each.name: each for each in second.saved}
    pairs = [
        (each, others_by_name[each.name]) for each in first.saved if each.name in others_by_name
    ]
    for one, other in pairs:
        a, b = one.tensor, other.tensor
        if a is None or b is None:
            notices.append(
                f"{one.name} of {titles[a is not None]} is no longer there; save it under another "
                "name in one of the cells, and it can be compared"
            )
        elif a.shape != b.shape:
            notices.append(f"{one.name} has shapes {tuple(a.shape)} and {tuple(b.shape)}")
        else:
            share = stored_share(len(pairs), len(tensors))
            tensors.append(
                CompareView(
                    a,
                    b,
                    one.name,
                    names=titles,
                    stored=share,
                    selection=selection,
                    **labels_of(first, one),
                )
            )
    return TraceView(
        f"{titles[0]} and {titles[1]}",
        [f"{t}: {run_in_words(r)}" for t, r in zip(titles, (first, second), strict=True)],
        notices=notices,
        tokens=TokensView(strips, selection=selection) if strips else None,
        tensors=tensors,
        selection=selection,
    )
