"""Mistakes about operations, in words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import (
    NeverRanError,
    NoSuchOperationError,
    NoTraceError,
    WrongValueError,
)
from tests.engine.places.eager import IDS


def test_an_unknown_operation_is_answered_with_what_there_is(model):
    with model.trace(IDS, resume=False) as tracer:
        with pytest.raises(NoSuchOperationError) as caught:
            _ = model.layers[1].attn.ops.sofmax.output
        assert "Did you mean 'softmax'?" in caught.value.message
        assert "matmul × 2" in caught.value.message
        assert "c_proj" in caught.value.message
        after = model.layers[1].attn.output[0]
    assert tracer.report.forwards == 1  # it was known as soon as the module had run
    with model.trace(IDS):
        assert torch.equal(after, model.layers[1].attn.output[0])


def test_an_index_out_of_range_says_how_many_there_are(model):
    with model.trace(IDS):
        with pytest.raises(NoSuchOperationError, match=r"matmul\[0\] to matmul\[1\]"):
            _ = model.layers[1].attn.ops["matmul", 2].output
        with pytest.raises(NoSuchOperationError, match="counted from the start"):
            _ = model.layers[1].attn.ops.matmul[-1].output


def test_other_mistakes_are_told_as_for_modules(model):
    with pytest.raises(NoTraceError, match=r"layers\[1\].attn.ops.softmax\[0\].output"):
        _ = model.layers[1].attn.ops.softmax.output
    with model.trace(IDS):
        softmax = model.layers[1].attn.ops.softmax
        with pytest.raises(WrongValueError, match="Expected"):
            softmax.output = torch.zeros(2, 2)
        with pytest.raises(AttributeError, match="output, input and inputs"):
            _ = softmax.outptu
        with pytest.raises(NoSuchOperationError, match="Write to it"):
            softmax.skip(0)
    model = Model(nn.ModuleDict({"never": nn.Linear(2, 2)}))
    model._root.forward = lambda x: x + 1
    with model.trace(torch.zeros(2)), pytest.raises(NeverRanError):
        _ = model["never"].ops.linear.output
