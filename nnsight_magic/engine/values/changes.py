"""What was written to a value: where in it, and the new value there."""

from __future__ import annotations

from typing import Any

import torch

from nnsight_magic.engine.values.containers import rebuild
from nnsight_magic.engine.values.laid_out import Layout
from nnsight_magic.engine.values.value import own_copy

# One change: where in the value (a path of keys, () for the whole) and the new value there, or
# a function that makes it from the old one.
Change = tuple[tuple, Any]


def apply_changes(raw: Any, changes: list[Change]) -> Any:
    """A fresh value of the same site, with the changes that were made to an earlier one."""
    for path, new in changes:
        if callable(new):
            old = raw
            for key in path:
                old = old[key]
            new = new(old)
        raw = replaced(raw, path, own_copy(new) if isinstance(new, torch.Tensor) else new)
    return raw


def replaced(raw: Any, path: tuple, new: Any) -> Any:
    """A container like `raw` with `new` at a path of keys; `raw` itself stays as it is."""
    if not path:
        return new
    if isinstance(path[0], Layout):
        return path[0].put(raw, new)
    return rebuild(raw, {path[0]: replaced(raw[path[0]], path[1:], new)})


def key_text(key: Any) -> str:
    """A key as it is written behind a value: `.logits`, `[0]`."""
    if isinstance(key, str) and key.isidentifier():
        return f".{key}"
    return f"[{key!r}]"
