"""Checks of notebook 03, generation and steering."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from nnsight_magic.tutorials.checking import Hint, exercise, number, numbers, several, text

EIFFEL = "The Eiffel Tower is in the city of"
START = "When I woke up this morning,"
BLOCK, STRENGTH, NEW = 8, 0.4, 12
# How alike two directions are that are made of different sentences of one kind, and random ones.
ALIKE, UNLIKE = 0.9, 0.3
RANDOM, DRAWS = 50.0, 20

TEXTS = [
    "The train to the north leaves at seven in the morning.",
    "Please close the door when you go home tonight.",
    "We found an old map in the drawer of the kitchen table.",
    "The teacher asked the class to read the first chapter.",
    "My neighbour has three cats and a very small garden.",
    "It rained all day, so the match was moved to Sunday.",
    "The museum shows paintings of the last hundred years.",
    "She wrote a long letter to her friend in the mountains.",
]


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self.texts = TEXTS

    @property
    def noise(self) -> torch.Tensor:
        """A random vector of length 50, the same one each time."""
        drawn = torch.randn(self.model.hidden_size, generator=torch.Generator().manual_seed(1))
        return RANDOM * drawn / drawn.norm()

    def _mean(self, texts: list[str], first: int = 1, block: int = BLOCK) -> torch.Tensor:
        found = []
        for each in texts:
            with self.model.trace(each):
                found.append(self.model.layers[block].resid_post.value[0, first:].detach())
        return torch.cat(found).mean(0)

    @cached_property
    def _direction(self) -> torch.Tensor:
        """Capitals minus small letters, of length 1."""
        found = self._mean([t.upper() for t in TEXTS]) - self._mean([t.lower() for t in TEXTS])
        return found / found.norm()

    @cached_property
    def _push(self) -> torch.Tensor:
        with self.model.trace(START):
            usual = self.model.layers[BLOCK].resid_post.value[0, 1:].norm(dim=-1).mean().detach()
        return STRENGTH * usual * self._direction

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """A direction of half the sentences."""
        found = numbers(answer, "a direction, a tensor (hidden,)")
        if found.shape != (self.model.hidden_size,):
            raise Hint(f"A direction is {self.model.hidden_size} numbers; this has the shape "
                       f"{tuple(found.shape)}. Take the mean over texts and tokens.")  # fmt: skip
        if not found.norm() > 0:
            raise Hint("This vector is zero: both sides are equal. Are the texts?")
        cosine = float(torch.nn.functional.cosine_similarity(found, self._direction, dim=0))
        if cosine >= ALIKE:
            return f"Its cosine with the direction of all eight is {cosine:.2f}."
        if cosine <= -ALIKE:
            raise Hint("It points the other way: capitals minus small letters was asked.")
        half = [t.upper() for t in TEXTS[:4]], [t.lower() for t in TEXTS[:4]]
        one_side = [self._mean(each) for each in half]
        if any(_same(found, side) for side in one_side):
            raise Hint("This is the mean of one side. What both sides share is most of it, and "
                       "goes when you take one off the other.")  # fmt: skip
        raise Hint(f"Its cosine with the direction of all eight is {cosine:.2f}. The stream behind "
                   f"block {BLOCK}, all tokens but the first, the same sentences on both "
                   "sides.")  # fmt: skip

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """Random directions as a control."""
        found = numbers(answer, f"random directions, a tensor ({DRAWS}, hidden)")
        asked, push = (DRAWS, self.model.hidden_size), self._push
        if found.shape != asked:
            raise Hint(f"The shape should be {asked}; yours is {tuple(found.shape)}.")
        lengths = found.norm(dim=-1)
        if not torch.allclose(lengths, push.norm(), rtol=1e-3):
            if torch.allclose(lengths, torch.ones(DRAWS), rtol=1e-3):
                raise Hint("They have length 1. A weaker push proves nothing: as long as `push`.")
            if abs(float(found.norm()) / float(push.norm()) - 1) < 1e-3:
                raise Hint("All twenty together are as long as `push`; each one has to be.")
            raise Hint(f"They are {float(lengths.min()):.1f} to {float(lengths.max()):.1f} long, "
                       f"`push` is {float(push.norm()):.1f}.")  # fmt: skip
        unit = found / lengths[:, None]
        among = (unit @ unit.T - torch.eye(DRAWS)).abs()
        if float(among.max()) > UNLIKE:
            raise Hint("Some of them are nearly the same direction: draw each one anew.")
        if float((unit @ self._direction).abs().max()) > UNLIKE:
            raise Hint("One of them is nearly the direction itself.")
        return "Twenty draws give the spread; one draw gives a number that may be anything."

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """A push at token 0 alone, and at all others."""
        what = "two probabilities, (token 0, all others)"
        at_first, at_others = (number(each, what) for each in several(answer, 2, what))
        rows = {"first": slice(0, 1), "others": slice(1, None), "all": slice(None)}
        right = {name: self._paris(where) for name, where in rows.items()}
        if _near(at_first, right["first"]) and _near(at_others, right["others"]):
            return "A vector a thousand times longer hardly feels it, and nobody reads its rest."
        if _near(at_first, right["others"]) and _near(at_others, right["first"]):
            raise Hint("The two are exchanged: token 0 first.")
        if _near(at_others, right["all"]) and not _near(right["all"], right["others"]):
            raise Hint("The second push goes to all tokens, token 0 too.")
        clean = self._paris(slice(0, 0))
        if _near(at_first, clean) and _near(at_others, clean):
            raise Hint("Nothing was changed in either run. Is the write to a copy?")
        if at_first < 0 or at_others < 0:
            raise Hint("Probabilities are not negative; these look like log-probabilities.")
        wrong = "first" if not _near(at_first, right["first"]) else "second"
        raise Hint(f"The {wrong} number is another one: `check.noise` behind block {BLOCK}, "
                   "p(' Paris') at the last token.")  # fmt: skip

    def _paris(self, where: slice) -> float:
        paris = self.model.tokenizer.encode(" Paris", add_special_tokens=False)[0]
        with self.model.trace(EIFFEL):
            self.model.layers[BLOCK].resid_post[:, where] += self.noise
            found = self.model.logits.value[0, -1].softmax(-1)[paris]
        return float(found)

    @exercise
    def exercise_4(self, answer: Any) -> str:
        """Steering the prompt alone, and the new tokens alone."""
        what = "two texts, (prompt alone, new tokens alone)"
        given = [text(each, what).removeprefix(START) for each in several(answer, 2, what)]
        asked = [self._written({0}), self._written(set(range(1, NEW)))]
        both, none = self._written(set(range(NEW))), self._written(set())
        if [each.strip() for each in given] == [each.strip() for each in asked]:
            shares = [_capitals(each) for each in asked]
            return f"Capitals: {shares[0]:.0%} with the prompt pushed, {shares[1]:.0%} later."
        if [each.strip() for each in reversed(given)] == [each.strip() for each in asked]:
            raise Hint("The two are exchanged: the prompt alone comes first.")
        for each, which in zip(given, ("first", "second"), strict=True):
            if each.strip() == none.strip():
                raise Hint(f"The {which} text is the one without a push.")
            if each.strip() == both.strip():
                raise Hint(f"The {which} text is that of a push at all steps.")
        raise Hint("These are other texts. Twelve new tokens, `do_sample=False`, `push` behind "
                   f"block {BLOCK}, at step 0 all tokens but the first.")  # fmt: skip

    def _written(self, pushed: set[int]) -> str:
        block = self.model.layers[BLOCK]
        with self.model.generate(START, max_new_tokens=NEW, do_sample=False) as tracer:
            for step in tracer.steps:
                if step == 0 and 0 in pushed:
                    block.resid_post[:, 1:] += self._push
                elif step in pushed:
                    block.resid_post += self._push
        count = len(self.model.tokens(START))
        return self.model.tokenizer.decode(tracer.result[0, count:])


def _near(one: float, other: float) -> bool:
    return abs(one - other) <= 0.02


def _same(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).norm() <= 0.01 * other.norm())


def _capitals(written: str) -> float:
    """The share of capitals among the letters."""
    letters = [each for each in written if each.isalpha()]
    return sum(each.isupper() for each in letters) / max(len(letters), 1)
