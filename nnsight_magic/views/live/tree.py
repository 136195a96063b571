"""The module tree in the notebook."""

from __future__ import annotations

import weakref
import zlib
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import traitlets

from nnsight_magic.errors import BadInputError, GoneError
from nnsight_magic.views.data.module_details import details
from nnsight_magic.views.data.modules import (
    ModuleNote,
    ModuleTree,
    after_run,
    describe,
    opened_first,
    packed_kinds,
    packed_notes,
    packed_tree,
)
from nnsight_magic.views.live.view import Answer, ShownText, View

MOST = 600_000  # bytes of JSON that come at once; packed, a fifth of it


class TreeView(View):
    """The modules of a model.

    Attributes:
        expanded: paths of modules that are open.
        query: what is searched for.
        wanted: paths of modules whose output is to be saved at the next run.
        selection.module: the path of the selected module.
        notes: shapes and badges by path, as `set_notes` packs them.
    """

    title = ShownText().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    notes = traitlets.Dict().tag(sync=True)
    aliases = traitlets.Dict().tag(sync=True)
    expanded = traitlets.List(traitlets.Unicode()).tag(sync=True)
    query = traitlets.Unicode().tag(sync=True)
    wanted = traitlets.List(traitlets.Unicode()).tag(sync=True)
    words = ""  # the tree as text, where somebody says it better
    follows = False  # whether it takes up what every later run says of its modules

    def __init__(
        self,
        tree: ModuleTree,
        title: str = "",
        *,
        module: Any = None,
        notes: Mapping[str, ModuleNote] | None = None,
        aliases: Mapping[str, str] | None = None,
        **state: Any,
    ) -> None:
        self.tree = tree
        self._noted = dict(notes or {})
        self._module = weakref.ref(module) if module is not None else None
        kind = tree.kinds[tree.root]
        state.setdefault("expanded", ["", *opened_first(tree)])
        super().__init__(
            kind="tree",
            title=title or kind.class_name,
            packed=zlib.compress(packed_tree(tree, MOST), 6),
            notes=packed_notes(notes or {}, tree),
            aliases=dict(aliases or {}),
            **state,
        )
        _alive.add(self)

    def wants(self, module: Any) -> list[str]:
        """Takes what is wanted of `module` at its next run, which is now."""
        if not self.wanted or self._module is None or self._module() is not module:
            return []
        wanted, self.wanted = self.wanted, []
        return wanted

    def set_notes(self, notes: Mapping[str, ModuleNote]) -> None:
        """Shapes and badges of the last run, by module path."""
        self._noted = dict(notes)
        self.notes = packed_notes(notes, self.tree)

    def follow(self, find: Callable[[], Any]) -> None:
        """Be the tree of whatever module `find` gives, and show what each of its runs says.

        A model that is loaded when it is first run has other modules then.
        """
        self._module, self.follows = find, True

    def add_run(self, notes: Mapping[str, ModuleNote]) -> None:
        """What a further run says: shapes and saved tensors that it does not speak of stay."""
        self.set_notes(after_run(self._noted, notes))

    # -- questions from the browser -----------------------------------------------------------

    @property
    def answers(self) -> dict[str, Callable[[dict[str, Any]], Answer]]:
        return {"details": self._details, "kinds": self._kinds}

    def _kinds(self, asked: dict[str, Any]) -> Answer:
        numbers = [int(each) for each in asked["numbers"]][:200]
        if not all(0 <= each < len(self.tree.kinds) for each in numbers):
            raise BadInputError("there is no such kind of module in this tree")
        return {"kinds": packed_kinds(self.tree, numbers)}, []

    def _details(self, asked: dict[str, Any]) -> Answer:
        path = str(asked["path"])
        return {"path": path, **details(self.module_at(path))}, []

    def module_at(self, path: str) -> Any:
        """The live module at a path; raises when the model is gone or has no such module."""
        if self._module is None:
            raise BadInputError("this tree was made without its model: no weights to look at")
        module = self._module()
        if module is None:
            raise GoneError("the model was deleted: its tree is here, its weights are not")
        try:
            return module.get_submodule(path)
        except AttributeError:
            raise BadInputError(f"the model has no module {path!r} any more") from None

    # -- without a kernel ---------------------------------------------------------------------

    def text(self) -> str:
        if self.words:
            return self.words
        from nnsight_magic.views.still.tree import text

        return text(self.tree, self.title)

    def still(self) -> str:
        from nnsight_magic.views.still.tree import html

        return html(self.tree, self.title)


class Asks(Protocol):
    """Something besides a view in which modules' outputs can be asked for."""

    def wants(self, module: Any) -> list[str]:
        """Takes what is wanted of `module` at its next run, which is now."""
        ...


_alive: weakref.WeakSet[TreeView] = weakref.WeakSet()
_besides: weakref.WeakSet[Asks] = weakref.WeakSet()


def ask_besides(asks: Asks) -> None:
    """From now on, and as long as it lives, outputs can be asked for in `asks` too."""
    _besides.add(asks)


def take_wanted(module: Any) -> list[str]:
    """Paths whose outputs were asked for in any tree of `module`, for the run that now begins."""
    wanted = [path for tree in [*_alive, *_besides] for path in tree.wants(module)]
    return list(dict.fromkeys(wanted))


def tell_trees(module: Any, notes: Mapping[str, ModuleNote]) -> None:
    """A run of `module` has ended: the trees that follow it show what it says."""
    for tree in list(_alive):
        if tree.follows and tree._module is not None and tree._module() is module:
            tree.add_run(notes)


def tree_view(model: Any, title: str = "", **options: Any) -> TreeView:
    """The tree of a `torch.nn.Module`, or of a `ModuleTree`.

    See `TreeView` for what can be given.
    """
    if isinstance(model, ModuleTree):
        return TreeView(model, title, **options)
    if not hasattr(model, "_modules"):
        raise BadInputError(f"found {type(model).__name__}; a torch.nn.Module has a tree")
    return TreeView(describe(model), title, module=model, **options)
