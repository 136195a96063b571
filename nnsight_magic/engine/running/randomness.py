"""Random numbers: every forward of a trace draws those that the first one drew.

The first forward draws from torch's own generators, as if nobody looked, and the block may draw
in between. Every further forward has the generators to itself while it runs: it starts where the
first one started, and where the block had drawn, it goes on from there.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from nnsight_magic.engine.sites.site import Site


class _State(NamedTuple):
    """Of the CPU's generator, of every CUDA device's, and of Apple's GPU's."""

    cpu: torch.Tensor
    cuda: Sequence[torch.Tensor]
    mps: torch.Tensor | None

    @classmethod
    def now(cls) -> _State:
        cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        mps = torch.mps.get_rng_state() if torch.backends.mps.is_available() else None
        return cls(torch.get_rng_state(), cuda, mps)

    def restore(self) -> None:
        torch.set_rng_state(self.cpu)
        if self.cuda:
            torch.cuda.set_rng_state_all(list(self.cuda))
        if self.mps is not None:
            torch.mps.set_rng_state(self.mps)

    def same(self, other: _State) -> bool:
        ours, theirs = (
            [s.cpu, *s.cuda, *([] if s.mps is None else [s.mps])] for s in (self, other)
        )
        return len(ours) == len(theirs) and all(map(torch.equal, ours, theirs))


class Drawing:
    """The first forward of a trace: where it began, and where the block drew during its pauses."""

    def __init__(self) -> None:
        self.began: _State | None = None
        self.drawn: dict[Site, _State] = {}
        self._left: _State | None = None

    def enter(self, site: Site | None) -> None:
        """The forward goes on from `site`, `None` at its start."""
        now = _State.now()
        if self.began is None:
            self.began = now
        elif site is not None and self._left is not None and not now.same(self._left):
            self.drawn[site] = now

    def leave(self) -> None:
        """The forward is paused."""
        self._left = _State.now()

    def pass_by(self, site: Site) -> None:
        """The forward goes past a site."""


class Redrawing(Drawing):
    """A further forward: the same numbers, unseen by everyone else."""

    def __init__(self, first: Drawing):
        self._first = first
        self._own: _State | None = None
        self._outer: Any = None

    def enter(self, site: Site | None) -> None:
        self._outer = _State.now()
        (self._own or self._first.began or self._outer).restore()

    def leave(self) -> None:
        self._own = _State.now()
        self._outer.restore()

    def pass_by(self, site: Site) -> None:
        if site in self._first.drawn:
            self._first.drawn[site].restore()
