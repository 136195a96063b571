"""Which module runs before which, and what a paused forward has left behind: by the tree alone."""

from __future__ import annotations

from itertools import takewhile

from torch import nn

from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.sites.site import Touch


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


def has_passed(forward: Forward, touch: Touch, root: nn.Module) -> bool:
    """Whether a forward has left the touched site behind, as far as the module tree tells."""
    pause, site = forward.pause, touch.site
    if pause is None:
        return False
    if site.step != pause.site.step:
        return site.step < pause.site.step
    if pause.touch is None:
        return False
    here, there = pause.touch.parts, touch.parts
    if here[: len(there)] == there:  # it is paused inside the touched module, or at it
        if site.operation is None:
            return site.kind == "input"
        if here == there and pause.site.operation is None:
            return pause.site.kind == "output"
        return forward.listing(site) is None
    if there[: len(here)] == here:  # the touched module is inside the one it is paused at
        if pause.site.operation is not None:
            return forward.has_left(site, there[len(here) :], pause.site.module)
        return pause.site.kind == "output"
    return runs_before(there, here, root)
