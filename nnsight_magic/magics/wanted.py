"""Outputs that were asked for in a module tree: kept at the next run of the model, whatever its
cell does."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

from nnsight_magic.engine.lifeline import watched_exit
from nnsight_magic.errors import NnsightError
from nnsight_magic.language.keep import Saved, kept, stacked
from nnsight_magic.magics.result import ModuleTouch


def asked_for(trace: Any, cell: Any) -> Any:
    """The trace, which keeps in `cell.wanted` what trees of the model ask for."""
    trees = sys.modules.get("nnsight_magic.views.tree")
    asked = trees.take_wanted(cell.model.module) if trees is not None else []
    # A tree may be older than the model that it is a tree of, and the page may ask for anything.
    there = {path for path, _ in cell.model.module.named_modules()}
    paths = [path for path in asked if path in there]
    if gone := [path for path in asked if path not in there]:
        cell.outcome.notices.append(
            f"Asked for in a tree, and not in the model: {', '.join(gone[:3])}."
        )
    return _Asked(trace, cell, paths) if paths else trace


class _Asked:
    """A trace whose tracer caches some modules."""

    def __init__(self, trace: Any, cell: Any, paths: list[str]) -> None:
        self.trace, self.cell, self.paths = trace, cell, paths
        self.stack = contextlib.ExitStack()
        self._lifeline: Any = None  # see `engine.lifeline`

    def __enter__(self) -> Any:
        with contextlib.ExitStack() as stack:
            tracer = stack.enter_context(self.trace)
            handles = [self.cell.model[path] for path in self.paths]
            self.cell.wanted = {handle: tracer.cache(modules=[handle]) for handle in handles}
            self.stack = stack.pop_all()
        return tracer

    @watched_exit
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
        stopped = self.stack.__exit__(kind, error, traceback)
        self._lifeline = None
        return stopped

    def _abandon(self) -> None:
        self._lifeline = None
        self.stack.close()


def gathered(wanted: dict[Any, Any]) -> dict[Any, Any]:
    """What the modules gave, by handle; runs the forward as far as it takes."""
    found = {}
    for handle, cache in wanted.items():
        if len(cache):
            value = cache[handle].output
            found[handle] = stacked(value) if isinstance(value, list) else value
            continue
        with contextlib.suppress(NnsightError):  # a module that this forward never reaches
            found[handle] = handle.output
    return found


def keep_wanted(cell: Any, found: dict[str, Any]) -> tuple[ModuleTouch, ...]:
    """Puts them into the notebook: `layers[3].mlp` as `layers_3_mlp_output`; what was touched."""
    touched = []
    for handle, value in found.get("wanted", {}).items():
        name = re.sub(r"\W+", "_", f"{handle.name}_output").strip("_")
        value = kept(value)
        cell.namespace[name] = value
        cell.outcome.saved += (Saved(name, f"{handle.name}.output", value),)
        shape = getattr(value, "shape", None)
        touched.append(ModuleTouch(handle.path, handle.name, "output", shape, False))
    return tuple(touched)
