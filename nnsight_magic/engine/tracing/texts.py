"""What a generation has written so far, and which ids each of its steps was computed from.

transformers tells the model what a step is computed from (`prepare_inputs_for_generation`, before
the step) and its stopping criteria what has been written (behind it). The first is what a step
knows of, whatever it is called with: of a cached step the last token alone, of embeddings none.
Of beams the criteria see candidates, more of them than there are beams.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from transformers import StoppingCriteria

from nnsight_magic.errors import BadInputError


class Texts:
    """The ids of one run of `generate`, `(rows, tokens)`; a row is a text, or a beam of one.

    Attributes:
        before: how many ids are before the first new one; `None` until a token was written.

    Args:
        reorders: beams are taken up and dropped, so that what a step knew of is no beginning of
            what a later one knows of.
    """

    def __init__(self, reorders: bool):
        self.before: int | None = None
        self._reorders = reorders
        self._known: dict[int, torch.Tensor] = {}  # by step; of texts that only grow, the first
        self._written: torch.Tensor | None = None

    def prepare(self, step: int, ids: torch.Tensor) -> None:
        """Note what a step is about to be computed from."""
        if self._reorders or step == 0:
            self._known.setdefault(step, ids)  # a model inside is prepared again, with its own part

    def add(self, written: torch.Tensor) -> int:
        """Note the ids after a step. Returns how many of each row are new."""
        if self.before is None:
            self.before = written.shape[1] - 1
        self._written = written
        return written.shape[1] - self.before

    def at(self, step: int) -> torch.Tensor | None:
        """The ids that a step was computed from; `None` where they are not known."""
        if step in self._known:
            return self._known[step]
        if self._written is None or self.before is None or self._reorders:
            return None
        return self._written[:, : self.before + step]


class LastToken(StoppingCriteria):
    """Stop after the last new token, unless the user waits for the step behind it.

    Args:
        last: how many new tokens there are to be.
        steps: gives the step that runs, and the one that the user waits for.
    """

    def __init__(self, last: int, texts: Texts, steps: Callable[[], tuple[int, int]]):
        self._last, self._texts, self._steps = last, texts, steps

    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs) -> torch.Tensor:
        new, (step, awaited) = self._texts.add(input_ids), self._steps()
        _check_one_token_a_step(new, step)
        over = new > self._last or (new == self._last and awaited < self._last)
        return torch.full((input_ids.shape[0],), over, dtype=torch.bool, device=input_ids.device)

    def __deepcopy__(self, memo: dict) -> LastToken:
        """PEFT copies what `generate` is given: this one watches over the run, and is no part of
        it."""
        return self


def _check_one_token_a_step(new: int, step: int) -> None:
    """Whatever the way of generating: a step that were not one new token would be a wrong one.

    Raises:
        BadInputError: forwards and new tokens do not go hand in hand.
    """
    if new == step + 1:
        return
    raise BadInputError(
        f"This way of generating is no forward for each new token: {step + 1} forwards have run, "
        f"and there are {new} new tokens, so that no step could be told from another.\n"
        "Generate greedily, by sampling or with beams; without guidance_scale, an assistant, and "
        "the like."
    )
