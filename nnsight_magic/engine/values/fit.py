"""Whether what a user writes fits the value that it replaces."""

from __future__ import annotations

from typing import Any

import torch

from nnsight_magic.engine.values.changes import key_text
from nnsight_magic.engine.values.containers import copy_tree, entries, is_container, rebuild
from nnsight_magic.engine.values.parts import Parts
from nnsight_magic.engine.values.value import own_copy
from nnsight_magic.engine.values.words import describe
from nnsight_magic.errors import WrongValueError


def fit(new: Any, old: Any, where: str) -> Any:
    """`new` as the model can take it in place of `old`; an error that tells why it cannot.

    Numbers fill the tensor that they replace. Tensors must have its shape, dtype and device:
    what does not fit would fail ten modules later, or worse, would not fail.
    """
    if isinstance(old, torch.Tensor):
        return _fit_tensor(new, old, where)
    if is_container(old):
        return _fit_container(new, old, where)
    return unwrapped(new)


def unwrapped(new: Any) -> Any:
    """Without our own types, and sharing no memory with what the user holds."""
    return copy_tree(new.value if isinstance(new, Parts) else new)


def _fit_tensor(new: Any, old: torch.Tensor, where: str) -> torch.Tensor:
    if isinstance(new, bool | int | float | complex):
        return torch.full_like(old, new)
    if isinstance(new, torch.Tensor):
        problems = []
        if new.shape != old.shape:
            problems.append("shape")
        if new.dtype != old.dtype:
            problems.append("dtype")
        if new.device != old.device:
            problems.append("device")
        if not problems:
            return own_copy(new)
        raise WrongValueError(
            f"{where} takes another {' and '.join(problems)}.\n"
            f"Expected: {describe(old)}.\nFound: {describe(new)}.\n{_remedy(new, old, problems)}"
        )
    raise WrongValueError(
        f"{where} is a tensor and takes a tensor or a number.\n"
        f"Expected: {describe(old)}.\nFound: {describe(new)}."
    )


def _remedy(new: torch.Tensor, old: torch.Tensor, problems: list[str]) -> str:
    if "shape" not in problems:
        return "Convert it with x.to(h), where h is the value that stands there now."
    if new.numel() == old.numel():
        return f"It has as many elements: x.reshape{tuple(old.shape)} may be what you mean."
    return "To write a part, index it: `.output[:, -1] = x` takes what broadcasts to that part."


def _fit_container(new: Any, old: Any, where: str) -> Any:
    if isinstance(new, Parts):
        new = new.value
    if not is_container(new):
        raise WrongValueError(
            f"{where} is a {describe(old)}, not one tensor.\nFound: {describe(new)}.\n"
            f"Write one item of it, such as {where}[0] = x."
        )
    old_items = dict(entries(old))
    new_items = dict(entries(new))
    if new_items.keys() != old_items.keys():
        raise WrongValueError(
            f"{where} takes other items.\nExpected: {list(old_items)}.\nFound: {list(new_items)}."
        )
    return rebuild(
        old,
        {
            key: fit(new_items[key], item, where + key_text(key))
            for key, item in old_items.items()
            if new_items[key] is not item
        },
    )
