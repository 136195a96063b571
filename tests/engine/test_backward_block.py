"""`with loss.backward():` gradients are read and written in the block; hooks by hand say which."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.errors import GraphError, WrongValueError
from tests.engine.test_gradients import reference

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture(params=["gpt2", "llama"])
def hf(request, tiny):
    return tiny(request.param)


def loss_of(logits):
    return logits[0, -1].logsumexp(-1)


def changed(hf, path: str, change) -> dict[str, torch.Tensor]:
    """What weights and block 0 get where a hook changes the gradient at `path`'s output."""
    kept = {}

    def first(module, args, out):
        out = out[0] if isinstance(out, tuple) else out
        out.register_hook(lambda g: kept.update(first=g))

    def hook(module, args, out):
        (out[0] if isinstance(out, tuple) else out).register_hook(change)

    handles = [
        hf.get_submodule(path.rpartition(".")[0] + ".0").register_forward_hook(first),
        hf.get_submodule(path).register_forward_hook(hook),
    ]
    hf.zero_grad()
    loss_of(hf(IDS, use_cache=False).logits).backward()
    kept |= {name: p.grad.clone() for name, p in hf.named_parameters() if p.grad is not None}
    for handle in handles:
        handle.remove()
    hf.zero_grad()
    return kept


def test_gradients_are_read_in_the_block(model, hf):
    expected = [reference(hf, block.path) for block in model.layers]
    with model.trace(IDS):
        values = [block.output[0] for block in model.layers]
        with loss_of(model.logits).backward():
            found = [value.grad.save() for value in reversed(values)]
    for gradient, wanted in zip(reversed(found), expected, strict=True):
        torch.testing.assert_close(gradient.value, wanted)
        assert type(gradient.value) is torch.Tensor


@pytest.mark.parametrize("in_place", [True, False])
def test_a_gradient_that_is_written_flows_on_to_what_lies_before(model, hf, in_place):
    expected = changed(hf, model.layers[1].path, lambda g: g * 3)
    with model.trace(IDS):
        first, second = model.layers[0].output, model.layers[1].output
        with loss_of(model.logits).backward():
            if in_place:
                second.grad[:] *= 3
            else:
                second.grad = second.grad * 3
            found = first.grad.save()
    torch.testing.assert_close(found.value, expected.pop("first"))
    for name, weight in hf.named_parameters():
        if name in expected:
            torch.testing.assert_close(weight.grad, expected[name])


def test_a_write_as_the_last_thing_reaches_the_weights_once(model, hf):
    for weight in hf.parameters():
        weight.grad = torch.ones_like(weight)
    with model.trace(IDS):
        second = model.layers[1].output
        with loss_of(model.logits).backward():
            second.grad[:] = 0
    weights = dict(model.layers[0].module.named_parameters())
    assert all(torch.equal(weight.grad, torch.ones_like(weight)) for weight in weights.values())


def test_each_block_has_the_gradients_of_its_own_pass(model, hf):
    with model.trace(IDS):
        hidden = model.layers[1].output
        logits = model.logits
        with logits[0, -1, 0].backward(retain_graph=True):
            first = hidden.grad.save()
        with logits[0, -1, 1].backward():
            second = hidden.grad.save()
    with model.trace(IDS):
        hidden = model.layers[1].output
        expected = [
            torch.autograd.grad(model.logits[0, -1, i], hidden, retain_graph=True)[0]
            for i in range(2)
        ]
    torch.testing.assert_close(first.value, expected[0].value)
    torch.testing.assert_close(second.value, expected[1].value)


def test_what_was_computed_from_values_has_a_gradient_too(model):
    with model.trace(IDS):
        doubled = model.layers[1].output * 2
        model.layers[1].output = doubled
        with loss_of(model.logits).backward():
            found = doubled.grad.save()
    assert found.abs().sum() > 0


def test_a_frozen_model(model, hf):
    expected = reference(hf, model.layers[1].path)
    hf.requires_grad_(False)
    with model.trace(IDS):
        hidden = model.layers[1].output
        hidden.requires_grad = True
        with loss_of(model.logits).backward():
            found = hidden.grad.save()
    torch.testing.assert_close(found.value, expected)


def test_a_plain_call_gives_nothing_and_keeps_no_graph(model):
    with model.trace(IDS):
        loss = loss_of(model.logits)
        assert loss.backward() is None
    with pytest.raises(GraphError, match="second time"):
        loss.backward()


def test_what_does_not_fit_is_refused(model):
    with pytest.raises(WrongValueError, match="gradient of"), model.trace(IDS):
        hidden = model.layers[1].output
        with loss_of(model.logits).backward():
            hidden.grad = torch.zeros(3)
