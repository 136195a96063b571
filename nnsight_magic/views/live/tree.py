"""The module tree in the notebook."""

from __future__ import annotations

import inspect
import textwrap
import weakref
import zlib
from collections.abc import Callable, Mapping
from typing import Any

import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.array import Array, GoneError
from nnsight_magic.views.data.modules import (
    ModuleNote,
    ModuleTree,
    after_run,
    describe,
    packed_kinds,
    packed_notes,
    packed_tree,
)
from nnsight_magic.views.live.view import Answer, ShownText, View

MOST = 600_000  # bytes of JSON that come at once; packed, a fifth of it
SOURCE = 20_000  # characters


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
        state.setdefault("expanded", ["", *_opened_first(tree)])
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
        module = self.module_at(path)
        own = [*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)]
        tensors = [_summary(name, tensor) for name, tensor in own[:64]]
        source, place = forward_source(module)
        return {"path": path, "tensors": tensors, "source": source, "where": place}, []

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


_alive: weakref.WeakSet[TreeView] = weakref.WeakSet()


def take_wanted(module: Any) -> list[str]:
    """Paths whose outputs were asked for in any tree of `module`, for the run that now begins."""
    wanted = [path for tree in list(_alive) for path in tree.wants(module)]
    return list(dict.fromkeys(wanted))


def tell_trees(module: Any, notes: Mapping[str, ModuleNote]) -> None:
    """A run of `module` has ended: the trees that follow it show what it says."""
    for tree in list(_alive):
        if tree.follows and tree._module is not None and tree._module() is module:
            tree.add_run(notes)


def _opened_first(tree: ModuleTree) -> list[str]:
    """The path down to where the model branches out: mostly the one module with all blocks."""
    path, number, found = "", tree.root, []
    while True:
        children = tree.kinds[number].children
        if not children:
            return found
        name, number_below = max(children, key=lambda child: tree.kinds[child[1]].parameters)
        below = tree.kinds[number_below]
        if len(found) > 3 or len(below.children) < 2 or _repeats(below.children):
            return found
        if len(children) > 8:
            return found
        path, number = (f"{path}.{name}" if path else name), number_below
        found.append(path)


def _repeats(children: tuple[tuple[str, int], ...]) -> bool:
    return len(children) > 1 and all(name.isdecimal() for name, _ in children)


def _summary(name: str, tensor: Any) -> dict[str, Any]:
    """A parameter or buffer with its statistics, where it has values."""
    facts: dict[str, Any] = {
        "name": name,
        "shape": list(tensor.shape),
        "dtype": str(tensor.dtype).removeprefix("torch."),
        "device": str(tensor.device),
        "grad": bool(tensor.requires_grad),
    }
    if not tensor.is_meta and tensor.numel():
        facts["stats"] = Array(tensor.detach()).statistics("abs" if tensor.is_complex() else "real")
    return facts


def forward_source(module: Any) -> tuple[str, str]:
    """The text of a module's `forward` and the file and line it is at; "" where it has none."""
    import torch

    forward = getattr(module.forward, "__func__", module.forward)
    forward = inspect.unwrap(forward)
    if forward is torch.nn.Module.forward:  # of a container, which only raises
        return "", ""
    try:
        lines, first = inspect.getsourcelines(forward)
        file = inspect.getsourcefile(forward) or ""
    except (OSError, TypeError):
        return "", ""
    return textwrap.dedent("".join(lines))[:SOURCE], f"{file}:{first}"


def tree_view(model: Any, title: str = "", **options: Any) -> TreeView:
    """The tree of a `torch.nn.Module`, or of a `ModuleTree`.

    See `TreeView` for what can be given.
    """
    if isinstance(model, ModuleTree):
        return TreeView(model, title, **options)
    if not hasattr(model, "_modules"):
        raise BadInputError(f"found {type(model).__name__}; a torch.nn.Module has a tree")
    return TreeView(describe(model), title, module=model, **options)
