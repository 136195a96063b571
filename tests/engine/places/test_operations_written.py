"""Operations that are written, compared with hooks and with functions replaced in torch."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from tests.engine.places.eager import IDS, InPlace, logits_of, replaced_softmax
from tests.hooks import hooked


@pytest.mark.parametrize("spelling", ["whole", "part", "augmented"])
def test_writing_an_attention_pattern_equals_a_replaced_softmax(model, hf, spelling):
    def change(pattern):
        pattern = pattern.clone()
        if spelling == "part":
            pattern[:, 1] = 0.2
            return pattern
        return pattern * 0.5

    with replaced_softmax(1, change):
        expected = logits_of(hf)
    with model.trace(IDS):
        softmax = model.layers[1].attn.ops.softmax
        match spelling:
            case "whole":
                softmax.output = softmax.output * 0.5
            case "part":
                softmax.output[:, 1] = 0.2
            case "augmented":
                softmax.output *= 0.5
        logits = model.logits
    assert not torch.equal(expected, logits_of(hf))
    assert torch.equal(logits, expected)


def test_writing_the_input_of_an_operation_equals_a_hook_before_it(model, hf):
    with hooked(hf.transformer.h[1].attn, lambda out: (out[0] * 0, *out[1:])):
        expected = logits_of(hf)
    with model.trace(IDS):
        model.layers[1].ops.add[0].input[:] = 0  # attention output + residual
        logits = model.logits
    assert torch.equal(logits, expected)


def test_a_head_is_silenced_in_scaled_dot_product_attention(tiny):
    hf = tiny("gpt2")
    hf.set_attn_implementation("sdpa")
    size = hf.config.n_embd // hf.config.n_head

    def without_head(module, args):
        merged = args[0].clone()
        merged[..., 2 * size : 3 * size] = 0
        return (merged,)

    hook = hf.transformer.h[1].attn.c_proj.register_forward_pre_hook(without_head)
    expected = logits_of(hf)
    hook.remove()
    model = LanguageModel(hf)
    with model.trace(IDS):
        model.layers[1].attn.ops.scaled_dot_product_attention.output[:, 2] = 0
        logits = model.logits
    assert torch.equal(logits, expected)


def test_arguments_by_position_and_by_keyword_can_be_written(model, hf):
    with replaced_softmax(1, lambda pattern: torch.full_like(pattern, 0.1)):
        expected = logits_of(hf)
    with model.trace(IDS):
        model.layers[1].attn.ops.matmul[1].inputs[0][0] = 0.1  # pattern @ values
        logits = model.logits
    assert torch.equal(logits, expected)
    with model.trace(IDS):
        softmax = model.layers[1].attn.ops.softmax
        softmax.inputs[1]["dim"] = -2
        columns = softmax.output.sum(-2)
    assert torch.allclose(columns, torch.ones_like(columns))


def test_operations_of_several_blocks_are_written_in_one_forward(model, hf):
    def run(scale):
        with model.trace(IDS) as tracer:
            for block in model.layers:
                block.ops.add[1].inputs[0][1] = block.ops.add[1].inputs[0][1] * scale
            logits = model.logits
        assert tracer.report.forwards == 1
        return logits

    hooks = [b.mlp.register_forward_hook(lambda m, a, out: out * 0.5) for b in hf.transformer.h]
    expected = logits_of(hf)
    for hook in hooks:
        hook.remove()
    assert torch.equal(run(0.5), expected)


@pytest.mark.parametrize(
    ("operation", "value"), [("add_", 1.0), ("mul_", 2.0), ("setitem", -3.0), ("relu", 4.0)]
)
def test_the_output_of_an_operation_in_place_is_its_tensor(operation, value):
    model = Model(nn.Sequential(InPlace()))
    steps = {
        "add_": torch.tensor([[7.0, value * 2]]),
        "mul_": torch.tensor([[7.0, value]]),
        "setitem": torch.tensor([[0.0, 0.0]]),
        "relu": torch.tensor([[value, value]]),
    }
    with model.trace(torch.zeros(1, 2)):
        model[0].ops[operation].output = value
        result = model.output
    assert torch.equal(result, steps[operation])


def test_the_input_of_an_operation_in_place_is_written_into_its_tensor():
    model = Model(nn.Sequential(InPlace()))
    with model.trace(torch.zeros(1, 2)):
        model[0].ops.mul_.input = 5
        result = model.output
    assert torch.equal(result, torch.tensor([[7.0, 10.0]]))


class Named(nn.Module):
    def forward(self, x):
        found = x.max(dim=-1)
        first, second = x.split(1, dim=-1)
        return found.values + found.indices + first + second


def test_operations_that_give_several_tensors_are_read_and_written_by_item():
    model = Model(nn.Sequential(Named()))
    with model.trace(torch.tensor([[1.0, 2.0]])):
        assert model[0].ops.max.output[1].item() == 1
        model[0].ops.max.output[0] = 10
        model[0].ops.split.output[1][:] = 100
        result = model.output
    assert result.item() == 10 + 1 + 1 + 100
