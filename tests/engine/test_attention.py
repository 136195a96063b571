"""Attention patterns: those of fused attention against transformers' own and against plain code."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from nnsight_magic import LanguageModel
from nnsight_magic.errors import NoSuchModuleError, NoSuchOperationError
from tests.hooks import hook_count

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])
ATTENTIONS = {
    "gpt2": "transformer.h.1.attn",
    "llama": "model.layers.1.self_attn",
    "gpt_neox": "gpt_neox.layers.1.attention",
    "mixtral": "model.layers.1.self_attn",
    "bert": "bert.encoder.layer.1.attention",
    "vit": "layers.1.attn",  # under another name in transformers 4
}


def inputs_of(name, hf):
    if name != "vit":
        return {"input_ids": IDS}
    size = hf.config.image_size
    return {"pixel_values": torch.linspace(-1, 1, 3 * size * size).reshape(1, 3, size, size)}


@pytest.fixture(params=ATTENTIONS)
def fused(request, tiny):
    """A model with fused attention, its inputs, and what transformers' own attention attends to."""
    hf, eager = tiny(request.param), tiny(request.param)
    inputs = inputs_of(request.param, hf)
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        patterns = eager(**inputs, output_attentions=True).attentions
    hf.set_attn_implementation("sdpa")
    yield hf, LanguageModel(hf)[ATTENTIONS[request.param]], inputs, patterns[1]
    assert hook_count(hf) == 0


@pytest.fixture
def llama(tiny):
    hf = tiny("llama")
    assert hf.config._attn_implementation == "sdpa"
    return hf


def test_the_pattern_is_that_of_transformers_own_attention(fused):
    hf, attention, inputs, expected = fused
    # As a trace calls it: some torch give other last digits where keys went through a cache.
    alone = {"use_cache": False} if hasattr(hf, "generate") else {}
    with torch.no_grad():
        plain = hf(**inputs, **alone).logits
    with attention._model.trace(inputs, resume=False):
        pattern = attention.pattern
        result = attention._model.output.logits
    assert torch.allclose(pattern, expected, atol=1e-6)
    assert torch.equal(result, plain)  # a pattern that is only looked at changes no number


def test_a_written_pattern_is_what_values_are_mixed_by(fused):
    hf, attention, inputs, _ = fused
    results = []
    for implementation in ("sdpa", "eager"):
        hf.set_attn_implementation(implementation)
        with attention._model.trace(inputs):
            attention.pattern[:, 1] = 0
            attention.pattern[:, 0] *= 2
            results.append(attention._model.output.logits)
    assert torch.allclose(*results, atol=1e-5)
    with torch.no_grad():
        assert not torch.allclose(results[0], hf(**inputs).logits, atol=1e-3)


def test_scores_that_are_written_go_through_the_softmax(llama):
    model = LanguageModel(llama)
    with model.trace(IDS):
        softmax = model.layers[1].attn.ops.softmax[0]
        softmax.input[:, :, :, 0] = -math.inf
        pattern = softmax.output
        after = model.layers[1].attn.output[0]
    assert bool((pattern[:, :, 1:, 0] == 0).all())
    assert torch.allclose(pattern[:, :, 1:].sum(-1), torch.ones(1, 4, 5))
    assert bool((pattern[:, :, 0] == 0).all())  # the first token may look at nothing now
    with model.trace(IDS):
        assert not torch.equal(model.layers[1].attn.output[0], after)


def test_a_written_pattern_equals_plain_code(llama):
    """An attention written by hand that halves the first head's pattern."""
    from transformers import AttentionInterface

    def halved(module, query, key, value, attention_mask, scaling, **kwargs):
        key, value = (each.repeat_interleave(2, dim=1) for each in (key, value))
        scores = query @ key.transpose(2, 3) * scaling
        hidden = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
        pattern = functional.softmax(scores.masked_fill(hidden, -math.inf), dim=-1)
        if module.layer_idx == 1:
            pattern[:, 0] /= 2
        return (pattern @ value).transpose(1, 2).contiguous(), None

    model = LanguageModel(llama)
    with model.trace(IDS):
        model.layers[1].attn.pattern[:, 0] /= 2
        ours = model.logits
    AttentionInterface.register("halved", halved)
    llama.set_attn_implementation("halved")
    with torch.no_grad():
        assert torch.allclose(ours, llama(IDS).logits, atol=1e-5)


