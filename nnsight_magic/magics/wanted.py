"""Outputs that were asked for in a module tree: kept at the next run of the model, whatever its
cell does."""

from __future__ import annotations

import contextlib
import re
import sys
from typing import Any

from nnsight_magic.engine.running.lifeline import watched_exit
from nnsight_magic.engine.values.containers import copy_tree
from nnsight_magic.errors import NnsightError
from nnsight_magic.language.keep import Saved, stacked, without_run
from nnsight_magic.magics.cell import Running
from nnsight_magic.results.record import ModuleTouch


def asked_for(trace: Any, running: Running) -> Any:
    """The trace, which keeps in `running.wanted` what trees of the model ask for."""
    model = running.asked.model
    trees = sys.modules.get("nnsight_magic.views.live.tree")
    asked = trees.take_wanted(model.module) if trees is not None else []
    # A tree may be older than the model that it is a tree of, and the page may ask for anything.
    there = {path for path, _ in model.module.named_modules()}
    paths = [path for path in asked if path in there]
    if gone := [path for path in asked if path not in there]:
        running.outcome.notices.append(
            f"Asked for in a tree, and not in the model: {', '.join(gone[:3])}."
        )
    return _Watched(trace, running, paths) if paths else trace


class _Watched:
    """A trace of which some modules' outputs are kept as the forward comes past them."""

    def __init__(self, trace: Any, running: Running, paths: list[str]) -> None:
        self.trace, self.running, self.paths = trace, running, paths
        self.stack = contextlib.ExitStack()
        self._lifeline: Any = None  # see `engine.lifeline`

    def __enter__(self) -> Any:
        with contextlib.ExitStack() as stack:
            tracer = stack.enter_context(self.trace)
            wanted, model = self.running.wanted, self.running.asked.model
            wanted.update((model[path], {}) for path in self.paths)
            tracer.show_passing(wanted, self._keep)
            self.stack = stack.pop_all()
        return tracer

    def _keep(self, handle: Any, site: Any, value: Any) -> None:
        """A forward that comes by a second time gives the same anew, or what is written there."""
        if handle.is_block and isinstance(value, tuple | list) and value:
            value = value[0]  # the hidden states, as `.output` of a block has them
        self.running.wanted[handle][site.step, site.call] = copy_tree(value)

    @watched_exit
    def __exit__(self, kind: Any, error: Any, traceback: Any) -> Any:
        stopped = self.stack.__exit__(kind, error, traceback)
        self._lifeline = None
        return stopped

    def _abandon(self) -> None:
        self._lifeline = None
        self.stack.close()


def gathered(running: Running) -> dict[Any, Any]:
    """What the modules gave, by handle: of several calls all, in their order.

    For those that the forward has not come to yet it is run as far as the furthest of them.
    """
    found, silent = {}, []
    for handle, calls in running.wanted.items():
        if not calls:
            try:
                found[handle] = handle.output
            except NnsightError:  # a module that this forward never reaches
                silent.append(handle.name)
                continue
        values = [calls[at] for at in sorted(calls)] or [found[handle]]
        found[handle] = values[0] if len(values) == 1 else stacked(values)
    if silent:
        running.outcome.notices.append(
            f"Asked for in a tree, and without an output in this run: {', '.join(silent[:3])}."
        )
    return found


def keep_wanted(running: Running, wanted: dict[Any, Any]) -> tuple[ModuleTouch, ...]:
    """Puts them into the notebook: `layers[3].mlp` as `layers_3_mlp_output`; what was touched."""
    touched = []
    for handle, value in wanted.items():
        name = re.sub(r"\W+", "_", f"{handle.name}.output").strip("_")
        value = without_run(value)
        running.asked.namespace[name] = value
        running.outcome.saved += (Saved(name, f"{handle.name}.output", value, (handle.path,)),)
        shape = getattr(value, "shape", None)
        touched.append(ModuleTouch(handle.path, handle.name, "output", shape, False))
    return tuple(touched)
