"""Checks of notebook 07, attribution and its errors."""

from __future__ import annotations

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
)

EIFFEL = (
    "The Eiffel Tower is in the city of",
    "The Colosseum is in the city of",
    " Paris",
    " Rome",
)
FRANCE = (
    "The capital of France is the city of",
    "The capital of Germany is the city of",
    " Paris",
    " Berlin",
)
FAILS = 0.5


class Checks:
    """The exercises' checks, with the model they are computed from."""

    def __init__(self, model: Any) -> None:
        self.model = model

    @exercise
    def exercise_1(self, answer: Any) -> str:
        """What each part adds to a logit difference, directly."""
        found = numbers(answer, "what each part adds, a tensor (parts,)")
        model = self.model
        with model.trace(EIFFEL[0]):
            added = [model.embed.output.value[0, -1]]
            for block in model.layers:
                added += [block.attn.added.value[0, -1], block.mlp.added.value[0, -1]]
            scale = model.norm.scale.value[0, -1]
        parts, scale = torch.stack(added).detach(), scale.detach()
        weight, unembedding = model.norm.weight.detach(), model.unembed.weight.detach()
        paris, rome = (unembedding[self._id(word)] for word in EIFFEL[2:])
        between = weight * (paris - rome)
        right = parts @ (scale * between)
        own = parts.pow(2).mean(-1, keepdim=True).rsqrt()
        mistakes: list[Mistake] = [
            (parts @ between, "The norm's scale is missing."),
            (parts @ (scale * (paris - rome)), "The norm's weight is missing."),
            ((parts * own) @ between, "Each part is normed by itself. The norm sees their sum: its "
             "scale is one number for all."),
            (parts @ (scale * weight * paris), "This is for ' Paris' alone."),
            (-right, "The sign is the other way round: ' Paris' minus ' Rome'."),
            (right[1:], "The embedding is a part, too."),
            (torch.cat([right[:1], right[1::2], right[2::2]]), "All attentions first, then all "
             "MLPs: the order asked was block by block."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(parts,)")
        return f"They sum up to {float(right.sum()):.3f}, the difference of the model's own logits."

    @exercise
    def exercise_2(self, answer: Any) -> str:
        """Attribution patching of the heads."""
        found = numbers(answer, "the estimates, a tensor (blocks, heads)")
        clean, corrupt = self._run(FRANCE[0]), self._run(FRANCE[1])
        step = clean[0] - corrupt[0]
        right = (step * corrupt[1]).sum((1, 3))
        mistakes: list[Mistake] = [
            ((step * clean[1]).sum((1, 3)), "The gradient is that of the clean run. The patch "
             "begins in the corrupt one."),
            (-right, "Clean minus corrupt, not corrupt minus clean."),
            ((clean[0] * corrupt[1]).sum((1, 3)), "This is the clean output times the gradient: "
             "the corrupt one has to be taken off."),
            (-(corrupt[0] * corrupt[1]).sum((1, 3)), "This estimates what zeroing does."),
            ((step * corrupt[1])[:, -1].sum(-1), "This is the last token alone."),
            ((step * corrupt[1]).mean((1, 3)), "This is a mean; a change times a gradient is a sum "
             "over all numbers that change."),
            ((step * corrupt[1]).sum(1), "Sum over the head's 64 numbers, too."),
            ((step * corrupt[1]).abs().sum((1, 3)), "The sizes are summed up. Signs cancel in the "
             "sum, and should."),
        ]  # fmt: skip
        compare(found, right, mistakes, axes="(blocks, heads)")
        return "Two forwards and one backward, for 270 patches."

    def _run(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """Every head's output and its gradient, `(blocks, tokens, heads, size)` each."""
        from nnsight_magic import analyses

        metric = analyses.metric_of(self.model, *FRANCE[2:])
        with self.model.trace(prompt, grad=True):
            given = [block.attn.z for block in self.model.layers]
            metric(self.model.logits).backward()
            slopes = [each.grad[0] for each in given]
        return torch.stack([each.value[0].detach() for each in given]), torch.stack(slopes)

    @exercise
    def exercise_3(self, answer: Any) -> str:
        """A pair on which the plain gradient fails."""
        from nnsight_magic import analyses

        pair = several(answer, 4, "a tuple (clean, corrupt, answer, versus)")
        clean, corrupt, word, versus = (text(each, "four texts") for each in pair)
        if clean == corrupt:
            raise Hint("Both prompts are the same.")
        if "Eiffel" in clean + corrupt:
            raise Hint("The Eiffel Tower is the notebook's. Another one.")
        counts = [len(self.model.tokens(each)) for each in (clean, corrupt)]
        if counts[0] != counts[1]:
            raise Hint(f"The prompts have {counts[0]} and {counts[1]} tokens: they need as many.")
        for each in (word, versus):
            if len(self._ids(each)) != 1:
                raise Hint(f"{each!r} is {len(self._ids(each))} tokens: take an answer of one.")
        found = analyses.attribute(
            self.model, clean, corrupt, word, versus, site="mlp", method="grad"
        )
        high, low = found.attrs["reference"], found.attrs["baseline"]
        if not low < 0 < high:
            raise Hint(f"The model does not know this pair: the logit difference is {high:.1f} "
                       f"after the clean prompt, {low:.1f} after the corrupt one.")  # fmt: skip
        r = found.attrs["correlation"]
        if r >= FAILS:
            raise Hint(f"It works there: r = {r:.2f}. In which way was the Eiffel Tower's name "
                       "different from a country's?")  # fmt: skip
        return f"r = {r:.2f} there."

    @exercise
    def exercise_4(self, answer: Any) -> str:
        """The part of a head's effect that is direct."""
        from nnsight_magic import analyses

        found = number(answer, "a part of the whole")
        direct = float(
            analyses.path_patch(self.model, *FRANCE[:2], ["29.1:logits"], *FRANCE[2:]).values[0]
        )
        heads = analyses.patch(self.model, *FRANCE, site="heads", layers=[29])
        whole = float(heads.sel(layer=29, head=1))
        right = direct / whole
        parts = analyses.dla(self.model, FRANCE[0], *FRANCE[2:], by="head")
        if abs(found - right) <= 0.02:
            return "It stands in the last block: only the last MLP and the norm come behind it."
        for wrong, hint in (
            (direct, "This is the direct effect itself. Divide it by the whole."),
            (whole, "This is the whole effect."),
            (1 / right, "The fraction is upside down."),
            (1 - right, "This is the rest, that goes by other parts."),
            (float(parts.sel(layer=29, head=1)) / whole, "Direct attribution of the clean run is "
             "not the patch of a path: the corrupt run's part has to be taken off."),
        ):  # fmt: skip
            if abs(found - wrong) <= 0.005 * max(1, abs(wrong)):
                raise Hint(hint)
        raise Hint("No. The path 29.1:logits, and the exact patch of 29.1.")

    def _ids(self, word: str) -> list[int]:
        return self.model.tokenizer.encode(word, add_special_tokens=False)

    def _id(self, word: str) -> int:
        return self._ids(word)[0]
