"""Registering the magics with a shell, and taking them back."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from IPython.core import completer

from nnsight_magic.magics.errors_shown import ipython_shows_notes, print_notes
from nnsight_magic.magics.extension import Gathered, NNsightMagic
from nnsight_magic.magics.inspection import empty_cells, misplaced_cells, transformer

_ATTRIBUTE = "NNsightMagic"
# What the magics of a shell had gathered when they were unloaded: `%reload_ext` unloads first.
_gathered: WeakKeyDictionary[Any, Gathered] = WeakKeyDictionary()


def load(shell: Any) -> None:
    """Registers the magics. Loading again keeps settings, the model in use and the runs."""
    unload(shell)
    magics = NNsightMagic(shell)
    if shell in _gathered:
        magics.take_over(_gathered.pop(shell))
    shell.register_magics(magics)
    if _completes(shell):
        from nnsight_magic.magics.completion import matcher

        shell.Completer.custom_matchers.append(_marked(matcher(magics)))
    shell.input_transformers_cleanup.append(_marked(transformer(magics)))
    shell.input_transformers_cleanup.append(_marked(empty_cells))
    shell.input_transformers_cleanup.append(_marked(misplaced_cells))
    shell.events.register("post_run_cell", magics.release_gone)
    if not ipython_shows_notes():
        shell.events.register("post_run_cell", print_notes)


def _completes(shell: Any) -> bool:
    """Whether the shell's completer takes matchers of others: from IPython 8.6 on.

    Colab has IPython 7, where all runs but the completion of paths in cells.
    """
    return hasattr(getattr(shell, "Completer", None), "custom_matchers") and hasattr(
        completer, "context_matcher"
    )


def _marked(function: Any) -> Any:
    """Marked as ours, so that it is found again when the extension is unloaded."""
    function.nnsight_magic = True
    return function


def unload(shell: Any) -> None:
    """Takes the magics back."""
    manager = shell.magics_manager
    found = manager.registry.pop(_ATTRIBUTE, None)
    if found is None:
        return
    _gathered[shell] = found.gathered
    for callback in (found.release_gone, print_notes):
        if callback in shell.events.callbacks["post_run_cell"]:
            shell.events.unregister("post_run_cell", callback)
    for kind in ("line", "cell"):
        for name in found.magics[kind]:
            manager.magics[kind].pop(name, None)
    matchers = getattr(shell.Completer, "custom_matchers", [])
    for registered in (matchers, shell.input_transformers_cleanup):
        registered[:] = [each for each in registered if not hasattr(each, "nnsight_magic")]
