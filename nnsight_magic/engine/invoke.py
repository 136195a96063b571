"""Several runs in one trace: `with tracer.invoke(prompt):`.

Each invoke is a forward of its own, run as far as its block needs, in the order in which they
stand: so what was read in one can be written in the next. An `invoke()` without a prompt runs
all prompts given so far as one padded batch, with what was written in their own invokes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.pause import Change
from nnsight_magic.engine.site import Site
from nnsight_magic.errors import BadInputError

if TYPE_CHECKING:
    from nnsight_magic.engine.tracer import Tracer


class Invokes:
    """The invokes of one trace: their prompts, and what each of them wrote."""

    def __init__(self) -> None:
        self._tracers: list[Tracer] = []
        self._written: list[dict[Site, list[Change]]] = []

    def __len__(self) -> int:
        return len(self._tracers)

    def add(self, tracer: Tracer, written: dict[Site, list[Change]]) -> None:
        """An invoke has ended; its writes are kept for one over the whole batch."""
        self._tracers.append(tracer)
        self._written.append(written)

    def prompts(self) -> list[Any]:
        """What the invokes so far ran on: text where it was given, else token ids."""
        if not self._tracers:
            raise BadInputError(
                "invoke() without a prompt runs the prompts of the invokes before it as one batch, "
                "and there is none before it.\nGive it a prompt: with tracer.invoke(prompt)."
            )
        texts = [tracer.prompts for tracer in self._tracers]
        if any(text is None for text in texts):
            raise BadInputError(
                "invoke() without a prompt needs the invokes before it to be given text, so that "
                "they can be padded into one batch."
            )
        return [prompt for text in texts for prompt in text]

    def writes(self, mask: torch.Tensor | None) -> dict[Site, list[Change]]:
        """The writes of all invokes, each on its own rows of the batch."""
        merged: dict[Site, list[Change]] = {}
        first = 0
        for tracer, written in zip(self._tracers, self._written, strict=True):
            count = len(tracer.prompts)
            rows = slice(first, first + count)
            first += count
            for site, changes in written.items():
                for path, new in changes:
                    if isinstance(new, torch.Tensor):
                        merged.setdefault(site, []).append((path, _on_rows(new, rows, mask)))
        return merged


def _on_rows(new: torch.Tensor, rows: slice, mask: torch.Tensor | None):
    """Put `new`, `(rows, tokens, …)` of a batch of its own, into these rows of a larger one."""

    def change(old: torch.Tensor) -> torch.Tensor:
        merged = old.clone()
        if old.ndim < 2 or mask is None or old.shape[1] != mask.shape[1]:
            merged[rows] = new
            return merged
        columns = mask[rows].any(0).nonzero()[:, 0]
        merged[rows, columns[0] : columns[-1] + 1] = new
        return merged

    return change
