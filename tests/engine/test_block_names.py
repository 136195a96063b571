"""`block.output[0]` is the block's output by another name: to autograd, to hooks and in place."""

from __future__ import annotations

import copy

import pytest
import torch

from tests.hooks import hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5], [5, 4, 3, 2, 1]])
NAMES = {"output": lambda block: block.output, "output[0]": lambda block: block.output[0]}


@pytest.fixture(params=["gpt2", "llama", "mixtral"])
def hf(request, tiny):
    return tiny(request.param)


@pytest.fixture(params=NAMES)
def of(request):
    return NAMES[request.param]


@pytest.fixture
def expected(hf, model):
    """The gradient of all logits with respect to what block 1 gives, by torch alone."""
    kept = []

    def keep(output):
        hidden = output[0] if isinstance(output, tuple) else output
        kept.append(hidden.detach().clone().requires_grad_())
        return (kept[0], *output[1:]) if isinstance(output, tuple) else kept[0]

    with hooked_block(model.layers[1].module, keep), torch.enable_grad():
        hf(IDS, use_cache=False).logits.sum().backward()
    hf.zero_grad()
    return kept[0].grad


def close(found, expected):
    torch.testing.assert_close(torch.Tensor(found), expected, rtol=1e-4, atol=1e-5)


def test_hooks(model, of, expected):
    seen = []
    with model.trace(IDS):
        h = of(model.layers[1])
        h.register_hook(lambda gradient: seen.append(gradient.clone()))
        model.logits.sum().backward()
    close(seen[0], expected)


def test_a_hook_that_changes_the_gradient(model, of):
    with model.trace(IDS):
        before = model.layers[0].output
        of(model.layers[1]).register_hook(torch.zeros_like)
        model.logits.sum().backward()
    assert before.grad.abs().sum() == 0


def test_inputs_of_backward_and_of_grad(model, of, expected):
    with model.trace(IDS):
        h = of(model.layers[1])
        total = model.logits.sum()
        (found,) = torch.autograd.grad(total, h, retain_graph=True)
        (again,) = torch.autograd.grad([total], [h])
    with model.trace(IDS):
        h = of(model.layers[1])
        model.logits.sum().backward(inputs=h)
    for each in (found, again, h.grad):
        close(each, expected)
    assert model.lm_head.weight.grad is None


def test_a_graph_that_begins_there(model, hf, of, expected):
    hf.requires_grad_(False)
    with model.trace(IDS):
        h = of(model.layers[1])
        h.requires_grad_(True)
        assert h.requires_grad
        extra = (2 * h).sum()
        (model.logits.sum() + extra).backward()
    close(h.grad, expected + 2)


def test_what_is_written_elsewhere_has_the_graph(model, hf, of):
    hf.requires_grad_(False)
    with model.trace(IDS):
        h = of(model.layers[0])
        h.requires_grad_(True)
        model.layers[1].output = h
        model.logits.sum().backward()
    with model.trace(IDS):
        other = model.layers[0].output.requires_grad_(True)
        model.layers[1].skip(other * 1)
        model.logits.sum().backward()
    close(h.grad, other.grad)


def test_changes_in_place_give_the_same_name_back(model, of):
    with model.trace(IDS):
        h = model.layers[1].output[0]
        same = h.mul_(2)
        h += 1
        assert same is h and h[0].shape == (5, 32) and h[0, 0].shape == (32,)
        flowed = model.layers[2].input
    assert torch.equal(flowed, h)
    for other in (copy.deepcopy(h), copy.copy(h)):
        assert torch.equal(other, h)
    assert torch.equal(torch.stack([h, h])[1], h) and h.numpy().shape == (2, 5, 32)
