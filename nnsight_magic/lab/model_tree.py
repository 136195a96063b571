"""The module tree of a notebook's model, as the panel shows it."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from weakref import WeakKeyDictionary

from nnsight_magic.errors import BadInputError
from nnsight_magic.lab.told import list_in, text_in
from nnsight_magic.magics.models import title
from nnsight_magic.results.result import TraceResult
from nnsight_magic.views.data.wire import NoteForm

LAST_RUNS = 30  # that are looked at for shapes


class PanelTree:
    """The tree of one model; made once, and again when the model got other modules or weights.

    Attributes:
        version: a number that no other tree of this session has.
        wanted: paths of modules whose output is to be saved at the next run.
    """

    _versions = 0

    def __init__(self, model: Any) -> None:
        from nnsight_magic.views.data.modules import describe
        from nnsight_magic.views.live.tree import ask_besides

        PanelTree._versions += 1
        self.version = PanelTree._versions
        self.wanted: list[str] = []
        self.state = _state_of(model)
        self._model = model._root
        self.tree = describe(model._root)
        ask_besides(self)

    def wants(self, module: Any) -> list[str]:
        """Takes what is wanted of `module` at its next run, which is now."""
        if not self.wanted or module is not self._model:
            return []
        wanted, self.wanted = self.wanted, []
        return wanted

    def facts(self) -> dict[str, Any]:
        """Parameters, bytes, dtype and device of the whole."""
        kind = self.tree.kinds[self.tree.root]
        return {
            "parameters": self.tree.parameters,
            "bytes": self.tree.bytes,
            "dtype": kind.dtype,
            "device": kind.device,
        }

    def packed(self, model: Any) -> dict[str, Any]:
        """All that a tree view's state has, but for notes."""
        from nnsight_magic.engine.model.browse import aliases
        from nnsight_magic.views.data.modules import opened_first, packed_tree
        from nnsight_magic.views.live.tree import MOST

        data = zlib.compress(packed_tree(self.tree, MOST), 6)
        return {
            "version": self.version,
            "title": title(model),
            "packed": base64.b64encode(data).decode(),
            "aliases": aliases(model),
            "expanded": ["", *opened_first(self.tree)],
        }

    def kinds(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Kinds of module that rows want to show."""
        from nnsight_magic.views.data.modules import packed_kinds

        numbers = list_in(asked, "numbers", int)[:200]
        if not all(0 <= each < len(self.tree.kinds) for each in numbers):
            raise BadInputError("there is no such kind of module in this tree")
        return {"kinds": packed_kinds(self.tree, numbers)}

    def details(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Parameters and source of one module."""
        import torch

        from nnsight_magic.views.data.module_details import details

        path = text_in(asked, "path")
        try:
            module = self._model.get_submodule(path)
        except AttributeError:
            raise BadInputError(f"the model has no module {path!r} any more") from None
        with torch.no_grad():
            return {"path": path, **details(module)}

    def want(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Asks for modules' outputs at the next run, and for no others any more."""
        self.wanted = list_in(asked, "paths", str)
        return {"wanted": self.wanted}

    def notes(
        self, runs: Iterable[TraceResult], there: Callable[[str], bool]
    ) -> dict[str, NoteForm]:
        """What the last runs say of the modules; of saved tensors those that are still `there`."""
        from dataclasses import replace

        from nnsight_magic.results.as_view import notes_of
        from nnsight_magic.views.data.modules import ModuleNote, after_run, packed_notes

        notes: dict[str, ModuleNote] = {}
        for run in list(runs)[-LAST_RUNS:]:
            notes = after_run(notes, notes_of(run.record))
        for path, note in notes.items():
            kept = tuple(name for name in note.saved if there(name))
            if kept != note.saved:
                notes[path] = replace(note, saved=kept)
        return packed_notes(notes, self.tree)


def _state_of(model: Any) -> tuple[Any, ...]:
    """Changes where a tree would say something else: other modules, weights loaded or moved."""
    first = next(model._root.parameters(), None)
    where = None if first is None else (str(first.device), first.dtype)
    return id(model._root), where


class Trees:
    """The trees of the notebook's models, none longer than its model lives."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Any, PanelTree] = WeakKeyDictionary()

    def of(self, model: Any) -> PanelTree:
        """The tree of a model; what was wanted of the one before stays wanted."""
        known = self._known.get(model)
        if known is None or known.state != _state_of(model):
            tree = PanelTree(model)
            tree.wanted = known.wanted if known is not None else []
            self._known[model] = known = tree
        return known
