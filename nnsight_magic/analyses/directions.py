"""A direction of the residual stream: what a probe learned, or what two kinds of text differ by."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Direction:
    """A vector for each of some blocks, which can be added there.

    Attributes:
        vectors: by the number of the block, float32 `(hidden,)`; one unit of strength adds just
            this.
        site: where it is of, as `%patch` calls it.
        words: what it points from and to.
        model: the name of the model that it was found in, or "".
    """

    vectors: Mapping[int, torch.Tensor]
    site: str = "resid_post"
    words: str = ""
    model: str = ""

    @property
    def layers(self) -> list[int]:
        """The blocks that it has a vector of."""
        return sorted(self.vectors)

    @property
    def size(self) -> int:
        """How many numbers a vector has."""
        return len(next(iter(self.vectors.values())))

    def __repr__(self) -> str:
        lengths = ", ".join(
            f"block {layer}: length {float(self.vectors[layer].norm()):.3g}"
            for layer in self.layers[:3]
        )
        more = f", … {len(self.layers)} blocks" if len(self.layers) > 3 else ""
        words = f"{self.words}; " if self.words else ""
        return f"Direction({words}{self.site} of {self.size} numbers; {lengths}{more})"
