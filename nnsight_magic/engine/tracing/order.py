"""Which module runs before which, as far as the module tree tells."""

from __future__ import annotations

from itertools import takewhile

from torch import nn


def runs_before(path: tuple[str, ...], other: tuple[str, ...], root: nn.Module) -> bool:
    """Whether a module runs before another one, for certain.

    The order in which a module calls its children is its own affair; that of the items of a list or
    a sequence is that of their numbers.

    Args:
        path, other: the modules, by the names on the way from the root down to them.
        root: the module at the top.

    >>> model = nn.ModuleDict({"blocks": nn.Sequential(nn.Linear(1, 1), nn.Tanh())})
    >>> runs_before(("blocks", "0"), ("blocks", "1"), model)
    True
    """
    pairs = list(zip(path, other, strict=False))
    above = len(list(takewhile(lambda pair: pair[0] == pair[1], pairs)))
    if above == len(pairs):  # one of them lies inside the other
        return False
    ours, theirs = pairs[above]
    if not (ours.isdecimal() and theirs.isdecimal() and int(ours) < int(theirs)):
        return False
    try:
        parent = root.get_submodule(".".join(path[:above]))
    except AttributeError:
        return False
    return isinstance(parent, nn.ModuleList | nn.Sequential)
