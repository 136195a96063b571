"""Look inside a language model's forward pass, one notebook cell at a time.

`%load_ext nnsight_magic` gives the magics; `LanguageModel` is the same as a Python API. Neither
torch nor transformers is imported before a model is loaded.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, TypeVar

from nnsight_magic.version import __version__

if TYPE_CHECKING:
    from nnsight_magic.engine.model.language_model import LanguageModel
    from nnsight_magic.engine.model.model import Model
    from nnsight_magic.errors import NnsightError

__all__ = ["LanguageModel", "Model", "NnsightError", "__version__", "save"]

T = TypeVar("T")

_HOMES = {
    "LanguageModel": "nnsight_magic.engine.model.language_model",
    "Model": "nnsight_magic.engine.model.model",
    "NnsightError": "nnsight_magic.errors",
}
# What users of nnsight import; see docs/coming-from-nnsight.md.
_CALLED_OTHERWISE = {
    "Envoy": ("nnsight_magic.engine.places.handle", "Handle"),
    "NNsight": ("nnsight_magic.engine.model.model", "Model"),
}
_SPELLINGS = frozenset(
    ["CONFIG", "apply", "dict", "float", "int", "list", "log", "set", "str", "tuple"]
)


def __getattr__(name: str) -> Any:
    if name in _SPELLINGS or name in _CALLED_OTHERWISE:
        return _spelling(name)
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def _spelling(name: str) -> Any:
    # Not kept among the globals: `list` and `int` mean Python's own in this file.
    if name in _CALLED_OTHERWISE:
        home, own_name = _CALLED_OTHERWISE[name]
        return getattr(importlib.import_module(home), own_name)
    spellings = importlib.import_module("nnsight_magic.engine.places.spellings")
    return spellings.SAVED.get(name) or getattr(spellings, name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def save(value: T) -> T:
    """`value.save()`, for values and for containers of them."""
    keep = getattr(value, "save", None)
    return value if keep is None else keep()


def load_ipython_extension(shell: Any) -> None:
    """`%load_ext nnsight_magic`: registers magics and completion; JupyterLab's panel may ask."""
    from nnsight_magic.lab.load import load as load_panel
    from nnsight_magic.magics.load import load

    load(shell)
    load_panel(shell)


def unload_ipython_extension(shell: Any) -> None:
    """`%unload_ext nnsight_magic`: takes them back."""
    from nnsight_magic.lab.load import unload as unload_panel
    from nnsight_magic.magics.load import unload

    unload_panel(shell)
    unload(shell)
