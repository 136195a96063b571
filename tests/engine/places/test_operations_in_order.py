"""Operations in any order: what has run already, what a running module still has ahead."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import (
    AlreadyRanError,
)
from tests.engine.places.eager import IDS, InPlace, logits_of, tokens_and_positions
from tests.hooks import hooked


def test_an_operation_is_read_after_what_comes_later(model):
    with model.trace(IDS):
        expected = model.layers[0].attn.ops.softmax.output
    with model.trace(IDS) as tracer:
        _ = model.layers[2].output
        pattern = model.layers[0].attn.ops.softmax.output
    assert torch.equal(pattern, expected)
    assert tracer.report.notices


def test_a_write_that_comes_too_late_is_refused(model):
    with model.trace(IDS):
        _ = model.layers[1].output
        with pytest.raises(AlreadyRanError, match=r"layers\[0\].attn.ops.softmax\[0\].output"):
            model.layers[0].attn.ops.softmax.output = 0
        pattern = model.layers[2].attn.ops.softmax.output
        _ = model.logits
        with pytest.raises(AlreadyRanError):
            pattern[:] = 0


def test_an_operation_of_a_module_that_is_running_is_reached_with_all_writes(model, hf):
    block = hf.transformer.h[1]
    with (
        hooked(block.attn, lambda out: (out[0] * 2, *out[1:])),
        hooked(block.mlp, lambda out: out * 3),
    ):
        expected = logits_of(hf)
    with model.trace(IDS) as tracer:
        handle = model.layers[1]
        handle.attn.output[0][:] *= 2  # the forward stands inside the block
        handle.ops.add[1].inputs[0][1] *= 3  # the mlp's output
        logits = model.logits
    assert torch.equal(logits, expected)
    assert "counted from the start" in tracer.report.notices[0]


def test_modules_on_both_sides_of_an_operation_are_told_apart(model, hf):
    with model.trace(IDS):
        attn, mlp = model.layers[1].attn.output[0], model.layers[1].mlp.output
    with model.trace(IDS, resume=False) as tracer:
        _ = model.layers[1].ops.add[0].output
        ahead = model.layers[1].mlp.output
        assert tracer.report.forwards == 1
    assert torch.equal(ahead, mlp)
    with model.trace(IDS, resume=False) as tracer:
        _ = model.layers[1].ops.add[0].output
        behind = model.layers[1].attn.output[0]
    assert tracer.report.forwards == 2
    assert tracer.report.blocks_run == 2
    assert torch.equal(behind, attn)


def test_a_write_before_the_blocks_is_not_lost_to_remembered_blocks(model, hf):
    with hooked(hf.transformer.drop, lambda out: out * 2):
        expected = logits_of(hf)
    for _ in range(2):
        with model.trace(IDS):
            _ = model.layers[2].output  # remembered
    with model.trace(IDS):
        tokens_and_positions(model).output *= 2
        logits = model.logits
    assert torch.equal(logits, expected)


class Twice(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = InPlace()

    def forward(self, x):
        return self.shared(self.shared(x) * 10)


def test_each_call_of_a_shared_module_has_its_operations():
    model = Model(Twice())
    with model.trace(torch.zeros(1, 2)):
        first = model.shared.ops.add_.output
        second = model.shared.calls[1].ops.add_.output
    assert first.tolist() == [[1, 1]]
    assert second.tolist() == [[71, 21]]
