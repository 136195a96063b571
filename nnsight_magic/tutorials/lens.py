"""Checks of notebook 04, the logit lens."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from nnsight_magic.tutorials.checking import (
    Hint,
    Mistake,
    compare,
    exercise,
    numbers,
    several,
    text,
    whole,
)

FRANCE = "The capital of France is the city of"
BROTHER = "My brother lost"

# From which block on exercise 3 looks, and how likely a token is that one is "sure" of.
LATE = 24
SURE = 0.5


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._stream = cache(self._read_stream)

    def _read_stream(self, prompt: str) -> torch.Tensor:
        """Embedding and residual stream behind each block, `(rows, tokens, hidden)`."""
        with self.model.trace(prompt):
            found = [self.model.embed.output.value[0]]
            found += [block.resid_post.value[0] for block in self.model.layers]
        return torch.stack(found).detach()

    def _read(self, stream: torch.Tensor) -> torch.Tensor:
        """The logits that the model's own norm and unembedding give."""
        with torch.no_grad():
            return self.model.unembed(self.model.norm(stream))

    def _ranks(self, prompt: str, answer: str) -> list[int]:
        """The answer's rank in each row, at the last token."""
        logits = self._read(self._stream(prompt)[:, -1])
        chosen = self._id(answer)
        return (logits > logits[:, chosen, None]).sum(-1).tolist()

    def _id(self, word: str) -> int:
        return self.model.tokenizer.encode(word, add_special_tokens=False)[0]

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """The lens by hand: a probability for each row."""
        found = numbers(answer, "the probabilities, a tensor (rows,)")
        stream, paris = self._stream(FRANCE), self._id(" Paris")
        logits = self._read(stream)
        right = logits[:, -1].softmax(-1)[:, paris]
        with torch.no_grad():
            bare = self.model.unembed(stream[:, -1]).softmax(-1)[:, paris]
        other = self._id("Paris")
        mistakes: list[Mistake] = [
            (right[1:], "The first row is missing: the stream before the first block."),
            (right[:-1], "The last row is missing: the stream behind the last block."),
            (logits[:, -1].log_softmax(-1)[:, paris], "These are log-probabilities."),
            (logits[:, -1, paris], "These are logits. A softmax over the vocabulary is missing."),
            (bare, "The final norm is missing between stream and unembedding."),
            (logits[:, -1].softmax(-1)[:, other], "The token is 'Paris', not ' Paris': the blank "
             "belongs to it."),
            (logits[:, 0].softmax(-1)[:, paris], "This is the first position; the answer comes "
             "after the last."),
            (logits[:, -1, paris].softmax(0), "The softmax goes over the rows. It has to go over "
             "the vocabulary."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(rows,)")
        return f"It is below 1 % for {int((right < 0.01).sum())} of {len(right)} rows."

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """The block from which on a word stays among the ten likeliest."""
        found = whole(answer, "the number of a block")
        ranks = self._ranks(BROTHER, " his")
        right = max(k for k, rank in enumerate(ranks) if rank >= 10)
        once = next(k for k, rank in enumerate(ranks) if rank < 10) - 1
        best = next(k for k in range(len(ranks)) if not any(ranks[k:])) - 1
        # Row k + 1 is behind block k; the row after the last one outside is therefore `right`.
        if found == right:
            return "From then on it has only to beat nine others."
        if found == right + 1:
            raise Hint("That is the row's place in the list. The first row is the input's: row k + "
                       "1 stands behind block k.")  # fmt: skip
        if found == right - 1:
            raise Hint("That is the last block behind which it is not among them yet.")
        if found == best:
            raise Hint("From there on it is the likeliest of all. The ten likeliest were asked.")
        if found == once:
            raise Hint("It is among the ten there, but not for good.")
        if not 0 <= found < self.model.n_layers:
            raise Hint(f"There are blocks 0 to {self.model.n_layers - 1}.")
        way = "later" if found < right else "earlier"
        raise Hint(f"It is {way}. Look at the rank at the last position, row by row.")

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """A prompt and a block where the lens is sure and wrong."""
        prompt, block = several(answer, 2, "a tuple (prompt, block)")
        prompt, block = text(prompt, "a prompt"), whole(block, "the number of a block")
        if not LATE <= block < self.model.n_layers - 1:
            raise Hint(f"Blocks {LATE} to {self.model.n_layers - 2} were asked: before the last "
                       "one, and not so early that a lens could not know.")  # fmt: skip
        shares = self._read(self._stream(prompt)[:, -1]).softmax(-1)
        said, end = int(shares[block + 1].argmax()), int(shares[-1].argmax())
        word, share = self._word(said), float(shares[block + 1, said])
        if share <= SURE:
            raise Hint(
                f"The lens is not sure there: its likeliest token, {word!r}, has {share:.2f}."
            )
        if said == end:
            raise Hint(f"The lens says {word!r} there ({share:.2f}), and so does the model at its "
                       "end: sure and right.")  # fmt: skip
        return f"{word!r} with {share:.2f}, and the model ends with {self._word(end)!r}."

    @exercise
    def exercise_4(self, answer: Any) -> str:
        """The MLP whose write, read alone, ranks the answer best."""
        found = whole(answer, "the number of a block")
        with self.model.trace(FRANCE):
            added = torch.stack([block.mlp.added.value[0, -1] for block in self.model.layers])
        logits, paris = self._read(added.detach()), self._id(" Paris")
        ranks = (logits > logits[:, paris, None]).sum(-1)
        stream = self._ranks(FRANCE, " Paris")
        if not 0 <= found < self.model.n_layers:
            raise Hint(f"There are blocks 0 to {self.model.n_layers - 1}.")
        if ranks[found] == ranks.min():
            size = float(added[found].norm() / self._stream(FRANCE)[-1, -1].norm())
            return f"Its write is {size:.2f} times as long as the last vector of the stream."
        if found in (stream.index(min(stream)) - 1, len(stream) - 2):
            raise Hint("There the whole stream has it at the best rank. The question is what the "
                       "MLP adds, alone: `of=\"mlp\"`.")  # fmt: skip
        raise Hint(f"Read alone, what MLP {found} adds has ' Paris' at rank {int(ranks[found])}. "
                   "Another one has it better.")  # fmt: skip

    def _word(self, token: int) -> str:
        return self.model.tokenizer.decode([token])
