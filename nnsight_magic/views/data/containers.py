"""What dicts, lists and tuples have in them: tensors by their names, and all else in words."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nnsight_magic.views.data.dense import is_list_of_tensors

MOST = 200  # tensors that are shown one by one
DEEP = 6  # containers inside each other


@dataclass
class Found:
    """What a container has in it: tensors by their names, and all else in words."""

    tensors: dict[str, Any] = field(default_factory=dict)
    others: list[str] = field(default_factory=list)
    left_out: int = 0


def found_in(value: Any, called: str = "") -> Found:
    """The tensors of a dict, list or tuple, also of those inside it; `called` is its own name.

    Lists of tensors of one shape are looked at as one tensor, except the outermost of all.

    >>> import torch
    >>> list(found_in({"a": torch.ones(2), "b": [torch.ones(2), torch.ones(3)]}).tensors)
    ['a', 'b[0]', 'b[1]']
    """
    found = Found()
    for name, item in _leaves(value, called, DEEP, set()):
        if not _is_tensor(item) and not is_list_of_tensors(item):
            found.others.append(_in_words(name, item))
        elif len(found.tensors) == MOST:
            found.left_out += 1
        else:
            found.tensors[name] = item
    return found


def _leaves(value: Any, name: str, depth: int, inside: set[int]) -> Iterator[tuple[str, Any]]:
    if id(value) in inside or depth == 0:
        return
    inside = inside | {id(value)}
    pairs: Iterable[tuple[Any, Any]] = (
        value.items() if isinstance(value, Mapping) else enumerate(value)
    )
    for key, item in pairs:
        own = key if isinstance(key, str) and not name else f"{name}[{key!r}]"
        if is_container(item) and not is_list_of_tensors(item):
            yield from _leaves(item, own, depth - 1, inside)
        else:
            yield own, item


def is_container(value: Any) -> bool:
    return isinstance(value, Mapping | list | tuple)


def holds_tensors(value: Any) -> bool:
    """Whether it is a container with a tensor in it, which is not looked at as one tensor."""
    if not is_container(value) or is_list_of_tensors(value) or _is_list_of_arrays(value):
        return False
    leaves = _leaves(value, "", DEEP, set())
    return any(_is_tensor(item) or is_list_of_tensors(item) for _, item in leaves)


def _is_tensor(value: Any) -> bool:
    return hasattr(value, "untyped_storage") or isinstance(value, np.ndarray)


def _is_list_of_arrays(value: Any) -> bool:
    if isinstance(value, Mapping) or not all(isinstance(each, np.ndarray) for each in value):
        return False
    return len({each.shape for each in value}) == 1


def _in_words(name: str, value: Any) -> str:
    text = repr(value) if isinstance(value, str | int | float | bool | None) else ""
    kind = type(value).__name__
    return f"{name} ({kind} {text})" if 0 < len(text) < 30 else f"{name} ({kind})"
