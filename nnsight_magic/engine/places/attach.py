"""Modules that the user hangs onto the wrapped tree, and calls of modules out of the user's code.

    model.layers[5].sae = SAE()                      # the user's model itself stays as it is
    with model.trace(prompt):
        block = model.layers[5]
        block.output = block.sae(block.output)       # runs here and now, on real tensors
        features = block.sae.encoder.output

An attached module is no part of the forward: it runs where the user calls it, and what it and
its submodules were given and gave there can be read afterwards in the same trace.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnsight_magic.engine.places.named_part import named_on
from nnsight_magic.engine.values.containers import entries, is_container, rebuild
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.value import BlockValue, Value, as_value, own_copy, plain
from nnsight_magic.errors import NoSuchModuleError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Tree


def attach(handle: Tree, name: str, module: nn.Module) -> None:
    """Hang `module` under a handle; a module attached there before is replaced.

    Raises:
        NoSuchModuleError: the model itself has something of that name.
    """
    where = f"{handle.name}.{name}" if handle.name else name
    path = f"{handle.path}.{name}" if handle.path else name
    attached = handle._model._handles.attached
    named = named_on(handle, name)
    ours = hasattr(type(handle), name) if named is None else named.has(handle)
    own = ours or hasattr(handle.ancestors()[-1], name)
    if path not in attached and (own or handle._standard(name, handle.ancestors()[-1])):
        raise NoSuchModuleError(
            f"{where} exists already: the model has something of that name, which stays as it is.\n"
            f"Attach the {type(module).__name__} under another name."
        )
    attached[path] = module


def detach(handle: Tree, name: str) -> None:
    """Take an attached module away.

    Raises:
        NoSuchModuleError: none was attached under that name.
    """
    path = f"{handle.path}.{name}" if handle.path else name
    if handle._model._handles.attached.pop(path, None) is None:
        where = f"{handle.name}.{name}" if handle.name else name
        raise NoSuchModuleError(
            f"{where} cannot be deleted: nothing was attached there, and the model itself is never "
            "changed."
        )


def call_module(handle: Tree, args: tuple, kwargs: dict[str, Any]) -> Any:
    """Run a module in the user's own code, beside the forward and unseen by it."""
    model = handle._model
    if not handle.is_attached:
        _ = model.module  # loads the weights, if they are not
    module = handle.module
    tracer = model._turn.running()
    if tracer is None:
        return module(*args, **kwargs)
    args = tuple(_plain_tree(arg) for arg in args)
    kwargs = {name: _plain_tree(value) for name, value in kwargs.items()}
    result = tracer.call(handle, args, kwargs)
    if handle.is_block and isinstance(result, torch.Tensor):
        return as_value(own_copy(result), BlockValue)
    return _value_tree(result)


def _plain_tree(value: Any) -> Any:
    """Tensors without our types: `[0]` in a module's code must mean what it says there."""
    if isinstance(value, Value):
        return plain(value)
    if isinstance(value, Parts):
        return value.value
    if is_container(value) and any(
        isinstance(item, Value | Parts) or is_container(item) for _, item in entries(value)
    ):
        return rebuild(value, {key: _plain_tree(item) for key, item in entries(value)})
    return value


def _value_tree(value: Any) -> Any:
    """Copies of a call's tensors that the user can save and write into."""
    if isinstance(value, torch.Tensor):
        return as_value(own_copy(value))
    if is_container(value):
        return rebuild(value, {key: _value_tree(item) for key, item in entries(value)})
    return value
