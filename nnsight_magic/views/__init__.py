"""Views of tensors, modules, tokens and generations, for the notebook and for pages.

Each is usable alone from Python:

    from nnsight_magic.views import show
    show(tensor, "attention", tokens=tokens)

They know values only: tensors, texts and the dataclasses of this package.
"""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "ModuleNote": "modules",
    "ModuleTree": "modules",
    "TensorView": "tensor",
    "TreeView": "tree",
    "describe": "modules",
    "show": "tensor",
    "tree_view": "tree",
    "Selection": "view",
    "View": "view",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
