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
    "CompareView": "live.comparison",
    "GridView": "live.tokens",
    "ModuleNote": "data.modules",
    "ModuleTree": "data.modules",
    "Selection": "live.view",
    "Step": "data.strips",
    "StepsView": "live.steps",
    "TensorView": "live.tensor",
    "TokenStrip": "live.tokens",
    "TokensView": "live.tokens",
    "TraceView": "live.trace",
    "TreeView": "live.tree",
    "View": "live.view",
    "compare": "live.comparison",
    "describe": "data.modules",
    "likeliest": "data.strips",
    "show": "live.tensor",
    "tokens_view": "live.tokens",
    "tree_view": "live.tree",
}
__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return __all__
