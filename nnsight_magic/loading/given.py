"""What a user gives as a model, and the model that is in it.

The field has many wrappers: a pipeline of transformers, a model of nnsight, one of our own. The
model that is meant is the torch module inside; the wrapper itself stays as it is.
"""

from __future__ import annotations

import os
from typing import Any

from torch import nn

from nnsight_magic.errors import LoadError

WHAT_TO_GIVE = (
    "Give a name or folder, a torch.nn.Module, a pipeline of transformers, or a model of nnsight."
)


def unwrap(source: Any, tokenizer: Any = None) -> tuple[Any, Any]:
    """The name, folder or torch module that is meant by `source`, and its tokenizer.

    Args:
        source: whatever stands for a model.
        tokenizer: the user's own; goes before the one that comes with `source`.

    Raises:
        LoadError: no model can be taken out of it; says what to give instead.

    >>> from torch import nn
    >>> unwrap(nn.Linear(2, 3))
    (Linear(in_features=2, out_features=3, bias=True), None)
    """
    library = type(source).__module__.partition(".")[0]
    if isinstance(source, str | os.PathLike):
        return source, tokenizer
    if library == "transformer_lens":
        raise LoadError(_another_library(source))
    if isinstance(source, nn.Module):
        return source, tokenizer
    module = _inside(source, library)
    if not isinstance(module, nn.Module):
        raise LoadError(_no_model(source))
    if library == "nnsight" and any(each.is_meta for each in module.parameters()):
        name = getattr(source, "repo_id", None)
        give = f"give the name, {name!r}" if name else "dispatch it"
        raise LoadError(
            "This model of nnsight has no weights yet: it loads them at its first trace.\n"
            f"Load it with dispatch=True, or {give}."
        )
    return module, tokenizer if tokenizer is not None else getattr(source, "tokenizer", None)


def _inside(source: Any, library: str) -> Any:
    if library == "transformers":  # a pipeline
        return getattr(source, "model", None)
    if library == "nnsight":
        return getattr(source, "_module", None)
    if library == "nnsight_magic":
        return getattr(source, "module", None)
    return None


def _another_library(source: Any) -> str:
    name = getattr(getattr(source, "cfg", None), "model_name", None)
    if name in (None, "custom"):  # what it says of a model that was configured by hand
        name = "its name"
    return (
        f"A {type(source).__name__} is TransformerLens' own form of a model, with its hooks inside."
        f"\nGive what it was made from: LanguageModel({name!r})."
    )


def _no_model(source: Any) -> str:
    kind = type(source).__name__
    if hasattr(source, "to_dict") and hasattr(source, "model_type"):
        what = "a configuration: shapes without weights"
        give = "Make a model of it first: transformers.AutoModelForCausalLM.from_config(config)."
    elif isinstance(source, dict):
        what = "a dict, of weights perhaps, and names no architecture"
        give = "Load them into a model first: model.load_state_dict(weights)."
    elif isinstance(source, type) and issubclass(source, nn.Module):
        what = "a class and not a module of it"
        kind, give = source.__name__, f"Make one: {source.__name__}(…)."
    else:
        what, give = "no model, and none can be taken out of it", WHAT_TO_GIVE
    return f"What was given as a model, a {kind}, is {what}.\n{give}"
