"""Checks of notebook 01, reading activations."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import torch

from nnsight_magic.tutorials.checking import (
    Hint,
    Mistake,
    compare,
    exercise,
    number,
    numbers,
    several,
    text,
    whole,
)

PROMPT = "The Eiffel Tower is in the city of"


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @cached_property
    def _run(self) -> dict[str, torch.Tensor]:
        """What the exercises need of one forward; each `(blocks, tokens, hidden)` but `embed`."""
        with self.model.trace(PROMPT):
            embed = self.model.embed.output.value[0]
            attn, mlp, resid, looks = [], [], [], []
            for block in self.model.layers:
                looks.append(block.attn.pattern.value[0])
                attn.append(block.attn.added.value[0])
                mlp.append(block.mlp.added.value[0])
                resid.append(block.output.value[0])
        with self.model.trace(PROMPT):
            normed = self.model.norm.output.value[0]
        stacked = {"attn": attn, "mlp": mlp, "resid": resid, "looks": looks}
        found = {name: torch.stack(each).detach() for name, each in stacked.items()}
        return {**found, "embed": embed.detach(), "normed": normed.detach()}

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """The length of every token's vector behind every block."""
        found = numbers(answer, "the lengths, a tensor (blocks, tokens)")
        resid = self._run["resid"]
        right = resid.norm(dim=-1)
        mistakes: list[Mistake] = [
            (resid.norm(dim=1), "This is a length for each of the 576 numbers, over the tokens: "
             "which axis does a token's vector lie along?"),
            (resid.norm(dim=(1, 2)), "One length for a whole block: the tokens are summed."),
            (right[:, 1:], "The first token is missing. It is the interesting one."),
            (right**2, "These are squared lengths."),
            (resid.mean(-1), "This is a mean over the 576 numbers. A length is the root of the "
             "sum of squares."),
            (self._run["mlp"].norm(dim=-1), "This is what the MLPs add, not the stream behind the "
             "block."),
            (torch.cat([self._run["embed"][None], resid[:-1]]).norm(dim=-1), "This is the stream "
             "before each block: one block too early."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(blocks, tokens)")
        return "The largest length is token 0's, behind block 11, and stays there for 16 blocks."

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """The module that writes the large number, and how much it writes."""
        what = 'a tuple (block, "attn" or "mlp", what it adds)'
        block, half, added = several(answer, 3, what)
        block, added = whole(block, "the block's number"), number(added, "what it adds")
        half = text(half, '"attn" or "mlp"').strip().lower()
        if half not in ("attn", "mlp"):
            raise Hint(f'A block has two halves, "attn" and "mlp"; this says {half!r}.')
        resid, feature = self._run["resid"], self._feature
        written = {each: self._run[each][:, 0, feature] for each in ("attn", "mlp")}
        right_half = max(written, key=lambda each: float(written[each].abs().max()))
        right = int(written[right_half].abs().argmax())
        if not 0 <= block < self.model.n_layers:
            raise Hint(f"There are blocks 0 to {self.model.n_layers - 1}.")
        if (block, half) != (right, right_half):
            if block == int(resid[:, 0, feature].abs().argmax()):
                raise Hint("There the number stands. It need not have been written there: compare "
                           "the stream before a block and behind it.")  # fmt: skip
            raise Hint(f"{half} {block} adds {float(written[half][block]):+.0f}: that is not the "
                       "largest. Look at what each half adds, not at the stream.")  # fmt: skip
        exact = float(written[half][block])
        if abs(added - exact) > 1e-3 * abs(exact):
            if abs(added - float(resid[block, 0, feature])) <= 1e-4 * abs(exact):
                raise Hint("The module is right. The number is the stream's behind it, not what "
                           "the module adds.")  # fmt: skip
            raise Hint("The module is right, the number is not: `.added`, token 0, feature "
                       f"{feature}.")  # fmt: skip
        return "One MLP writes it in one go, and two at the end take most of it away again."

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """Embedding and all writes, summed up."""
        found = numbers(answer, "the sum, a tensor (tokens, hidden)")
        run = self._run
        attn, mlp, embed = run["attn"].sum(0), run["mlp"].sum(0), run["embed"]
        mistakes: list[Mistake] = [
            (attn + mlp, "Something stood in the stream before the first block wrote to it."),
            (embed + mlp, "The attention halves add to the stream, too."),
            (embed + attn, "The MLPs add to the stream, too."),
            (run["normed"], "This is behind the final norm, which is no part of the stream."),
            (embed + run["resid"].sum(0), "`.output` is the whole stream behind a block; summing "
             "it up counts everything many times. What a half adds is `.added`."),
        ]  # fmt: skip
        # Token 0 is a thousand times longer than the others and would hide every mistake there.
        right = run["resid"][-1]
        if found.shape == right.shape:
            cut = [(wrong[1:], hint) for wrong, hint in mistakes]
            compare(found[1:], right[1:], cut, axes="(tokens, hidden)", within=1e-4)
        compare(found, right, mistakes, axes="(tokens, hidden)", within=1e-4)
        return (
            "The stream is a sum, which is why one can ask what each part adds to an answer (07)."
        )

    @exercise
    def exercise_4(self, answer: Any) -> str:
        """How much each block attends to token 0."""
        found = numbers(answer, "a mean weight for each block, a tensor (blocks,)")
        looks = self._run["looks"]
        right = looks[:, :, 1:, 0].mean((1, 2))
        mistakes: list[Mistake] = [
            (looks[..., 0].mean((1, 2)), "Token 0 itself is in the mean. It can look at nothing "
             "but itself: its weight is 1 by the mask, and says nothing."),
            (looks[:, :, 0].mean((1, 2)), "Rows are the tokens that look, columns those looked at: "
             "this is the row of token 0."),
            (looks[:, :, -1, 0].mean(1), "This is the last token alone."),
            (looks[:, :, 1:, 0].mean(2), "Take the mean over the heads, too."),
            (looks[:, :, 1:, 0].amax((1, 2)), "This is the largest weight, not the mean."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(blocks,)")
        return (
            f"Over all blocks {float(right.mean()):.2f}: most attention of this model goes to a "
            "token that says nothing about the others."
        )

    @property
    def _feature(self) -> int:
        """Where token 0 is largest in the middle of the model."""
        return int(self._run["resid"][self.model.n_layers // 2, 0].abs().argmax())
