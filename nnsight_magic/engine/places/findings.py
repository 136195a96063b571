"""What was found out about a model by running it, so that it need not be found out again."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn


@dataclass
class Findings:
    """What each part of the engine has found out about one model.

    Attributes:
        axes: which axes of a value are prompts and tokens, where its shape does not tell; see
            `sweeping.axes`.
        lengths: every length that the model gives an axis, whatever it is run on.
        scanned: the module that was scanned on a prompt of a few tokens, and the shapes.
        packs: whether variants of a sweep may leave tokens out, by what that depends on.
    """

    axes: dict[tuple, Any] = field(default_factory=dict)
    lengths: frozenset[int] | None = None
    scanned: tuple[nn.Module, Any] | None = None
    packs: dict[tuple, bool] = field(default_factory=dict)

    def for_edited_copy(self) -> Findings:
        """What holds for a copy that shares the module and has edits of its own."""
        return replace(self, packs={})