def test_every_step_of_a_generation_has_its_pattern(llama):
    model = LanguageModel(llama)
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        patterns = [model.layers[2].attn.pattern for _ in tracer.steps]
        tokens = tracer.result
    assert [tuple(each.shape) for each in patterns] == [(1, 4, 6, 6), (1, 4, 1, 7), (1, 4, 1, 8)]
    with model.trace(tokens[:, :-1]):
        whole = model.layers[2].attn.pattern
    assert torch.allclose(patterns[2][0, :, 0], whole[0, :, -1], atol=1e-6)


def test_each_invoke_has_the_pattern_of_its_own_rows(llama):
    model = LanguageModel(llama)
    other = IDS + 1
    with model.trace(IDS):
        first = model.layers[1].attn.pattern
    with model.trace(other):
        second = model.layers[1].attn.pattern
    with model.trace() as tracer:
        with tracer.invoke(IDS):
            one = model.layers[1].attn.pattern
        with tracer.invoke(other):
            two = model.layers[1].attn.pattern
    assert torch.allclose(one, first, atol=1e-6)
    assert torch.allclose(two, second, atol=1e-6)


def test_it_is_read_again_behind_and_after_writes(llama):
    model = LanguageModel(llama)
    with model.trace(IDS) as tracer:
        model.layers[0].attn.pattern[:, 0] = 0
        late = model.layers[2].output
        pattern = model.layers[1].attn.pattern
    assert any("run again" in notice for notice in tracer.report.notices)
    with model.trace(IDS):
        model.layers[0].attn.pattern[:, 0] = 0
        expected = model.layers[1].attn.pattern
        assert torch.equal(model.layers[2].output, late)
    assert torch.equal(pattern, expected)


def test_gradients_reach_the_pattern(llama):
    model = LanguageModel(llama)
    with model.trace(IDS, grad=True):
        pattern = model.layers[1].attn.pattern
        model.logits[0, -1, 7].backward()
        gradient = pattern.grad
    llama.set_attn_implementation("eager")
    with model.trace(IDS, grad=True):
        pattern = model.layers[1].attn.pattern
        model.logits[0, -1, 7].backward()
        expected = pattern.grad
    assert torch.allclose(gradient, expected, atol=1e-5)
    assert bool(gradient.any())


def test_half_precision(tiny):
    model = LanguageModel(tiny("llama").bfloat16())
    with model.trace(IDS):
        model.layers[1].attn.pattern[:, 0] = 0
        pattern, logits = model.layers[1].attn.pattern, model.logits
    assert (pattern.dtype, logits.dtype) == (torch.float32, torch.bfloat16)


def test_padding_is_not_attended_to(llama):
    model = LanguageModel(llama)
    padded = torch.cat([torch.zeros(1, 2, dtype=torch.long), IDS], 1)
    mask = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1]])
    with model.trace({"input_ids": padded, "attention_mask": mask}):
        pattern = model.layers[1].attn.pattern
    with model.trace(IDS):
        alone = model.layers[1].attn.pattern
    assert torch.allclose(pattern[:, :, 2:, 2:], alone, atol=1e-6)
    assert bool((pattern[:, :, 2:, :2] == 0).all())


def test_a_module_that_does_not_attend_has_none(llama, tiny):
    model = LanguageModel(llama)
    with model.trace(IDS), pytest.raises(NoSuchModuleError, match="no attention module"):
        _ = model.layers[1].mlp.pattern
    model = LanguageModel(tiny("gpt2"))  # whose MLP ends in a projection of the same name
    with model.trace(IDS), pytest.raises(NoSuchModuleError, match="no attention module"):
        _ = model.layers[1].mlp.heads


def test_other_steps_of_fused_attention_are_explained(llama):
    model = LanguageModel(llama)
    with model.trace(IDS), pytest.raises(NoSuchOperationError, match="set_attn_implementation"):
        _ = model.layers[1].attn.ops.matmul.output
    model.module.set_attn_implementation("eager")  # as the message says
    with model.trace(IDS):
        assert model.layers[1].attn.ops.matmul.output.shape == (1, 4, 6, 6)
