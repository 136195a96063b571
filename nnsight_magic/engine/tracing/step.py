"""One step of a generation: the number that it is, with the ids that it is computed from."""

from __future__ import annotations

import torch

from nnsight_magic.errors import NeverRanError


class Step(int):
    """One step of a generation, as `tracer.steps` visits them: the number that it is.

    0 is the step of the prompt, k that of the k-th new token. It compares, counts and indexes as
    that number does: `step == 2`, `step in (1, 2)`, `found[step]`.

    Attributes:
        index: the same as a plain int.
    """

    _tokens: torch.Tensor | None

    def __new__(cls, index: int, tokens: torch.Tensor | None) -> Step:
        step = super().__new__(cls, index)
        step._tokens = tokens
        return step

    def __reduce__(self) -> tuple[type[Step], tuple[int, torch.Tensor | None]]:
        return type(self), (int(self), self._tokens)

    @property
    def tokens(self) -> torch.Tensor:
        """All token ids that this step's forward knows of: the prompt's and the first k new ones.

        `(batch, tokens)`; with beams or several sequences a prompt, `(rows, tokens)` in the order
        of the rows of all other values. Of a model that is given embeddings alone: the new ones.

        Raises:
            NeverRanError: the model does not say what the step is computed from.
        """
        if self._tokens is None:
            raise NeverRanError(
                f"The ids that step {int(self)} is computed from are not known: this model does "
                "not prepare its inputs as those of transformers do.\n"
                "Read what goes into it instead, such as model.input."
            )
        return self._tokens

    @property
    def index(self) -> int:
        return int(self)
