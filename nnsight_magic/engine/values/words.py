"""Values and indices in a few words, for messages."""

from __future__ import annotations

from typing import Any

import torch


def describe(value: Any) -> str:
    """A value in a few words: `float32 (1, 12, 576) on cpu`, `tuple of 2`, `int 3`.

    >>> import torch
    >>> describe(torch.zeros(2, 3))
    'float32 (2, 3) on cpu'
    """
    if isinstance(value, torch.Tensor):
        dtype = str(value.dtype).removeprefix("torch.")
        return f"{dtype} {tuple(value.shape)} on {value.device}"
    if isinstance(value, tuple | list):
        return f"{type(value).__name__} of {len(value)}"
    if isinstance(value, int | float | complex | bool):
        return f"{type(value).__name__} {value}"
    return "None" if value is None else type(value).__name__


def index_text(index: Any) -> str:
    """What is in brackets, as a user writes it.

    >>> index_text((slice(None), -1))
    ':, -1'
    """
    if isinstance(index, tuple):
        return ", ".join(index_text(each) for each in index)
    if isinstance(index, slice):
        start = "" if index.start is None else index.start
        stop = "" if index.stop is None else index.stop
        return f"{start}:{stop}" + ("" if index.step is None else f":{index.step}")
    if isinstance(index, torch.Tensor):
        return "…"
    return "..." if index is ... else repr(index)
