"""Checks of notebook 11, the same task four ways."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from nnsight_magic.tutorials.checking import Hint, exercise, number

CLEAN = "The capital of France is the city of"
CORRUPT = "The capital of Germany is the city of"
NEAR = 5e-3


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model

    def _id(self, word: str) -> int:
        return self.model.tokenizer.encode(word, add_special_tokens=False)[0]

    def _logits(self, prompt: str, block: int, write: Any) -> torch.Tensor:
        with self.model.trace(prompt):
            write(self.model.layers[block].attn)
            logits = self.model.logits.value[0, -1]
        return logits.detach()

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """A head silenced by a hook."""
        found, paris = number(answer, "a log-probability"), self._id(" Paris")

        def head(attn: Any) -> None:
            attn.heads[4] = 0

        def last(attn: Any) -> None:
            attn.heads[4][:, -1] = 0

        def columns(attn: Any) -> None:
            attn.added[..., 4 * 64 : 5 * 64] = 0

        def next_one(attn: Any) -> None:
            attn.heads[3] = 0

        logits = self._logits(CLEAN, 23, head)
        right = float(logits.log_softmax(-1)[paris])
        if abs(found - right) <= NEAR:
            return "As with a cell: `layers[23].attn.heads[4] = 0`."
        clean = self._logits(CLEAN, 23, lambda attn: None)
        for wrong, hint in (
            (float(clean.log_softmax(-1)[paris]), "Nothing changed. A hook has to return what it "
             "changed, and be there when the model runs."),
            (float(logits.softmax(-1)[paris]), "This is the probability, not its logarithm."),
            (float(logits[paris]), "This is the logit."),
            (right - float(clean.log_softmax(-1)[paris]), "This is the change, not the value."),
            (float(self._logits(CLEAN, 23, columns).log_softmax(-1)[paris]), "These are columns of "
             "what the projection *gives*. The heads stand in what it is *given*: a pre-hook."),
            (float(self._logits(CLEAN, 23, last).log_softmax(-1)[paris]), "The head is silent at "
             "the last token alone."),
            (float(self._logits(CLEAN, 23, next_one).log_softmax(-1)[paris]), "That is head 3: "
             "heads are counted from 0."),
        ):  # fmt: skip
            if abs(found - wrong) <= 1e-3:
                raise Hint(hint)
        raise Hint("No. Head 4 of block 23 has columns 256 to 320 of the projection's input.")

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """Another head's patch."""
        found = number(answer, "a logit difference")
        paris, berlin = self._id(" Paris"), self._id(" Berlin")

        def patched(source: str, target: str, block: int, which: int) -> float:
            with self.model.trace(source):
                z = self.model.layers[block].attn.heads[which].value

            def put(attn: Any) -> None:
                attn.heads[which] = z

            logits = self._logits(target, block, put)
            return float(logits[paris] - logits[berlin])

        right = patched(CLEAN, CORRUPT, 29, 0)
        baseline = patched(CORRUPT, CORRUPT, 29, 0)
        if abs(found - right) <= NEAR:
            return f"Lower than {baseline:.2f}, without a patch: it works against the answer."
        for wrong, hint in (
            (right - baseline, "This is how far it moves; the difference itself was asked."),
            (baseline, "Nothing changed: this is the run without a patch."),
            (patched(CLEAN, CORRUPT, 23, 4), "That is still head 23.4."),
            (patched(CORRUPT, CLEAN, 29, 0), "Clean and corrupt are exchanged."),
            (-right, "The sign is the other way round."),
        ):  # fmt: skip
            if abs(found - wrong) <= NEAR:
                raise Hint(hint)
        raise Hint("No. What head 29.0 gives after France, in the run on Germany.")

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """A function that counts hooks."""
        if not callable(answer) or isinstance(answer, type):
            raise Hint("The answer is a function: give it without calling it.")
        net = nn.Sequential(nn.Linear(2, 2), nn.Sequential(nn.ReLU(), nn.Linear(2, 2)))
        cases = [(0, "no hook"), (1, "one pre-hook"), (2, "a forward hook, too"), (3, "one deeper")]
        places = (
            lambda: net[0].register_forward_pre_hook(lambda m, a: None),
            lambda: net.register_forward_hook(lambda m, a, o: None),
            lambda: net[1][0].register_forward_hook(lambda m, a, o: None),  # type: ignore[index]
        )
        for right, what in cases:
            try:
                said = answer(net)
            except Exception as error:
                raise Hint(f"With {what} it raises {type(error).__name__}: {error}") from None
            if not isinstance(said, int) or isinstance(said, bool) or said != right:
                raise Hint(f"With {what} there are {right} hooks; it says {said!r}.")
            if right < len(places):
                places[right]()
        return "Count before and after a piece of code that is not yours."
