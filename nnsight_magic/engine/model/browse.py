"""`model.tree()`: the modules in a view that can be opened, searched and walked."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.places.standard_names import ROOT_NAMES
from nnsight_magic.engine.running.scan import Scan, Scanned, Shape

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root
    from nnsight_magic.views.data.modules import ModuleNote
    from nnsight_magic.views.live.tree import TreeView


def tree_of(
    model: Root,
    scanned: Scan | None = None,
    title: str = "",
    notes: Mapping[str, ModuleNote] | None = None,
) -> TreeView:
    """The tree of a model: as `notes` tell of one run, or else following every run to come.

    Nothing is loaded: a model whose weights are not there yet shows its modules without numbers.
    """
    # Here, since an engine without a notebook needs no widgets.
    from nnsight_magic.views.live.tree import tree_view

    told = notes or ({} if scanned is None else shapes(scanned))
    tree = tree_view(model._root, title, notes=told, aliases=aliases(model))
    if notes is None:
        known = weakref.ref(model)
        tree.follow(lambda: getattr(known(), "_root", None))
    return tree


def aliases(model: Root) -> dict[str, str]:
    """Standard names by the real paths that they are for."""
    names = model.names
    paths = {name: names.path_of(name) for name in ROOT_NAMES}
    return {path: name for name, path in paths.items() if path}


def shapes(scanned: Scan) -> dict[str, ModuleNote]:
    """What every module takes and gives, as the tree shows it; what did not run is idle."""
    from nnsight_magic.views.data.modules import ModuleNote

    def note(each: Scanned) -> ModuleNote:
        return ModuleNote(input=_shape(each.input), output=_shape(each.output))

    return {path: note(each) for path, each in scanned.items()}


def _shape(value: Any) -> str:
    """The shape of a tensor, or of the first one in a tuple or model output."""
    if isinstance(value, Shape):
        return str(value.shape)
    if isinstance(value, torch.Tensor):
        return str(tuple(value.shape))
    items = value.values() if isinstance(value, dict) else value
    if isinstance(items, str) or not hasattr(items, "__iter__"):
        return ""
    return next((found for found in map(_shape, items) if found), "")
