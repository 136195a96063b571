"""What the model predicts after each prompt, with the cell's writes and without them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.forward import Forward
from nnsight_magic.engine.value import plain
from nnsight_magic.language.tokens import PromptRow, token_texts
from nnsight_magic.magics.result import TOP, Prediction

MOST = 1 << 24  # log-probabilities that one run is looked at for: 340 positions of 49,152 tokens
REMEMBERED = 1 << 27  # bytes of what clean runs gave
Guesses = tuple[tuple[str, float], ...]  # tokens with their probabilities, the likeliest first


@dataclass(frozen=True)
class NextTokens:
    """What a model predicts, for each prompt after each of its last positions.

    Attributes:
        rows: for each prompt log-probabilities `(positions, vocabulary)`, float32 on the CPU. The
            last position is that after the whole prompt; with fewer positions than the prompt
            has tokens, it is the first ones that are left out.
    """

    rows: tuple[torch.Tensor, ...]

    @property
    def bytes(self) -> int:
        return sum(row.numel() * row.element_size() for row in self.rows)


def next_tokens(tracer: Any, rows: Sequence[PromptRow], everywhere: bool) -> NextTokens | None:
    """What is predicted after each prompt, and with `everywhere` after each of its tokens.

    Runs the forward to its end. `None` for a model without logits.
    """
    try:
        logits = plain(tracer.model.logits)
    except AttributeError:
        return None
    if logits.ndim != 3:
        return None
    logits = logits.detach()
    if not rows:
        rows = [PromptRow(k, 0, logits.shape[1], ("",)) for k in range(len(logits))]
    most = max(1, MOST // (len(rows) * logits.shape[-1])) if everywhere else 1
    found = []
    with torch.no_grad():
        for k, row in enumerate(rows):
            # An encoder-decoder model predicts after the decoder's tokens, not the prompt's.
            own = logits.shape[1] == row.width
            first, stop = (row.start, row.stop) if own else (logits.shape[1] - 1, logits.shape[1])
            picked = logits[k, max(first, stop - most) : stop]
            found.append(picked.float().log_softmax(-1).cpu())
    return NextTokens(tuple(found))


def predictions(
    now: torch.Tensor, clean: torch.Tensor | None, tokenizer: Any
) -> tuple[Prediction, ...]:
    """The best candidates after one prompt: the top now, and the clean run's top beside them.

    `now` and `clean` are log-probabilities `(positions, vocabulary)`.
    """
    now = now[-1].exp()
    count = min(TOP, now.shape[-1])
    ids = now.topk(count).indices.tolist()
    if clean is not None:
        clean = clean[-1].exp()
        best = clean.topk(min(3, count)).indices.tolist()
        ids += [each for each in best if each not in ids]
    texts = token_texts(tokenizer, ids)
    return tuple(
        Prediction(text, each, float(now[each]), None if clean is None else float(clean[each]))
        for text, each in zip(texts, ids, strict=True)
    )


def guesses(
    now: torch.Tensor, clean: torch.Tensor | None, tokenizer: Any, tokens: int
) -> tuple[tuple[Guesses, ...], tuple[Guesses, ...]]:
    """The likeliest tokens after each of `tokens` positions, now and in the clean run.

    Both name the same tokens: the best now, and the clean run's best behind them. Positions that
    were not looked at have none. `now` and `clean` are log-probabilities
    `(positions, vocabulary)`.
    """
    best = now.topk(min(TOP, now.shape[-1]), dim=-1).indices
    if clean is not None:
        best = torch.cat([best, clean.topk(min(3, best.shape[-1]), dim=-1).indices], dim=-1)
    rows = [list(dict.fromkeys(row)) for row in best.tolist()]
    distinct = sorted({each for row in rows for each in row})
    texts = dict(zip(distinct, token_texts(tokenizer, distinct), strict=True))
    none = ((),) * (tokens - len(rows))

    def named(shares: torch.Tensor) -> tuple[Guesses, ...]:
        found = shares.gather(-1, best).exp().tolist()
        by_id = [
            dict(zip(ids, p, strict=True)) for ids, p in zip(best.tolist(), found, strict=True)
        ]
        return none + tuple(
            tuple((texts[each], p[each]) for each in row)
            for row, p in zip(rows, by_id, strict=True)
        )

    return named(now), () if clean is None else named(clean)


def divergence(clean: torch.Tensor, now: torch.Tensor, tokens: int) -> tuple[float, ...]:
    """KL(clean ‖ now) at each of `tokens` positions, in nats; 0 where it was not looked at.

    Both are log-probabilities `(positions, vocabulary)`. The sum over the vocabulary of
    `p_clean (log p_clean - log p_now)`, as in Conmy et al. 2023, "Towards Automated Circuit
    Discovery for Mechanistic Interpretability".
    """
    # A token that is impossible in both runs adds nothing: 0 · (−∞ − −∞) is 0 here.
    terms = torch.nan_to_num(clean.exp() * (clean - now), nan=0.0, posinf=float("inf"))
    found = terms.sum(-1).clamp_min(0).tolist()
    return (0.0,) * (tokens - len(found)) + tuple(found)


class CleanRuns:
    """What runs without writes gave, remembered for the prompts seen last.

    An entry holds for one state of the model, told as `model.resume` tells it: weights that
    change, in place too, or a setting make it another; with foreign hooks nothing is remembered.
    Of predictions as many are kept as fit into `budget` bytes.
    """

    def __init__(self, budget: int = REMEMBERED) -> None:
        self.budget = budget
        self._runs: OrderedDict[tuple, Any] = OrderedDict()

    def get(self, key: tuple) -> Any:
        if key in self._runs:
            self._runs.move_to_end(key)
            return self._runs[key][1]
        return None

    def put(self, key: tuple, model: Any, value: Any) -> None:
        # The reference only tells when the model is gone and its id may be used again.
        gone = weakref.ref(model, lambda _: self._runs.pop(key, None))
        self._runs[key] = (gone, value)
        while len(self._runs) > 1 and self._bytes() > self.budget:
            self._runs.popitem(last=False)

    def _bytes(self) -> int:
        return sum(getattr(value, "bytes", 0) for _, value in self._runs.values())

    @staticmethod
    def key(model: Any, inputs: dict[str, Any], *more: Any) -> tuple | None:
        """What the outcome of a clean run depends on; `None` where it cannot be told."""
        if model.edits.in_force:
            return None
        module = model.module
        call = model.resume.conditions(module, (), inputs, Forward)
        return None if call is None else (id(model), model.resume.state(module), call, *more)
