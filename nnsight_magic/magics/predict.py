"""What the model predicts after each prompt, with the cell's writes and without them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import torch

from nnsight_magic.engine.value import plain
from nnsight_magic.language.tokens import PromptRow, token_texts
from nnsight_magic.magics.result import TOP, Prediction

REMEMBERED = 32


def next_token_probabilities(tracer: Any, rows: Sequence[PromptRow]) -> torch.Tensor | None:
    """Probabilities of the next token after each prompt, `(prompts, vocabulary)` on the CPU.

    Runs the forward to its end. `None` for a model without logits.
    """
    try:
        logits = plain(tracer.model.logits)
    except AttributeError:
        return None
    if logits.ndim != 3:
        return None
    with torch.no_grad():
        width = rows[0].width if rows else -1
        last = [row.stop - 1 if logits.shape[1] == width else -1 for row in rows]
        picked = logits.detach()[range(len(last)), last] if last else logits.detach()[:, -1]
        return picked.float().softmax(-1).cpu()


def predictions(
    now: torch.Tensor, clean: torch.Tensor | None, tokenizer: Any
) -> tuple[Prediction, ...]:
    """The best candidates of one prompt: the top now, and the clean run's top beside them.

    `now` and `clean` are probabilities `(vocabulary,)`.
    """
    count = min(TOP, now.shape[-1])
    ids = now.topk(count).indices.tolist()
    if clean is not None:
        best = clean.topk(min(3, count)).indices.tolist()
        ids += [each for each in best if each not in ids]
    texts = token_texts(tokenizer, ids)
    return tuple(
        Prediction(text, each, float(now[each]), None if clean is None else float(clean[each]))
        for text, each in zip(texts, ids, strict=True)
    )


class CleanRuns:
    """What runs without writes gave, remembered for the prompts seen last.

    An entry holds for one state of the model: weights that change, in place too, or hooks that
    are added make it another.
    """

    def __init__(self, size: int = REMEMBERED) -> None:
        self.size = size
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
        while len(self._runs) > self.size:
            self._runs.popitem(last=False)

    @staticmethod
    def key(model: Any, tracer: Any, *more: Any) -> tuple | None:
        """What the outcome of a clean run depends on; `None` where it cannot be told."""
        module = model.module
        if module.training:
            return None
        inputs = []
        for name, value in sorted(tracer.inputs.items()):
            if isinstance(value, torch.Tensor):
                value = (tuple(value.shape), value.detach().cpu().numpy().tobytes())
            elif not isinstance(value, int | float | bool | str | None):
                return None
            inputs.append((name, value))
        weights = hash(tuple((p.data_ptr(), p._version) for p in module.parameters()))
        hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())
        return (id(model), weights, hooks, tuple(inputs), *more)
