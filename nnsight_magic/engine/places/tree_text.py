"""The module tree as text, as torch prints it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from nnsight_magic.numbered import runs
from nnsight_magic.printable import printable

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Tree


def tree_text(handle: Tree) -> str:
    """The tree as torch prints it, attached modules included."""
    module = handle.ancestors()[-1]
    prefix = f"{handle.path}." if handle.path else ""
    if not any(path.startswith(prefix) for path in handle._model._handles.attached):
        return printable(repr(module))
    rows = [(name, tree_text(handle._child(name))) for name in handle._children()]
    if isinstance(module, nn.ModuleList):
        rows = _alike_together(rows)
    lines = [f"({printable(name)}): {text}" for name, text in rows]
    extra = module.extra_repr()
    body = "\n".join([*([extra] if extra else []), *lines]).replace("\n", "\n  ")
    return f"{type(module).__name__}(\n  {body}\n)"


def _alike_together(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Equal modules that follow each other in one entry, `(0-4): 5 x …`."""
    return [
        (run.first, run.item)
        if run.count == 1
        else (f"{run.first}-{run.last}", f"{run.count} x {run.item}")
        for run in runs(rows)
    ]
