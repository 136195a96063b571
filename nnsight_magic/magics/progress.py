"""A progress bar for generations that take long enough to be waited for."""

from __future__ import annotations

from typing import Any

import torch
from transformers import StoppingCriteria

from nnsight_magic.progress import progress_bar

DELAY = 2.0  # seconds before a bar appears; most cells are done by then


class TokenProgress(StoppingCriteria):
    """Counts new tokens for a bar: a stopping criterion, which sees beams too and stops nothing.

    A line that reads what lies behind has the text written anew: that adds nothing.
    """

    def __init__(self, total: int) -> None:
        self._bar = progress_bar(total=total, desc="generating", unit="token", delay=DELAY)
        self._before: int | None = None

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        width = input_ids.shape[1]
        if self._before is None:
            self._before = width - 1
        further = min(width - self._before, self._bar.total) - self._bar.n
        if further > 0:
            self._bar.update(further)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)

    def __deepcopy__(self, memo: dict) -> TokenProgress:
        return self  # PEFT copies what it is given

    def close(self) -> None:
        self._bar.close()
