"""Which model a magic runs: the notebook's variables are the registry.

Nothing is kept besides a name, so that `del model` and `%reset` free what they should.
"""

from __future__ import annotations

import sys
import textwrap
from typing import Any

from nnsight_magic.errors import NoModelError
from nnsight_magic.language.tree import children, kind_of
from nnsight_magic.near import did_you_mean, listing
from nnsight_magic.numbered import runs
from nnsight_magic.printable import printable


class Models:
    """The models among the notebook's variables, and the name of the one that is used."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.current: str | None = None

    def all(self) -> dict[str, Any]:
        """Every wrapped model of the notebook by its variable's name."""
        engine = sys.modules.get("nnsight_magic.engine.model.model")
        if engine is None:  # nothing has loaded the engine, so there is no model
            return {}
        return {
            name: value
            for name, value in list(self.namespace.items())
            if not name.startswith("_") and isinstance(value, engine.Model)
        }

    def find(self, name: str | None = None) -> tuple[str, Any]:
        """The model of that name, or the one in use; with its name.

        Raises `NoModelError` with what there is.
        """
        models = self.all()
        if name is not None:
            if name in models:
                return name, models[name]
            adopted = self._adopted(name)
            if adopted is not None:
                return name, adopted
            near = did_you_mean(name, models)
            raise NoModelError(
                f"no model {name!r} in the notebook; "
                + (near or f"load one: %model {name}{self._there_are(models)}")
            )
        if self.current in models:
            return self.current, models[self.current]
        if "model" in models:
            return "model", models["model"]
        if len(set(map(id, models.values()))) == 1:
            return next(iter(models.items()))
        if models:
            raise NoModelError(
                f"several models are loaded ({listing(models)}); pick one with -m NAME"
            )
        raise NoModelError("no model is loaded; load one first: %model demo")

    def _adopted(self, name: str) -> Any:
        """A torch module of the notebook, wrapped for this use."""
        torch = sys.modules.get("torch")
        value = self.namespace.get(name)
        if torch is None or not isinstance(value, torch.nn.Module):
            return None
        return adopt(value, self.namespace)

    @staticmethod
    def _there_are(models: dict[str, Any]) -> str:
        return f" (loaded: {listing(models)})" if models else ""


def adopt(module: Any, namespace: dict[str, Any]) -> Any:
    """Wraps a model object of the notebook; the notebook's `tokenizer` goes with it."""
    from nnsight_magic.engine.model.language_model import LanguageModel
    from nnsight_magic.engine.model.model import Model

    if hasattr(module, "config") and hasattr(module.config, "vocab_size"):
        tokenizer = namespace.get("tokenizer")
        return LanguageModel(module, tokenizer if hasattr(tokenizer, "decode") else None)
    return Model(module)


def load(source: str, namespace: dict[str, Any], device: str | None, dtype: str | None) -> Any:
    """The model that `%model SOURCE` means: a variable of the notebook, or a name or path."""
    from nnsight_magic.engine.model.language_model import LanguageModel
    from nnsight_magic.engine.model.model import Model

    value = namespace.get(source)
    if isinstance(value, Model):
        model = value
    elif value is not None and type(value).__module__ != "builtins":
        import torch

        if not isinstance(value, torch.nn.Module):
            raise NoModelError(
                f"the notebook's {source!r} is a {type(value).__name__}, not a model; "
                "give a model, a hub name, a folder or a GGUF file"
            )
        model = adopt(value, namespace)
    else:
        source = value if isinstance(value, str) else source
        return LanguageModel(source, device_map=device, dtype=dtype, dispatch=True)
    if device is not None or dtype is not None:
        model.module.to(device=device, dtype=_dtype(dtype))
    return model


def _dtype(name: str | None) -> Any:
    if name is None:
        return None
    import torch

    found = getattr(torch, name, None)
    if not isinstance(found, torch.dtype):
        raise NoModelError(f"no dtype {name!r}; such as float32, bfloat16, float16")
    return found


def title(model: Any) -> str:
    """What a model is called in results: its source, or its class."""
    source = getattr(model, "_source", None)
    name = getattr(source, "name", None)
    return str(name) if name else kind_of(model)


def tree(model: Any, depth: int = 3) -> str:
    """The module tree in a few lines: equal neighbours stand together."""
    lines: list[str] = []

    def walk(handle: Any, label: str, indent: int) -> None:
        lines.append(f"{'  ' * indent}{label}  {kind_of(handle)}".rstrip())
        if indent >= depth:
            return
        for run in runs(children(handle).items(), kind_of):
            walk(run.item, run.label if run.count > 1 else run.first, indent + 1)

    walk(model, "", 0)
    return printable("\n".join(line for line in lines if line))


def tree_view(model: Any, words: str) -> Any:
    """The tree as a view, before anything ran; `words` is what says the same as text."""
    from nnsight_magic.engine.model.browse import tree_of

    view = tree_of(model, title=title(model))
    view.words = words
    return view


def names_line(model: Any) -> str:
    """Which standard names stand for which modules."""
    shown = []
    for name in ("embed", "layers", "norm", "unembed"):
        path = model.names.path_of(name)
        if path is not None:
            many = f"[0 … {len(model.blocks) - 1}]" if name == "layers" else ""
            shown.append(f"{name} = {path}{many}")
    # Lines break between names only, and within the width of a usual terminal.
    whole = " · ".join(each.replace(" ", "\0") for each in shown)
    lines = textwrap.wrap(whole, 78, break_long_words=False, break_on_hyphens=False)
    return "\n".join(line.replace("\0", " ").removesuffix(" ·") for line in lines)


def description(name: str, model: Any) -> str:
    """What `%model` prints: the variable, size and place, the tree, the standard names."""
    parameters = list(model.module.parameters())
    count = sum(p.numel() for p in parameters)
    place = (
        f"{parameters[0].dtype}".removeprefix("torch.") + f" on {parameters[0].device}"
        if parameters
        else ""
    )
    head = f"{name}: {title(model)}, {count / 1e6:.1f} M parameters, {place}"
    return "\n".join(filter(None, (head, "", tree(model), "", names_line(model))))
