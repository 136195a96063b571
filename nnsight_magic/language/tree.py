"""Looking at a model's module tree without running it and without loading its weights.

The root's `module` is the model itself and loads it; here the skeleton on the meta device is
enough.
"""

from __future__ import annotations

from typing import Any


def is_handle(thing: Any) -> bool:
    """Whether `thing` is a module of a wrapped model."""
    return hasattr(type(thing), "ancestors")


def module_of(handle: Any) -> Any:
    """The torch module; without weights where they are not loaded yet."""
    return handle.ancestors()[-1]


def kind_of(handle: Any) -> str:
    """The class of the handle's module."""
    return type(module_of(handle)).__name__


def children(handle: Any) -> dict[str, Any]:
    """The modules inside, by their real names; those that the user attached too."""
    return handle.children() if is_handle(handle) else {}


def numbered(handle: Any) -> list[Any]:
    """The modules of a list of modules, in order; empty for any other module."""
    return [child for name, child in children(handle).items() if name.isdigit()]


def standard(handle: Any) -> dict[str, Any]:
    """The modules that go by a standard name here (`layers` at the root, `mlp` in a block), and
    by a name of the user's own."""
    from nnsight_magic.engine.places.standard_names import (  # brings torch
        BLOCK_NAMES,
        ROOT_NAMES,
        part_of_block,
    )

    model = handle._model
    paths: dict[str, str | None] = {}
    if handle is model:
        paths = {name: model.names.path_of(name) for name in ROOT_NAMES}
    elif model.names.is_block(handle.path):
        paths = {name: part_of_block(module_of(handle), name) for name in BLOCK_NAMES}
    found = {name: _below(handle, path) for name, path in paths.items() if path}
    for real, aliases in model._handles.rename.items():
        module = _below(handle, real)
        if module is not None:
            found.update(dict.fromkeys([aliases] if isinstance(aliases, str) else aliases, module))
    return found


def _below(handle: Any, path: str) -> Any:
    """The module at a real path relative to `handle`, or `None`."""
    for part in path.split("."):
        handle = None if handle is None else children(handle).get(part)
    return handle


def named(handle: Any, name: str) -> Any:
    """The module that `handle.name` means, or `None`."""
    return children(handle).get(name) or standard(handle).get(name)


def root_names(model: Any) -> list[str]:
    """The names of modules that a cell knows by themselves."""
    return [*children(model), *standard(model)]


def below_root(handle: Any, name: str) -> Any:
    """`named`, and on the root also what stands in its child called `model`.

    A cell's `model` is the whole model, while torch's own paths of many architectures begin with
    a child of that name: `model.embed_tokens` is written for both.
    """
    found = named(handle, name)
    if found is None and handle.path == "" and not has_attribute(handle, name):
        inner = children(handle).get("model")
        return None if inner is None else children(inner).get(name)
    return found


def has_attribute(handle: Any, name: str) -> bool:
    """Whether the handle or its module has an attribute that is no module."""
    return hasattr(type(handle), name) or hasattr(module_of(handle), name)
