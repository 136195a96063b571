"""What the tests of operations share: a prompt, plain forwards, a replaced softmax."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
import transformers
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.places.operations import OperationHandle

IDS = torch.tensor([[1, 2, 3, 4, 5]])


def logits_of(hf: nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return hf(ids, use_cache=False).logits


def tokens_and_positions(model: LanguageModel) -> OperationHandle:
    """The sum that GPT-2 gives to its blocks; transformers 5 adds something before it too."""
    ops = model.transformer.ops
    return ops.add[1] if transformers.__version__ >= "5" else ops.add[0]


@contextmanager
def replaced_softmax(number: int, change: Callable[[torch.Tensor], torch.Tensor]) -> Iterator[None]:
    """The reference: softmax itself replaced in torch, for its `number`-th call."""
    real = F.softmax
    calls: list[None] = []

    def softmax(*args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(None)
        result = real(*args, **kwargs)
        return change(result) if len(calls) - 1 == number else result

    F.softmax = softmax
    try:
        yield
    finally:
        F.softmax = real


class InPlace(nn.Module):
    """Operations that write into their tensors, which other names hold too."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = x.clone()
        alias = y
        y += 1
        y.mul_(2)
        y[:, 0] = 7
        F.relu(y, inplace=True)
        return alias
