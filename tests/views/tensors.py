"""Thirty tensors as one meets them, each with what is said of it when it is shown."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

WORDS = ["The", " Eiffel", " Tower", " is", " in", " the", " city", " of", " Paris"]


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def attention(tokens: int, seed: int = 0) -> torch.Tensor:
    """A causal pattern with a sink at its first token, a diagonal and two verticals."""
    scores = torch.randn(tokens, tokens, generator=_generator(seed))
    scores[:, 0] += 7
    scores += 5 * torch.eye(tokens)
    scores[:, [tokens // 3, tokens // 2]] += 4
    return torch.softmax(scores + torch.full_like(scores, -torch.inf).triu(1), -1)


def residual(tokens: int, first: bool = True) -> torch.Tensor:
    """As behind a middle block: three features are large, at the first token enormous."""
    values = 5 * torch.randn(tokens, 576, generator=_generator(1))
    values[:, 71] += 150
    values[:, 302] -= 90
    if first:
        values[0, [71, 302, 500]] = torch.tensor([22_452.0, -8_100.0, 640.0])
    return values


def spikes(
    size: int, heights: dict[float, int], ground: torch.Tensor | None = None
) -> torch.Tensor:
    tensor = torch.zeros(size, size) if ground is None else ground
    places = torch.randperm(size * size, generator=_generator(2))
    for height, count in heights.items():
        tensor.view(-1)[places[:count]] = height
        places = places[count:]
    return tensor


def column_and_patch() -> torch.Tensor:
    tensor = torch.zeros(1, 1, 2000, 2000)
    tensor[0, 0, :, 0] = 1
    tensor[0, 0, 1500:1503, 900:903] = 0.9
    return tensor


def marked(tensor: torch.Tensor) -> torch.Tensor:
    rows, columns = tensor.shape
    tensor[rows // 2, columns // 3] = torch.nan
    tensor[rows // 4, columns // 5] = torch.inf
    tensor[rows - 1, columns - 1] = -torch.inf
    return tensor


def small_map() -> torch.Tensor:
    tensor = 0.15 * torch.rand(30, 9, generator=_generator(3))
    tensor[20, 4] = 0.656
    return tensor


def noise(*shape: int, seed: int = 4) -> torch.Tensor:
    return torch.randn(*shape, generator=_generator(seed))


Made = tuple[Callable[[], Any], dict[str, Any]]
PATTERN = {"axes": ("batch", "head", "token", "token")}
TENSORS: dict[str, Made] = {
    "attention of 9 tokens": (lambda: attention(9), {"tokens": WORDS}),
    "attention of 300 tokens": (lambda: attention(300), {}),
    "attention of 2000 tokens": (lambda: attention(2000), {}),
    "attention, head 7 of 9": (
        lambda: torch.stack([attention(322, head) for head in range(9)])[None],
        {**PATTERN, "index": [0, 7, 0, 0]},
    ),
    "residual of 9 tokens": (lambda: residual(9), {"tokens": WORDS, "sizes": {"feature": 576}}),
    "residual without the first": (lambda: residual(9, first=False)[1:], {}),
    "residual of 300 tokens": (lambda: residual(300)[None], {"sizes": {"feature": 576}}),
    "residual of 300 without the first": (lambda: residual(300, first=False), {}),
    "spikes of 1 and 0.4": (lambda: spikes(600, {1.0: 20, 0.4: 20}), {}),
    "one spike": (lambda: spikes(500, {1.0: 1}), {}),
    "a column of ones and a patch": (column_and_patch, PATTERN),
    "noise with spikes": (
        lambda: spikes(2000, {4.0: 20, -4.0: 20}, 0.1 * noise(2000, 2000)),
        {},
    ),
    "one-sided": (lambda: noise(200, 300).exp(), {}),
    "two-sided and long": (lambda: noise(9, 2000), {}),
    "no value is positive": (lambda: -noise(60, 80).abs(), {}),
    "negative and large": (lambda: -noise(700, 900).abs(), {}),
    "constant": (lambda: torch.full((9, 9), 3.0), {}),
    "zeros": (lambda: torch.zeros(40, 60), {}),
    "NaN and infinities": (lambda: marked(torch.rand(20, 20, generator=_generator(5))), {}),
    "NaN and infinities, large": (lambda: marked(noise(1000, 1200)), {}),
    "integers": (lambda: torch.randint(-50, 200, (64, 64), generator=_generator(6)), {}),
    "booleans": (lambda: torch.rand(100, 120, generator=_generator(7)) > 0.8, {}),
    "a vector": (lambda: noise(5000), {}),
    "a long vector": (lambda: noise(100_003).cumsum(0), {}),
    "a column": (lambda: noise(2000, 1), {}),
    "a small map": (small_map, {"axes": ("layer", "token"), "tokens": WORDS}),
    "six numbers": (lambda: torch.tensor([[1.0, -2.0, 3.0], [0.5, 0.0, -1.5]]), {}),
    "probabilities of a vocabulary": (
        lambda: torch.softmax(6 * noise(9, 49_152), -1),
        {"tokens": WORDS, "sizes": {"vocabulary": 49_152}},
    ),
    "bfloat16 of rank 3": (lambda: noise(12, 64, 64).bfloat16(), {"index": [5, 0, 0]}),
    "the largest doubles": (
        lambda: 1e308 * torch.tensor([[1.0, -1.0, 0.5], [0.0, -0.25, 0.1]], dtype=torch.float64),
        {},
    ),
}
