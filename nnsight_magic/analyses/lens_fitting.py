"""Training a tuned lens: for each row the map that brings its reading nearest to the model's own.

Belrose et al. 2023, "Eliciting Latent Predictions from Transformers with the Tuned Lens". For a row
with vectors h, A and b are moved so that the mean of

    KL(softmax(head(h_last)) ‖ softmax(head(h + A h + b)))

falls; they begin at 0, where the lens is the logit lens. `head` is the model's own norm,
unembedding, scale and softcap, held against its logits before it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import nn

from nnsight_magic.analyses.lens_maps import TUNED, LensMap
from nnsight_magic.analyses.logit_lens import read_stream, row_names
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.readout import unembedding
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.errors import BadInputError, WrongValueError

STEPS, BATCH = 200, 64
RATE = 0.1  # of a step of A, times 1 / hidden: so much of a vector a step can move at most
HELD_OUT = 0.2  # of the tokens, at the end of the texts
LEAST = 8  # tokens


@dataclass(frozen=True)
class FittedLens(LensMap):
    """A tuned lens, and how near it comes.

    Attributes:
        kl: `(row, lens)`, in nats, the mean over tokens that were not trained on: of the logit
            lens, and of the tuned one.
    """

    kl: Result | None = None


def fit_lens(
    model: Any,
    texts: Sequence[Any],
    *,
    rows: Sequence[str] | None = None,
    steps: int = STEPS,
    batch: int = BATCH,
    first: bool = False,
    seed: int = 0,
    told: Callable[[str, int, float], None] | None = None,
) -> FittedLens:
    """A tuned lens for a model, trained on texts.

    One row after another is trained with Adam, its rate falling to 0; the last fifth of the tokens
    is kept to measure it.

    Args:
        model: a `LanguageModel` whose logits are a norm and a linear unembedding of the stream.
        texts: what the model runs on, one text after another.
        rows: `"input"` or numbers of blocks, as texts; all but the last by default.
        steps: of training, for each row.
        batch: tokens of a step.
        first: train on the first token of each text too. Its vectors are many times longer than
            others in most models.
        seed: where the random numbers begin that choose the tokens of a step.
        told: called with the row, the step, and the divergence there.

    Raises:
        BadInputError: there are too few tokens, or no such row.
        WrongValueError: the model's logits are no norm and unembedding of the stream.

    >>> from nnsight_magic import LanguageModel
    >>> model = LanguageModel("demo")
    >>> lens = fit_lens(model, ["The Eiffel Tower is in the city of Paris."], rows=["20"], steps=3)
    >>> lens.rows, lens.kl.dims
    (['20'], ('row', 'lens'))
    """
    known = row_names(model)
    chosen = known[:-1] if rows is None else [str(row) for row in rows]
    wrong = [row for row in chosen if row not in known[:-1]]
    if wrong or not chosen:
        raise BadInputError(
            f"There is no row {', '.join(wrong) or 'to train'}; there are {known[0]} to "
            f"{known[-2]}: the last is the model's own."
        )
    streams, head = _vectors(model, texts, first=first)
    count = len(streams[-1])
    held = max(1, int(count * HELD_OUT))
    if count < LEAST:
        raise BadInputError(
            f"A lens is trained on many tokens, some hundred at least; found {count}."
        )
    with torch.no_grad():
        final = [head(part).log_softmax(-1) for part in streams[-1].split(batch)]
    target = torch.cat(final)
    training = _Training(target, head, held, steps, batch, seed)
    found = []
    for row in chosen:
        tell = None if told is None else partial(told, row)
        found.append(training.run(streams[known.index(row)], tell))
    down, across = Along("row", chosen), Along("lens", ["logit", "tuned"])
    attrs = {"title": "KL to the model's own", "tokens": count, **model_words(model, "")}
    kl = with_axes(torch.tensor([each.kl for each in found]), [down, across], "kl", attrs)
    return FittedLens(
        TUNED,
        {row: each.matrix for row, each in zip(chosen, found, strict=True)},
        {row: each.bias for row, each in zip(chosen, found, strict=True)},
        {"model": attrs["model"], "tokens": count, "steps": steps},
        kl,
    )


# -- what is trained on ---------------------------------------------------------------------------

Head = Callable[[torch.Tensor], torch.Tensor]


def _vectors(model: Any, texts: Sequence[Any], *, first: bool) -> tuple[list[torch.Tensor], Head]:
    """For each row the vectors of all texts `(tokens, hidden)`, and the way to the logits."""
    if isinstance(texts, str) or not len(texts):
        raise BadInputError("Give texts to train on, as a list.")
    parts: list[list[torch.Tensor]] = []
    head: Head | None = None
    for text in texts:
        stream, logits, _ = read_stream(model, text)
        if head is None:
            head = head_of(model, stream[-1][0], logits[0])
        parts.append([each[0, 0 if first else 1 :].detach() for each in stream])
    assert head is not None
    return [torch.cat(row) for row in zip(*parts, strict=True)], head


def head_of(model: Any, hidden: torch.Tensor, logits: torch.Tensor) -> Head:
    """What the model does behind its last block, as a function that gradients go through.

    Args:
        hidden: `(tokens, hidden)`, the last block's output.
        logits: `(tokens, vocabulary)`, the model's own there.

    Raises:
        WrongValueError: it is more than a norm and a linear unembedding.
    """
    norm, out = model.norm.module, model.unembed.module
    cap = getattr(model.module.config.get_text_config(), "final_logit_softcapping", None)
    with torch.no_grad():
        last = norm(hidden[-1:][None])[0, 0]
        known = unembedding(out, last, logits[-1], cap)

    def head(vectors: torch.Tensor) -> torch.Tensor:
        """`(tokens, hidden)` to `(tokens, vocabulary)`, float32."""
        found = out(norm(vectors[None]))[0].float() * known.factor
        return known.cap * torch.tanh(found / known.cap) if known.cap else found

    with torch.no_grad():
        apart = (head(hidden) - logits.float()).abs().max()
    size = logits.float().abs().max()
    if apart > max(1e-3, 8 * torch.finfo(logits.dtype).eps) * size:
        raise WrongValueError(
            "The model's logits are not its final norm and unembedding of the last block's output, "
            f"but {float(apart):.2g} apart, so no lens is trained against them."
        )
    return head


# -- one row --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    matrix: torch.Tensor
    bias: torch.Tensor
    kl: tuple[float, float]  # before and after


@dataclass(frozen=True)
class _Training:
    """How a row's map is trained.

    Attributes:
        target: the model's own log-probabilities `(tokens, vocabulary)`.
        held: so many tokens at the end are not trained on.
    """

    target: torch.Tensor
    head: Head
    held: int
    steps: int
    batch: int
    seed: int

    def run(self, vectors: torch.Tensor, told: Callable[[int, float], None] | None) -> _Row:
        """Trains one row's map, of its vectors `(tokens, hidden)`."""
        count, hidden = vectors.shape
        work = torch.promote_types(vectors.dtype, torch.float32)
        matrix = nn.Parameter(vectors.new_zeros(hidden, hidden, dtype=work))
        shift = nn.Parameter(vectors.new_zeros(hidden, dtype=work))
        # A bias is as long as the vectors are.
        length = vectors[: count - self.held].to(work).square().mean().sqrt()

        def divergence(places: torch.Tensor) -> torch.Tensor:
            h = vectors[places].to(work)
            mapped = h + h @ matrix.T + shift * length
            found = self.head(mapped.to(vectors.dtype)).log_softmax(-1)
            return _kl(self.target[places], found)

        before = self._measured(divergence, count)
        trained = [matrix, shift]
        rule = torch.optim.Adam(trained, RATE / hidden)
        falling = torch.optim.lr_scheduler.LambdaLR(rule, lambda step: 1 - step / self.steps)
        chance = torch.Generator().manual_seed(self.seed)
        for step in range(self.steps):
            places = torch.randint(count - self.held, (self.batch,), generator=chance)
            with torch.enable_grad():
                loss = divergence(places.to(vectors.device))
                # Of the map alone: the model's own weights get no gradient.
                for each, gradient in zip(trained, torch.autograd.grad(loss, trained), strict=True):
                    each.grad = gradient
            rule.step()
            falling.step()
            if told is not None:
                told(step, float(loss))
        after = self._measured(divergence, count)
        bias = shift.detach() * length
        return _Row(matrix.detach().cpu(), bias.cpu(), (before, after))

    def _measured(self, divergence: Callable[[torch.Tensor], torch.Tensor], count: int) -> float:
        """The mean over the tokens that are held out."""
        places = torch.arange(count - self.held, count, device=self.target.device)
        with torch.no_grad():
            parts = [divergence(each) * len(each) for each in places.split(self.batch)]
        return float(torch.stack(parts).sum() / self.held)


def _kl(target: torch.Tensor, found: torch.Tensor) -> torch.Tensor:
    """The mean over tokens of KL(target ‖ found), of log-probabilities `(tokens, vocabulary)`."""
    return (target.exp() * (target - found)).sum(-1).mean()
