"""Weights that are written where torch does not count it: rows, columns, heads, rectangles."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.memory.weights import Weights, lattice
from tests import tiny
from tests.hooks import hooked_block

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
LAYOUTS = {
    "vector": lambda: torch.randn(37),
    "number": lambda: torch.randn(()),
    "wide": lambda: torch.randn(12, 40),
    "tall": lambda: torch.randn(40, 12),
    "square": lambda: torch.randn(16, 16),
    "transposed": lambda: torch.randn(12, 40).T,
    "every second column": lambda: torch.randn(12, 40)[:, ::2],
    "a part of another": lambda: torch.randn(30, 40)[5:20, 7:30],
    "experts": lambda: torch.randn(3, 8, 20),
    "experts, transposed": lambda: torch.randn(3, 8, 20).transpose(1, 2),
    "heads": lambda: torch.randn(2, 3, 8, 8),
    "a convolution": lambda: torch.randn(24, 1, 4),
    "integers": lambda: torch.randint(0, 9, (10, 12)),
    "bytes": lambda: torch.randint(0, 200, (10, 12), dtype=torch.uint8),
    "truths": lambda: torch.rand(10, 12) > 0.5,
    "half": lambda: torch.randn(10, 12).bfloat16(),
    "double": lambda: torch.randn(10, 12).double(),
    "complex": lambda: torch.randn(10, 12, dtype=torch.complex64),
    "not a number": lambda: torch.full((10, 12), float("nan")),
}


class Holds(nn.Module):
    def __init__(self, tensor: torch.Tensor, how: str):
        super().__init__()
        if how == "parameter":
            self.weight = nn.Parameter(tensor, requires_grad=tensor.is_floating_point())
        elif how == "buffer":
            self.register_buffer("weight", tensor)
        else:
            self.weight = tensor


def other(part: torch.Tensor) -> torch.Tensor:
    """As many numbers, all of them different."""
    if part.dtype == torch.bool:
        return ~part
    return torch.where(part == 0, 1, 0).to(part.dtype)


def is_seen(weights: Weights, part: torch.Tensor) -> bool:
    """Whether a write to this view of a weight is noticed; it is undone."""
    assert weights.hold([0])
    version, before = part._version, part.clone()
    part.data[...] = other(part)
    assert part._version == version
    seen = not weights.hold([0])
    part.data[...] = before
    return seen


@pytest.mark.parametrize("how", ["parameter", "buffer", "attribute"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_row_and_every_column_of_every_layout_is_seen(layout, how):
    torch.manual_seed(0)
    holder = Holds(LAYOUTS[layout](), how)
    weights, tensor = Weights(lambda part: [holder]), holder.weight.detach()
    assert is_seen(weights, tensor)
    for axis in range(tensor.ndim):
        for index in range(tensor.shape[axis]):
            assert is_seen(weights, tensor.select(axis, index)), (axis, index)


def test_rows_and_columns_of_each_expert_are_seen():
    torch.manual_seed(0)
    holder = Holds(torch.randn(4, 12, 20), "parameter")
    weights, tensor = Weights(lambda part: [holder]), holder.weight.detach()
    for expert in tensor:
        for axis in (0, 1):
            for index in range(expert.shape[axis]):
                assert is_seen(weights, expert.select(axis, index))


@pytest.mark.parametrize("architecture", tiny.ARCHITECTURES)
def test_rows_and_columns_of_all_parameters_and_buffers_are_seen(architecture):
    hf = tiny.build(architecture)
    weights = Weights(lambda part: [*hf.modules()])
    for name, tensor in [*hf.named_parameters(), *hf.named_buffers()]:
        tensor = tensor.detach()
        for axis in range(tensor.ndim):
            for index in {0, tensor.shape[axis] // 2, tensor.shape[axis] - 1}:
                assert is_seen(weights, tensor.select(axis, index)), (name, axis, index)


def test_a_rectangle_of_three_times_the_shorter_side_is_seen_wherever_it_lies():
    chance = random.Random(0)
    for _ in range(60):
        rows, columns = chance.randint(1, 90), chance.randint(1, 90)
        met = torch.zeros(rows * columns, dtype=torch.int64)
        met[lattice((rows, columns), (columns, 1)).long()] = 1
        sums = nn.functional.pad(met.view(rows, columns), (1, 0, 1, 0)).cumsum(0).cumsum(1)
        for height in range(1, rows + 1):
            width = -(-3 * min(rows, columns) // height)
            if width <= columns:
                inside = (
                    sums[height:, width:] - sums[:-height, width:]
                    - sums[height:, :-width] + sums[:-height, :-width]
                )  # fmt: skip
                assert bool((inside > 0).all()), (rows, columns, height, width)


def block_of(hf, index, ids=IDS):
    seen = []
    with hooked_block(hf.get_submodule(f"model.layers.{index}"), seen.append), torch.no_grad():
        hf(ids, use_cache=False)
    return seen[0]


PRUNED = {
    "a head's columns": lambda hf: hf.model.layers[1].self_attn.o_proj.weight.data[:, 8:16],
    "a head's rows": lambda hf: hf.model.layers[1].self_attn.q_proj.weight.data[8:16],
    "a neuron": lambda hf: hf.model.layers[0].mlp.down_proj.weight.data[:, 17:18],
    "a token": lambda hf: hf.model.embed_tokens.weight.data[7:8],
    "a norm": lambda hf: hf.model.layers[2].input_layernorm.weight.data[:],
    "frequencies": lambda hf: hf.model.rotary_emb.inv_freq.data[:],
}


@pytest.mark.parametrize("what", PRUNED)
def test_what_is_pruned_and_put_back_is_never_taken_for_the_other(what):
    hf = tiny.build("llama")
    model, part = LanguageModel(hf), PRUNED[what](hf)
    whole = part.clone()

    def last(ids):
        with model.trace(ids):
            hidden = model.layers[-1].output
        return hidden.value

    for shift in range(3):  # prompts that were run before, and others: pruned first, then whole
        ids = IDS + shift
        if shift == 0:
            assert torch.equal(last(ids), block_of(hf, 2, ids))
        part[...] = 0
        pruned = last(ids)
        assert torch.equal(pruned, block_of(hf, 2, ids))
        part[...] = whole
        assert torch.equal(last(ids), block_of(hf, 2, ids))
        if 7 in ids:
            assert not torch.equal(last(ids), pruned)


def test_memory_that_numpy_shares_is_looked_at():
    hf = tiny.build("llama")
    model = LanguageModel(hf)
    for _ in range(2):
        with model.trace(IDS):
            model.layers[-1].output  # noqa: B018
    hf.model.layers[1].mlp.up_proj.weight.detach().numpy()[3] = 0
    with model.trace(IDS):
        hidden = model.layers[-1].output
    assert torch.equal(hidden.value, block_of(hf, 2))
