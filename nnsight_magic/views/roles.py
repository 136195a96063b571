"""What the axes of a tensor stand for, as far as its shape and the model's sizes tell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nnsight_magic.errors import BadInputError

ROLES = ("batch", "prompt", "step", "token", "head", "feature", "vocabulary", "axis")


@dataclass(frozen=True)
class Axis:
    """One axis: its role, its size, and the words for its places where there are any."""

    role: str
    size: int
    labels: tuple[str, ...] = ()


def infer_axes(
    shape: Sequence[int],
    names: Sequence[str] | None = None,
    tokens: Sequence[str] | None = None,
    sizes: Mapping[str, int] | None = None,
) -> list[Axis]:
    """The axes of a tensor of `shape`.

    Args:
        names: the roles, where the caller knows them; any word will do.
        tokens: the prompt's tokens, which become the labels of token axes.
        sizes: sizes of the model by role, such as `{"head": 9, "feature": 576}`.
    """
    if names is not None:
        if len(names) != len(shape):
            raise BadInputError(
                f"{len(names)} axis names {tuple(names)} for a tensor of rank {len(shape)} "
                f"{tuple(shape)}"
            )
        roles = list(names)
    else:
        roles = _guess(shape, len(tokens) if tokens else None, sizes or {})
    words = tuple(tokens or ())
    return [
        Axis(role, size, words if role == "token" and len(words) == size else ())
        for role, size in zip(roles, shape, strict=True)
    ]


def _guess(shape: Sequence[int], tokens: int | None, sizes: Mapping[str, int]) -> list[str]:
    roles = ["axis"] * len(shape)
    rank = len(shape)
    if rank == 2 and tokens and tuple(shape) == (tokens, tokens):
        return ["token", "token"]  # one head's pattern
    attention = rank >= 3 and shape[-1] == shape[-2] and tokens in (None, shape[-1])
    if attention and shape[-1] > 1 and shape[-1] != sizes.get("feature"):
        roles[-2:] = ["token", "token"]
        roles[-3] = "head" if sizes.get("head") in (None, shape[-3]) else "axis"
        if rank == 4:
            roles[0] = "batch"
        return roles
    if rank and shape[-1] == sizes.get("vocabulary"):
        roles[-1] = "vocabulary"
    elif rank and (shape[-1] == sizes.get("feature") or (rank == 3 and sizes == {})):
        roles[-1] = "feature"
    elif tokens and rank and shape[-1] == tokens:
        roles[-1] = "token"
    for axis in range(rank - 2, -1, -1):
        if tokens and shape[axis] == tokens and "token" not in roles[axis:]:
            roles[axis] = "token"
        elif shape[axis] == sizes.get("head") and "head" not in roles:
            roles[axis] = "head"
    if rank == 3 and roles[-1] in ("feature", "vocabulary"):
        roles[0] = "batch" if roles[0] == "axis" else roles[0]
        roles[1] = "token" if roles[1] == "axis" and tokens is None else roles[1]
    return roles


def drawn_axes(axes: Sequence[Axis]) -> tuple[int, int]:
    """The axis drawn down and the one drawn across: the last two that have a length; -1 for none.

    A vector lies across.
    """
    long = [k for k, axis in enumerate(axes) if axis.size != 1]
    short = [k for k, axis in enumerate(axes) if axis.size == 1]
    if len(long) >= 2:
        return long[-2], long[-1]
    if len(long) == 1:
        before = [k for k in short if k < long[0]]
        return (before[-1] if before else -1), long[0]
    return (short[-2] if len(short) > 1 else -1), (short[-1] if short else -1)
