"""Checks of notebook 05, attention and induction heads."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from nnsight_magic.tutorials.checking import (
    Hint,
    Mistake,
    compare,
    exercise,
    head,
    heads,
    number,
    numbers,
)

COUNT = 50
PAIR = (
    "The capital of France is the city of",
    "The capital of Germany is the city of",
    " Paris",
    " Berlin",
)
# The blocks whose heads exercise 4 is about.
FROM_BLOCK = 14
# Ids below are a tokenizer's special ones.
ORDINARY = 1000


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._patterns = cache(self._read_patterns)
        self._right = cache(self._right_in_second)

    def repeated(self, seed: int, count: int = COUNT) -> torch.Tensor:
        """Ids `(1, 1 + 2 count)`: a token for the beginning, random tokens, and these again."""
        tokenizer = self.model.tokenizer
        first = tokenizer.bos_token_id
        begin = torch.tensor([0 if first is None else first])
        made = torch.Generator().manual_seed(seed)
        random = torch.randint(ORDINARY, len(tokenizer), (count,), generator=made)
        return torch.cat([begin, random, random])[None]

    def _read_patterns(self, seed: int) -> torch.Tensor:
        """Of all heads `(blocks, heads, tokens, tokens)`."""
        with self.model.trace(self.repeated(seed)):
            found = [block.attn.pattern.value[0] for block in self.model.layers]
        return torch.stack(found).detach()

    def _diagonal(self, seed: int, back: int) -> torch.Tensor:
        """The mean weight that tokens of the second copy give to the one `back` places before."""
        second = torch.arange(COUNT + 1, 2 * COUNT + 1)
        return self._patterns(seed)[:, :, second, second - back].mean(-1)

    def _right_in_second(self, silent: tuple[int, int] | None) -> float:
        """The share of right predictions in the second copy, without one head."""
        ids = self.repeated(0)
        with self.model.trace(ids):
            if silent:
                self.model.layers[silent[0]].attn.heads[silent[1]] = 0
            said = self.model.logits.value[0, :-1].argmax(-1)
        return float((said == ids[0, 1:])[COUNT + 1 :].float().mean())

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """The induction score of every head."""
        found = numbers(answer, "the scores, a tensor (blocks, heads)")
        patterns = self._patterns(0)
        right = self._diagonal(0, COUNT - 1)
        second = torch.arange(COUNT + 1, 2 * COUNT + 1)
        every = torch.arange(COUNT - 1, 2 * COUNT + 1)
        mistakes: list[Mistake] = [
            (self._diagonal(0, COUNT), "These are the weights on the same token in the first copy: "
             "a duplicate-token score. What comes next stands one place behind it."),
            (self._diagonal(0, COUNT + 1), "The diagonal is two off, to the other side: this is "
             "the token before the earlier one."),
            (self._diagonal(0, COUNT - 2), "One place too far: the diagonal is one off."),
            (self._diagonal(0, 1), "These look at the token just before."),
            (patterns[:, :, second - (COUNT - 1), second].mean(-1), "Rows look, columns are "
             "looked at; here they are exchanged, and the mask lets nobody look ahead."),
            (patterns[:, :, every, every - (COUNT - 1)].mean(-1), "Only tokens of the second "
             "copy have an earlier one. The mean goes over all."),
            (self._diagonal(0, COUNT - 1)[17:19], "All 30 blocks were asked."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(blocks, heads)")
        top = int(right.argmax())
        name = "{}.{}".format(*divmod(top, self.model.n_heads))
        return f"The highest is {name}'s, {float(right.max()):.2f}."

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """The five heads with the highest score, on other tokens."""
        found = set(heads(answer, self.model, "a list of five heads"))
        if len(found) != 5:
            raise Hint(f"Five heads were asked; these are {len(found)}.")
        right = self._five(self._diagonal(7, COUNT - 1))
        if found == right:
            return "The same five as with other tokens: it is the rule that they follow."
        others = {
            self._five(self._diagonal(7, COUNT)): "These look at the same token in the first copy. "
            "One place behind it stands what comes next.",
            self._five(self._diagonal(7, 1)): "These are previous-token heads.",
            self._five(self._patterns(7)[..., 1:, 0].mean(-1)): "These rest on the first token.",
        }
        if frozenset(found) in others:
            raise Hint(others[frozenset(found)])
        raise Hint(f"{len(found & right)} of them are right.")

    def _five(self, scores: torch.Tensor) -> frozenset[tuple[int, int]]:
        return frozenset(
            (int(k) // self.model.n_heads, int(k) % self.model.n_heads)
            for k in scores.flatten().topk(5).indices
        )

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """The head that the induction heads read."""
        found = head(answer, self.model, "one head")
        before = self._patterns(0).diagonal(-1, -2, -1).mean(-1)
        inducing = self._five(self._diagonal(0, COUNT - 1))
        left, untouched = self._right(found), self._right(None)
        told = f"Without it {left:.2f} of the second copy is right, of {untouched:.2f} before."
        if found in inducing:
            raise Hint("That is an induction head itself. Who tells it what stood before?")
        if float(before[found]) < 0.5:
            raise Hint(f"It gives {float(before[found]):.2f} of its weight to the token before: no "
                       "previous-token head.")  # fmt: skip
        if left > untouched / 2:
            raise Hint(f"It looks back, but {told[0].lower()}{told[1:]}")
        return told

    @exercise
    def exercise_4(self, answer: Any) -> str:
        """The rank correlation of attention and effect."""
        from nnsight_magic import analyses

        found = number(answer, "a correlation")
        if not -1 <= found <= 1:
            raise Hint("A correlation lies between -1 and 1.")
        with self.model.trace(PAIR[0]):
            looks = torch.stack([b.attn.pattern.value[0, :, -1] for b in self.model.layers])
        blocks = range(FROM_BLOCK, self.model.n_layers)
        moved = torch.tensor(
            analyses.patch(self.model, *PAIR, site="heads", layers=blocks).values
        ).flatten()
        looks = looks[FROM_BLOCK:].detach()
        at, first = looks[..., 3].flatten(), looks[..., 0].flatten()
        right = _correlation(_ranks(at), _ranks(moved.abs()))
        if abs(found - right) <= 0.02:
            return "Related, and no more: it would not do to read effects off a pattern."
        for wrong, hint in (
            (_correlation(_ranks(at), _ranks(moved)), "The effects have their signs. A head that "
             "works against the answer has an effect, too."),
            (_correlation(at, moved.abs()), "This is the correlation of the values; one head "
             "decides it. Take the ranks."),
            (_correlation(at, moved), "These are values with signs. Take ranks of their sizes."),
            (_correlation(_ranks(first), _ranks(moved.abs())), "This is attention to token 0."),
            (_correlation(at.argsort(), moved.abs().argsort()), "`argsort` gives an order, not the "
             "ranks. The ranks are the argsort of it."),
        ):  # fmt: skip
            if abs(found - wrong) <= 0.005:
                raise Hint(hint)
        raise Hint("No. All heads of blocks 14 to 29, ranks of the attention from the last token "
                   "to the country, ranks of |effect|.")  # fmt: skip


def _ranks(values: torch.Tensor) -> torch.Tensor:
    return values.argsort().argsort()


def _correlation(one: torch.Tensor, other: torch.Tensor) -> float:
    return float(torch.corrcoef(torch.stack([one.float(), other.float()]))[0, 1])
