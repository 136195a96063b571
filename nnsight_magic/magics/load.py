"""Registering the magics with a shell, and taking them back."""

from __future__ import annotations

from typing import Any

from nnsight_magic.magics.completion import matcher
from nnsight_magic.magics.extension import NNsightMagic
from nnsight_magic.magics.inspection import transformer

_ATTRIBUTE = "NNsightMagic"


def load(shell: Any) -> None:
    """Registers the magics. Loading again keeps settings, the model in use and the runs."""
    before = shell.magics_manager.registry.get(_ATTRIBUTE)
    magics = NNsightMagic(shell)
    if before is not None and hasattr(before, "settings"):
        for name, value in before.settings.items():
            setattr(magics, name, value)
        magics.models.current = before.models.current
        unload(shell)
    shell.register_magics(magics)
    shell.Completer.custom_matchers.append(_marked(matcher(magics)))
    shell.input_transformers_cleanup.append(_marked(transformer(magics)))


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
    for kind in ("line", "cell"):
        for name in found.magics[kind]:
            manager.magics[kind].pop(name, None)
    for registered in (shell.Completer.custom_matchers, shell.input_transformers_cleanup):
        registered[:] = [each for each in registered if not hasattr(each, "nnsight_magic")]
