"""Operations in generations, in sweeps, of several prompts, with gradients."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch

from tests.engine.places.eager import IDS, logits_of, replaced_softmax, tokens_and_positions


def test_every_step_of_a_generation_has_its_operations(model, hf):
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        shapes = [tuple(model.layers[1].attn.ops.softmax.output.shape) for _ in tracer.steps]
    heads = hf.config.n_head
    assert shapes == [(1, heads, 5, 5), (1, heads, 1, 6), (1, heads, 1, 7)]
    plain = hf.generate(IDS, attention_mask=torch.ones_like(IDS), max_new_tokens=3, do_sample=False)
    assert torch.equal(tracer.result, plain)


def test_steering_an_operation_at_every_step_equals_hooks(model, hf):
    ones = torch.ones_like(IDS)
    hook = hf.transformer.h[1].mlp.register_forward_hook(lambda m, a, out: out * -3)
    expected = hf.generate(IDS, attention_mask=ones, max_new_tokens=6, do_sample=False)
    hook.remove()
    with model.generate(IDS, max_new_tokens=6, do_sample=False) as tracer:
        for _ in tracer.steps:
            model.layers[1].ops.add[1].inputs[0][1] *= -3
    assert torch.equal(tracer.result, expected)


def test_a_running_module_can_be_looked_into_in_the_middle_of_a_generation(model):
    def run(first):
        kept = []
        with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
            for step in tracer.steps:
                if first and step.index == 1:
                    _ = model.layers[1].attn.output
                kept.append(model.layers[1].ops.add[0].output.clone())
        return kept, tracer.result

    (kept, text), (expected, same) = run(True), run(False)
    assert len(kept) == len(expected) == 3
    assert all(torch.equal(a, b) for a, b in zip(kept, expected, strict=True))
    assert torch.equal(text, same)


def test_a_pattern_of_one_prompt_is_patched_into_another(model, hf):
    other = torch.tensor([[9, 8, 7, 6, 5]])
    clean = deepcopy(hf)(IDS, output_attentions=True, use_cache=False).attentions[1].detach()
    with replaced_softmax(1, lambda pattern: clean):
        expected = logits_of(hf, other)
    with model.trace() as tracer:
        with tracer.invoke(IDS):
            pattern = model.layers[1].attn.ops.softmax.output
        with tracer.invoke(other):
            model.layers[1].attn.ops.softmax.output = pattern
            logits = model.logits
    assert torch.equal(logits, expected)


def test_the_gradient_at_a_pattern_is_that_of_autograd(model, hf):
    reference = deepcopy(hf)(IDS, output_attentions=True, use_cache=False)
    attention = reference.attentions[1]
    expected = torch.autograd.grad(reference.logits[0, -1, 3], attention)[0]
    with model.trace(IDS, grad=True):
        pattern = model.layers[1].attn.ops.softmax.output
        model.logits[0, -1, 3].backward()
        gradient = pattern.grad
    hf.zero_grad()
    assert torch.allclose(gradient, expected, atol=1e-6)


@pytest.mark.parametrize("place", ["inside a block", "before the blocks"])
def test_a_sweep_over_operations_equals_a_loop_of_traces(model, place):
    def change(part):
        if place == "inside a block":
            model.layers[1].attn.ops.softmax.output[:, part] = 0
        else:
            tokens_and_positions(model).output[..., part] = 0
        return model.logits[0, -1].clone()

    expected = []
    for part in range(3):
        with model.trace(IDS):
            expected.append(change(part))
    found = model.sweep(IDS, change, range(3), progress=False)
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    assert not torch.allclose(expected[0], expected[1], atol=1e-3)
