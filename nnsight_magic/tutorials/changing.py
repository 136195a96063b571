"""Checks of notebook 02, changing activations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import torch

from nnsight_magic.tutorials.checking import (
    Hint,
    Mistake,
    compare,
    exercise,
    numbers,
    several,
    whole,
)

FRANCE = "The capital of France is the city of"
EIFFEL = "The Eiffel Tower is in the city of"
TEXTS = [
    "The sea was calm and the boat moved slowly towards the harbour.",
    "Water boils at a hundred degrees, and it freezes at zero.",
    "She opened the letter, read it twice, and put it back on the table.",
    "In the morning the children walk to school along the river.",
    "The committee will meet again next week to discuss the budget.",
    "He bought bread, milk and two pounds of apples at the market.",
]
BLOCK = 20
# Where mistakes of exercise 1 are told apart: a block whose heads matter.
ONE_BLOCK = 23
SHOWN = (5, 10, 15, 28)


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.texts = TEXTS

    def _logprobs(self, prompt: str, write: Callable[..., None], points: Sequence[Any]) -> Any:
        """log p(" Paris") at each point of a sweep, in their order."""
        paris = self.model.tokenizer.encode(" Paris", add_special_tokens=False)[0]

        def at(*point: int) -> torch.Tensor:
            write(*point)
            return self.model.logits[0, -1].log_softmax(-1)[paris]

        return torch.stack([each.detach() for each in self.model.sweep(prompt, at, points)])

    def _clean(self, prompt: str) -> torch.Tensor:
        return self._logprobs(prompt, lambda block: None, [(0,)])[0]

    @cached_property
    def _silenced(self) -> torch.Tensor:
        """log p without each head, `(blocks, heads)`."""
        b, h = self.model.n_layers, self.model.n_heads
        points = [(block, which) for block in range(b) for which in range(h)]
        return self._logprobs(FRANCE, self._silent, points).reshape(b, h)

    def _silent(self, block: int, which: int) -> None:
        self.model.layers[block].attn.heads[which] = 0

    def _silent_at_the_end(self, block: int, which: int) -> None:
        self.model.layers[block].attn.heads[which][:, -1] = 0

    def _columns_of_all_heads(self, block: int, which: int) -> None:
        size = self.model.hidden_size // self.model.n_heads
        self.model.layers[block].attn.added[:, :, which * size : (which + 1) * size] = 0

    @cached_property
    def _silenced_wrongly(self) -> list[tuple[torch.Tensor, str]]:
        """log p without each head of one block, silenced in a wrong way, and the hint for it."""
        points = [(ONE_BLOCK, which) for which in range(self.model.n_heads)]
        at_the_end = self._logprobs(FRANCE, self._silent_at_the_end, points)
        columns = self._logprobs(FRANCE, self._columns_of_all_heads, points)
        return [
            (at_the_end, "This zeroes the head at the last token alone."),
            (columns, "These are 64 columns of what the attention adds, where all heads are "
             "mixed already. A head's own part comes before that: `attn.heads[h]`."),
        ]  # fmt: skip

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """The change of log p without each head."""
        found = numbers(answer, "the changes, a tensor (blocks, heads)")
        logprob, clean = self._silenced, self._clean(FRANCE)
        right = logprob - clean
        mistakes: list[Mistake] = [
            (logprob, "These are the log-probabilities. Take the run without a write off."),
            (-right, "The sign is the other way round: a change is after minus before."),
            (logprob.exp() - clean.exp(), "These are changes of the probability, not of its "
             "logarithm."),
            (logprob.exp(), "These are probabilities."),
        ]  # fmt: skip
        if found.shape == right.shape and not torch.allclose(found, right, atol=0.02):
            for other, hint in self._silenced_wrongly:
                if torch.allclose(found[ONE_BLOCK], other - clean, atol=0.01):
                    raise Hint(hint)
        compare(found, right, mistakes, axes="(blocks, heads)", within=0.03)
        return "23.4 stands out by far, the head that notebook 06 finds by patching."

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """The mean of what an MLP adds, token 0 left out."""
        found = numbers(answer, "a mean vector, a tensor (hidden,)")
        added = []
        for text in self.texts[:3]:
            with self.model.trace(text):
                added.append(self.model.layers[BLOCK].mlp.added.value[0].detach())
        rest = torch.cat([each[1:] for each in added])
        right = rest.mean(0)
        by_text = torch.stack([each[1:].mean(0) for each in added]).mean(0)
        mistakes: list[Mistake] = [
            (torch.cat(added).mean(0), "Token 0 is in the mean. What is special about it is in "
             "notebook 01."),
            (rest.mean(1), "This is a mean over the 576 numbers of each token."),
            (rest.sum(0), "This is a sum."),
            (added[0][1:].mean(0), "This is the first text alone."),
            (by_text, "This is the mean of three means: tokens of short texts count more. Put all "
             "tokens together first."),
            (torch.stack([each.mean(0) for each in added]).mean(0), "Token 0 is in the mean, and "
             "it is a mean of means."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(hidden,)")
        whole_mean = torch.cat(added).mean(0)
        off = float((whole_mean - right).norm() / right.norm())
        return f"With the three first tokens in it, it would be off by {off:.0%} of its length."

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """One number whose zeroing more than doubles the loss."""
        what = "a tuple (block, token, feature)"
        block, token, feature = (whole(each, what) for each in several(answer, 3, what))
        ids = self.model.tokens(self.texts[0])
        for found, count, name in (
            (block, self.model.n_layers, "block"),
            (token, len(ids), "token"),
            (feature, self.model.hidden_size, "feature"),
        ):
            if not 0 <= found < count:
                raise Hint(f"There is no {name} {found}: they go from 0 to {count - 1}.")
        if block in SHOWN:
            raise Hint("That block is in the notebook's table. Take another one.")
        before, after = (
            self._loss(self.texts[0], None),
            self._loss(self.texts[0], (block, token, feature)),
        )
        if after <= 2 * before:
            raise Hint(f"The loss goes from {before:.2f} to {after:.2f} there. Notebook 01 says "
                       "where one number is much larger than the others.")  # fmt: skip
        return f"The loss goes from {before:.2f} to {after:.2f}."

    def _loss(self, text: str, zeroed: tuple[int, int, int] | None) -> float:
        with self.model.trace(text) as tracer:
            if zeroed:
                block, token, feature = zeroed
                self.model.layers[block].resid_post[:, token, feature] = 0
            logits = self.model.logits.value[0]
        return float(torch.nn.functional.cross_entropy(logits[:-1], tracer.input_ids[0, 1:]))

    @cached_property
    def _without_halves(self) -> tuple[torch.Tensor, torch.Tensor]:
        """log p without each attention, and without each MLP, `(blocks,)` both."""

        def attn(block: int) -> None:
            self.model.layers[block].attn.added[:] = 0

        def mlp(block: int) -> None:
            self.model.layers[block].mlp.added[:] = 0

        points = [(block,) for block in range(self.model.n_layers)]
        return self._logprobs(EIFFEL, attn, points), self._logprobs(EIFFEL, mlp, points)

    @exercise
    def exercise_4(self, answer: Any) -> str:
        """The attention half that the answer needs most, blocks 0 and 1 aside."""
        found = whole(answer, "the number of a block")
        model, (without, mlps) = self.model, self._without_halves
        right = 2 + int(without[2:].argmin())
        if found == right:
            change = float(without[right] - self._clean(EIFFEL))
            return f"log p(Paris) falls by {-change:.1f} without it."
        if found in (0, 1):
            raise Hint("Blocks 0 and 1 were to be left out.")
        if found == right - 2:
            raise Hint("Counted from block 2 on? Add what you cut off in front.")
        if found == 2 + int(without[2:].argmax()):
            raise Hint("That is the one whose removal helps most.")
        if found == 2 + int(mlps[2:].argmin()):
            raise Hint("That is the MLP that is needed most; the question is of attention.")
        if not 0 <= found < model.n_layers:
            raise Hint(f"There are blocks 0 to {model.n_layers - 1}.")
        raise Hint(f"Without that one log p(Paris) is {float(without[found]):.2f}; another one "
                   "makes it less.")  # fmt: skip
