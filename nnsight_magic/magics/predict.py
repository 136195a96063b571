"""What the model predicts after each prompt, with the cell's writes and without them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.running.thread_state import ThreadState
from nnsight_magic.engine.values.value import plain
from nnsight_magic.language.tokens import PromptRow, token_texts
from nnsight_magic.results.record import TOP, Guesses, Prediction

MOST = 1 << 24  # log-probabilities that one run is looked at for: 340 positions of 49,152 tokens
REMEMBERED = 1 << 27  # bytes of what clean runs gave
BESIDE = 3  # of the clean run's best that stand beside those of a run


@dataclass(frozen=True)
class Predicted:
    """What a model predicts after each of one prompt's last positions.

    The last position is that after the whole prompt; with fewer positions than the prompt has
    tokens, it is the first ones that are left out.

    Attributes:
        shares: log-probabilities `(positions, vocabulary)`, float32 on the CPU.
        best: the likeliest tokens `(positions, TOP)`, the best first.
    """

    shares: torch.Tensor
    best: torch.Tensor


@dataclass(frozen=True)
class NextTokens:
    """What a model predicts, for each prompt of a batch."""

    rows: tuple[Predicted, ...]

    @property
    def bytes(self) -> int:
        return sum(row.shares.nbytes for row in self.rows)

    @property
    def shapes(self) -> list[torch.Size]:
        return [row.shares.shape for row in self.rows]


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
            shares = picked.float().log_softmax(-1).cpu()
            found.append(Predicted(shares, shares.topk(min(TOP, shares.shape[-1])).indices))
    return NextTokens(tuple(found))


def predictions(now: Predicted, clean: Predicted | None, tokenizer: Any) -> tuple[Prediction, ...]:
    """The best candidates after one prompt: the top now, and the clean run's top beside them."""
    ids = now.best[-1].tolist()
    if clean is not None:
        ids += [each for each in clean.best[-1, :BESIDE].tolist() if each not in ids]
    texts = token_texts(tokenizer, ids)
    p = now.shares[-1, ids].exp().tolist()
    p_clean = [None] * len(ids) if clean is None else clean.shares[-1, ids].exp().tolist()
    return tuple(map(Prediction, texts, ids, p, p_clean))


def guesses(
    now: Predicted, clean: Predicted | None, tokenizer: Any, tokens: int
) -> tuple[tuple[Guesses, ...], tuple[Guesses, ...]]:
    """The likeliest tokens after each of `tokens` positions, now and in the clean run.

    Both name the same tokens: the best now, and the clean run's best behind them. Positions that
    were not looked at have none.
    """
    best = now.best
    if clean is not None:
        best = torch.cat([best, clean.best[:, :BESIDE]], dim=-1)
    rows = [list(dict.fromkeys(row)) for row in best.tolist()]
    distinct = sorted({each for row in rows for each in row})
    texts = dict(zip(distinct, token_texts(tokenizer, distinct), strict=True))
    none = ((),) * (tokens - len(rows))

    def named(run: Predicted) -> tuple[Guesses, ...]:
        found = run.shares.gather(-1, best).exp().tolist()
        by_id = [
            dict(zip(ids, p, strict=True)) for ids, p in zip(best.tolist(), found, strict=True)
        ]
        return none + tuple(
            tuple((texts[each], p[each]) for each in row)
            for row, p in zip(rows, by_id, strict=True)
        )

    return named(now), () if clean is None else named(clean)


def divergence(clean: Predicted, now: Predicted, tokens: int) -> tuple[float, ...]:
    """KL(clean ‖ now) at each of `tokens` positions, in nats; 0 where it was not looked at.

    The sum over the vocabulary of `p_clean (log p_clean - log p_now)`, as in Conmy et al. 2023,
    "Towards Automated Circuit Discovery for Mechanistic Interpretability".
    """
    terms = clean.shares.exp() * (clean.shares - now.shares)
    # A token that is impossible in both runs adds nothing: 0 · (−∞ − −∞) is 0 here.
    terms = torch.nan_to_num(terms, nan=0.0, posinf=float("inf"))
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
        call = model.resume.conditions(module, (), inputs, Forward, ThreadState.capture().autocast)
        return None if call is None else (id(model), model.resume.state(), *call[1:], *more)
