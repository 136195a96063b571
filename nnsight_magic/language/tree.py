"""Looking at a model's module tree without running it and without loading its weights.

The root's `module` is the model itself and loads it; below the root, and here, the skeleton on
the meta device is enough.
"""

from __future__ import annotations

from typing import Any

from nnsight_magic.language.names import HANDLE_ATTRIBUTES

# Standard names of the root, and of a decoder block.
ROOT_MODULES = ("layers", "embed", "norm", "unembed")
BLOCK_MODULES = ("attn", "mlp")


def is_handle(thing: Any) -> bool:
    """Whether `thing` is a module of a wrapped model."""
    return hasattr(type(thing), "ancestors")


def module_of(handle: Any) -> Any:
    """The torch module; without weights where they are not loaded yet."""
    return handle._root if handle.path == "" else handle.module


def kind_of(handle: Any) -> str:
    """The class of the handle's module."""
    return type(module_of(handle)).__name__


def children(handle: Any) -> dict[str, Any]:
    """The modules inside, by their real names."""
    if not is_handle(handle):
        return {}
    return {
        name: handle._child(name)
        for name, child in module_of(handle)._modules.items()
        if child is not None
    }


def numbered(handle: Any) -> list[Any]:
    """The modules of a list of modules, in order; empty for any other module."""
    return [child for name, child in children(handle).items() if name.isdigit()]


def standard(handle: Any) -> dict[str, Any]:
    """The modules that go by a standard name here: `layers` at the root, `mlp` in a block."""
    if handle.path == "":
        paths = {name: handle.names.path_of(name) for name in ROOT_MODULES}
        return {name: handle._handle(path) for name, path in paths.items() if path is not None}
    if not handle._model.names.is_block(handle.path):
        return {}
    found = {name: getattr(handle, name, None) for name in BLOCK_MODULES}
    return {name: child for name, child in found.items() if is_handle(child)}


def named(handle: Any, name: str) -> Any:
    """The module that `handle.name` means, or `None`: a child, a standard name, or a module that
    is an attribute without being a child."""
    found = children(handle).get(name) or standard(handle).get(name)
    if found is not None or name in HANDLE_ATTRIBUTES or handle.path == "":
        return found
    other = getattr(handle, name, None)
    return other if is_handle(other) else None


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
