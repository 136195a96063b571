"""Steering: a direction added to the residual stream while text is generated, strength by strength.

What to read it against stands beside it: the text without it, a random direction of equal length,
and the loss of each text under the model that is not steered. A text of high loss is word salad,
whatever words it has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch

from nnsight_magic.analyses.directions import Direction
from nnsight_magic.analyses.prompt import model_words, notices_of
from nnsight_magic.analyses.steering_shown import Said, Steering
from nnsight_magic.errors import BadInputError
from nnsight_magic.progress import progress_bar

RELATIVE = (0.1, 0.15, 0.2, 0.25, 0.3, 0.4)  # parts of the residual stream's mean length
UNITS = (1.0, 2.0, 4.0, 8.0)
NEW_TOKENS = 20


def steer(
    model: Any,
    direction: Direction,
    prompts: str | Sequence[str],
    strengths: Sequence[float] | None = None,
    *,
    relative: bool = False,
    new_tokens: int = NEW_TOKENS,
    random: bool = True,
    seed: int = 0,
    progress: bool = True,
) -> Steering:
    """Texts that a model writes with a direction added, by strength.

    The direction is added to what its blocks give, at all tokens but the first of each prompt, and
    at each that is generated. Tokens are chosen greedily.

    Args:
        model: a `LanguageModel`; it stays as it is.
        direction: of `analyses.direction`, of a probe, or of a file.
        prompts: one text or several.
        strengths: in units of the direction, or with `relative` in parts of the mean length of the
            residual stream over the prompts' tokens but the first.
        relative: see `strengths`.
        new_tokens: how many are generated.
        random: write each text with a random direction of equal length too, as a control.
        seed: where its random numbers begin.
        progress: show a bar if it takes longer than a second.

    Raises:
        BadInputError: the direction does not fit the model, or there is no prompt.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> shout = analyses.direction(model, [("I LOVE THE SEA", "I love the sea")], layer=8)
    >>> found = analyses.steer(model, shout, "My name is", [0.2], relative=True, new_tokens=3)
    >>> found.strengths, len(found.said[0.2])
    ([0.0, 0.2], 1)
    """
    texts = [prompts] if isinstance(prompts, str) else list(prompts)
    if not texts or not all(isinstance(each, str) and each for each in texts):
        raise BadInputError(
            "Steering begins with a prompt or several, as texts that are not empty."
        )
    if not isinstance(new_tokens, int) or new_tokens < 1:
        raise BadInputError(f"new_tokens={new_tokens!r}: expected a number of tokens from 1 on.")
    chosen = list(strengths if strengths is not None else RELATIVE if relative else UNITS)
    if not all(isinstance(each, int | float) and each == each for each in chosen):
        raise BadInputError(f"Strengths are numbers; found {chosen!r}.")
    direction.check(model)
    if getattr(getattr(model._root, "config", None), "is_encoder_decoder", False):
        raise BadInputError("Steering is of models that go on with their prompt; this one answers.")
    measured = lengths_of(model, texts, direction.layers)
    direction = replace(direction, lengths=measured)
    writer = Writer(model, direction, texts, relative, new_tokens, seed if random else None)
    wanted = sorted({0.0, *map(float, chosen)})
    said, control = {}, {}
    total = len(wanted) * (1 + random)
    with progress_bar(total=total, unit=" strengths", delay=1, disable=not progress) as bar:
        for strength in wanted:
            said[strength], control[strength] = writer.write(strength)
            bar.update(1 + random)
    return Steering(
        direction=direction,
        prompts=tuple(texts),
        said=said,
        control=control if random else {},
        relative=relative,
        model=model_words(model, "")["model"],
        notices=notices_of(model),
        writer=writer,
    )


class Writer:
    """Writes the texts of any strength, with the direction and with a random one.

    Args:
        seed: of the random direction; `None` for none.
    """

    def __init__(
        self,
        model: Any,
        direction: Direction,
        prompts: Sequence[str],
        relative: bool,
        new_tokens: int,
        seed: int | None,
    ) -> None:
        self._model, self._direction, self._prompts = model, direction, list(prompts)
        self._relative, self._new_tokens = relative, new_tokens
        self._random = None if seed is None else random_like(direction, seed)
        self._ids = [[int(each[1]) for each in model.tokens(prompt)] for prompt in prompts]

    def write(self, strength: float) -> tuple[list[Said], list[Said]]:
        """The texts with the direction, and those with the random one (none where not wanted)."""
        own = self._written(self._direction, strength)
        if self._random is None:
            return own, []
        return own, own if not strength else self._written(self._random, strength)

    def _written(self, direction: Direction, strength: float) -> list[Said]:
        model = self._model
        if strength:
            model = direction.steered(model, strength, relative=self._relative)
        rows = model.generate(
            self._prompts, max_new_tokens=self._new_tokens, do_sample=False
        ).sequences
        width = max(map(len, self._ids))  # what is shorter is padded on the left
        found = []
        for row, prompt in zip(rows.tolist(), self._ids, strict=True):
            new = _until_end(row[width:], ends_of(self._model))
            found.append(Said(self._model.tokenizer.decode(new), loss_of(self._model, prompt, new)))
        return found


def ends_of(model: Any) -> set[int]:
    """The tokens with which a text of the model ends."""
    found = getattr(getattr(model.module, "generation_config", None), "eos_token_id", None)
    return set(found) if isinstance(found, list | tuple) else set() if found is None else {found}


def _until_end(ids: list[int], ends: set[int]) -> list[int]:
    """The ids before the first that ends a text; behind it stands padding."""
    return next((ids[:k] for k, each in enumerate(ids) if each in ends), ids)


def random_like(direction: Direction, seed: int) -> Direction:
    """A direction of random numbers, in each block as long as this one."""
    chance = torch.Generator().manual_seed(seed)
    vectors = {}
    for layer in direction.layers:
        noise = torch.randn(direction.size, generator=chance)
        vectors[layer] = noise * (direction.vectors[layer].norm() / noise.norm())
    return replace(direction, vectors=vectors, words="random")


def lengths_of(model: Any, prompts: Sequence[str], layers: Sequence[int]) -> dict[int, float]:
    """By block the mean length of the residual stream, over all tokens but the first of each."""
    found: dict[int, list[torch.Tensor]] = {layer: [] for layer in layers}
    with torch.no_grad():
        for prompt in prompts:
            with model.trace(prompt):
                for layer in sorted(layers):
                    states = model.layers[layer].resid_post[0].float()
                    found[layer].append((states[1:] if len(states) > 1 else states).norm(dim=-1))
    return {layer: float(torch.cat(each).mean()) for layer, each in found.items()}


def loss_of(model: Any, prompt: Sequence[int], new: Sequence[int]) -> float:
    """The mean loss of the new tokens behind the prompt, in nats; NaN where there are none."""
    if not new:
        return float("nan")
    with torch.no_grad(), model.trace(torch.tensor([[*prompt, *new]])):
        logits = model.logits[0, len(prompt) - 1 : -1].float()
        own = logits.log_softmax(-1)[torch.arange(len(new)), torch.tensor(new)].mean().save()
    return -float(own)
