"""Checks of notebook 06, activation patching."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
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
    several,
    text,
)

Pair = tuple[str, str, str, str]

FRAME = "is the city of"
ITALY: Pair = (
    "The capital of Italy is the city of",
    "The capital of Greece is the city of",
    " Rome",
    " Athens",
)
GREECE: Pair = (
    "The capital of Greece is the city of",
    "The capital of Austria is the city of",
    " Athens",
    " Vienna",
)
NAMES: Pair = (
    "When Mary and John went to the store, John gave a drink to",
    "When Mary and John went to the store, Mary gave a drink to",
    " Mary",
    " John",
)
FOUR = [(23, 4), (29, 1), (23, 5), (23, 1)]
MOST_HEADS, ENOUGH, HOLDS = 5, 0.9, 0.8


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model
        self._patched = cache(self._patch)

    def _patch(self, pair: Pair, site: str) -> tuple[np.ndarray, float, float]:
        """How far each patch moves the metric; the metric without any, and on the clean prompt."""
        from nnsight_magic import analyses

        found = analyses.patch(self.model, *pair, site=site)
        return found.values, found.attrs["baseline"], found.attrs["reference"]

    def _share(self, pair: Pair, site: str) -> torch.Tensor:
        moved, low, high = self._patched(pair, site)
        return torch.tensor(moved / (high - low))

    def _metrics(self, pair: Pair) -> tuple[float, float]:
        """The difference of the two answers' logits after either prompt."""
        from nnsight_magic import analyses

        clean, corrupt, answer, versus = pair
        metric, found = analyses.metric_of(self.model, answer, versus), []
        for prompt in (clean, corrupt):
            with self.model.trace(prompt):
                found.append(float(metric(self.model.logits)))
        return found[0], found[1]

    def _restored(self, chosen: list[tuple[int, int]], pair: Pair) -> float:
        """The part of the difference that the heads bring back, patched together."""
        from nnsight_magic import analyses

        clean, corrupt, answer, versus = pair
        metric = analyses.metric_of(self.model, answer, versus)
        high, low = self._metrics(pair)
        with self.model.trace(clean):
            given = {at: self.model.layers[at[0]].attn.heads[at[1]].value for at in sorted(chosen)}
        with self.model.trace(corrupt):
            for block, which in sorted(chosen):
                self.model.layers[block].attn.heads[which] = given[block, which]
            now = float(metric(self.model.logits))
        return (now - low) / (high - low)

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """The grid of residual patches, as parts of the way."""
        found = numbers(answer, "the parts of the way, a tensor (blocks, tokens)")
        moved, low, high = self._patched(ITALY, "resid_post")
        effect = torch.tensor(moved)
        right = effect / (high - low)
        clean, corrupt, answer_word, versus = ITALY
        back = self._share((corrupt, clean, versus, answer_word), "resid_post")
        mistakes: list[Mistake] = [
            (effect, "This is how far the metric moves. Divide it by the difference between both "
             "runs."),
            (effect + low, "This is the metric itself. How far is it from the run without a patch, "
             "as a part of the whole difference?"),
            ((effect + low) / high, "It is divided by the clean run's value. 0 should be where "
             "nothing happens, 1 where the clean run is: take the corrupt run's off first."),
            (1 - right, "0 and 1 are exchanged: the patched run is measured from the clean one."),
            (back, "Clean and corrupt are exchanged: this patches Greece into Italy."),
            (self._share(ITALY, "resid_pre"), "This is the stream before each block."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(blocks, tokens)", within=0.02)
        return "The same step, from block 22 at the country to block 23 at the last token."

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """The head that works most against the answer."""
        found = head(answer, self.model, "a head")
        share = self._share(ITALY, "heads")
        if float(share[found]) == float(share.min()):
            return f"It takes {-float(share.min()):.2f} of the difference away."
        if float(share[found]) == float(share.max()):
            raise Hint("That is the head that helps most. Which has the most negative effect?")
        raise Hint(f"Its effect is {float(share[found]):+.2f}; another one's is more negative.")

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """A small circuit, measured with all heads patched together."""
        found = heads(answer, self.model, "a list of heads")
        if len(found) > MOST_HEADS:
            raise Hint(f"{len(found)} heads; {MOST_HEADS} are enough.")
        together = self._restored(found, NAMES)
        if together >= ENOUGH:
            return f"{len(found)} heads bring back {together:.2f}, patched together."
        singles = float(sum(self._share(NAMES, "heads")[each] for each in found))
        if set(found) == set(FOUR):
            raise Hint(f"That is the capitals' circuit. Here it brings back {together:.2f}.")
        if singles >= ENOUGH:
            raise Hint(f"Their single effects sum up to {singles:.2f}, but patched together they "
                       f"bring back {together:.2f}.")  # fmt: skip
        raise Hint(f"Patched together they bring back {together:.2f}; {ENOUGH} was asked. Begin "
                   "with the largest single effect, and add one at a time.")  # fmt: skip

    @exercise
    def exercise_4(self, answer: Any) -> str:
        """How much of the difference is left without the four."""
        found = number(answer, "a part of the difference")
        clean, corrupt, answer_word, versus = GREECE
        gone = self._restored(FOUR, (corrupt, clean, versus, answer_word))
        right, forward = 1 - gone, self._restored(FOUR, GREECE)
        if abs(found - right) <= 0.02:
            return (
                "Nothing is left, and a little less than that: what else matters works against it."
            )
        mistakes = {
            gone: "This is what is gone. The question is what is left.",
            forward: "This is the patch into the corrupt run: whether the heads are enough. Now "
            "the other way round.",
            1 - forward: "This is what the patch into the corrupt run does not bring back. Take "
            "the clean run, and put the corrupt outputs there.",
        }
        nearest = min(mistakes, key=lambda wrong: abs(found - wrong))
        if abs(found - nearest) <= 0.01:
            raise Hint(mistakes[nearest])
        if not -0.5 <= found <= 1.5:
            raise Hint("A part of the difference lies about between 0 and 1. Divide by the "
                       "difference of both runs.")  # fmt: skip
        raise Hint("No. 1 would mean that the four do not matter, 0 that all goes through them.")

    @exercise
    def exercise_5(self, answer: Any) -> str:
        """The four on a frame of the student's own."""
        pair = several(answer, 4, "a tuple (clean, corrupt, answer, versus)")
        clean, corrupt, answer_word, versus = (text(each, "four texts") for each in pair)
        if clean == corrupt:
            raise Hint("Both prompts are the same: there is no difference to bring back.")
        if FRAME in clean:
            raise Hint(f"The frame {FRAME!r} is the notebook's. Take another one.")
        counts = [len(self.model.tokens(each)) for each in (clean, corrupt)]
        if counts[0] != counts[1]:
            raise Hint(f"The prompts have {counts[0]} and {counts[1]} tokens. A patch goes from a "
                       "token to the same place: they need as many.")  # fmt: skip
        for word in (answer_word, versus):
            ids = self.model.tokenizer.encode(word, add_special_tokens=False)
            if len(ids) != 1:
                raise Hint(f"{word!r} is {len(ids)} tokens: take an answer of one.")
            if not word.startswith(" "):
                raise Hint(f"{word!r} has no blank in front, as words in a sentence have.")
        high, low = self._metrics((clean, corrupt, answer_word, versus))
        if high <= 0 or low >= 0:
            raise Hint(f"The model does not know this pair: the logit difference is {high:.1f} "
                       f"after the clean prompt and {low:.1f} after the corrupt one. It should "
                       "change its sign.")  # fmt: skip
        value = self._restored(FOUR, (clean, corrupt, answer_word, versus))
        if value < HOLDS:
            raise Hint(f"The four bring back {value:.2f} there. That is a result, too: what is "
                       f"different? Now find a frame with {HOLDS} or more.")  # fmt: skip
        return f"The four bring back {value:.2f} there."
