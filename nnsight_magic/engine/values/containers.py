"""Tuples, lists, dicts and model outputs: what modules take and give beside tensors."""

from __future__ import annotations

import copy
from typing import Any

import torch

from nnsight_magic.engine.values.value import own_copy


def is_container(value: Any) -> bool:
    """Whether `value` is handed out as `Parts`: tuples, lists, dicts and model outputs."""
    return isinstance(value, tuple | list | dict)


def copy_tree(value: Any) -> Any:
    """The same structure with a copy of each tensor in it."""
    if isinstance(value, torch.Tensor):
        return own_copy(value)
    if is_container(value):
        return rebuild(value, {key: copy_tree(item) for key, item in entries(value)})
    return value


def entries(value: Any) -> list[tuple[Any, Any]]:
    """Keys and items of a container; positions are the keys of a tuple or list."""
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value))


def rebuild(value: Any, changed: dict[Any, Any]) -> Any:
    """A container like `value` with some items replaced; `value` itself stays as it is."""
    if isinstance(value, dict):
        new = copy.copy(value)
        for key, item in changed.items():
            new[key] = item
        return new
    items = list(value)
    for key, item in changed.items():
        items[key] = item
    if isinstance(value, tuple) and hasattr(value, "n_sequence_fields"):  # torch.return_types
        return type(value)(items)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*items)
    return type(value)(items) if type(value) in (tuple, list) else tuple(items)


def first_argument(args: tuple, kwargs: dict[str, Any]) -> Any:
    """What a module is called with first, `None` for nothing: some are called by keyword."""
    return args[0] if args else next(iter(kwargs.values()), None)


def path_of_first(args: tuple, kwargs: dict[str, Any]) -> tuple[int, Any] | None:
    """Where that is in `(args, kwargs)`.

    >>> path_of_first((1, 2), {}), path_of_first((), {"hidden": 1}), path_of_first((), {})
    ((0, 0), (1, 'hidden'), None)
    """
    if args:
        return (0, 0)
    return (1, next(iter(kwargs))) if kwargs else None
