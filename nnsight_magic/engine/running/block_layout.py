"""How the blocks of a class return their hidden states: bare, or first in a tuple.

Which of the two it is shows in a block that ran. What else stands in the tuple may matter to the
blocks behind it, such as the position bias that T5's blocks hand on.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import nn


class Layout(NamedTuple):
    """What the blocks of a class return."""

    length: int  # of the tuple, 0: the hidden states alone
    more: tuple[int, ...]  # the places in it that hold something besides


_known: dict[type, Layout] = {}


def learn(block: nn.Module, raw: Any) -> Layout:
    """Note what a block gave."""
    if isinstance(raw, tuple | list):
        more = tuple(place for place, item in enumerate(raw) if place and item is not None)
        layout = Layout(len(raw), more)
    else:
        layout = Layout(0, ())
    _known[type(block)] = layout
    return layout


def layout_of(block: nn.Module) -> Layout | None:
    """What blocks of this class return, `None` where none was seen to run."""
    return _known.get(type(block))


def in_block_layout(block: nn.Module, hidden: torch.Tensor) -> Any:
    """Hidden states as this class of blocks returns them: bare, or in a tuple."""
    layout = layout_of(block)
    length = 0 if layout is None else layout.length
    return (hidden, *[None] * (length - 1)) if length else hidden
