"""Gradients by plain autograd, compared with hooks and retain_grad."""

from __future__ import annotations

import pytest
import torch

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture(params=["gpt2", "llama"])
def hf(request, tiny):
    return tiny(request.param)


def reference(hf, path: str) -> torch.Tensor:
    """The gradient of a loss with respect to a module's output, by a hand-written hook."""
    kept = []

    def keep(module, args, out):
        tensor = out[0] if isinstance(out, tuple) else out
        tensor = tensor if tensor.requires_grad else tensor.requires_grad_()
        tensor.retain_grad()
        kept.append(tensor)

    handle = hf.get_submodule(path).register_forward_hook(keep)
    hf(IDS, use_cache=False).logits[0, -1].logsumexp(-1).backward()
    handle.remove()
    hf.zero_grad()
    return kept[0].grad


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("site", ["block", "mlp"])
def test_grad_of_a_touched_value(model, hf, frozen, site):
    handle = model.layers[1] if site == "block" else model.layers[1].mlp
    hf.requires_grad_(not frozen)
    expected = reference(hf, handle.path)
    with model.trace(IDS):
        hidden = handle.output
        if frozen:
            hidden.requires_grad_()
        model.logits[0, -1].logsumexp(-1).backward()
        inside = hidden.grad.clone()
    torch.testing.assert_close(inside, expected)
    assert torch.equal(hidden.grad, inside)


def test_grad_through_the_zero_index(model, hf):
    expected = reference(hf, model.layers[1].path)
    with model.trace(IDS):
        hidden = model.layers[1].output[0]
        model.logits[0, -1].logsumexp(-1).backward()
    torch.testing.assert_close(hidden.grad, expected)


def test_grads_of_several_values_at_once(model, hf):
    with model.trace(IDS):
        values = [block.output for block in model.layers]
        model.logits[0, -1].logsumexp(-1).backward()
    for block, value in zip(model.layers, values, strict=True):
        torch.testing.assert_close(value.grad, reference(hf, block.path))


def test_grad_of_an_input(model, hf):
    expected = reference(hf, model.layers[0].path)
    with model.trace(IDS):
        into = model.layers[1].input
        model.logits[0, -1].logsumexp(-1).backward()
    torch.testing.assert_close(into.grad, expected)


def test_grad_flows_through_a_write(model):
    with model.trace(IDS):
        scale = torch.tensor(1.0, requires_grad=True)
        model.layers[0].output = model.layers[0].output * scale
        loss = model.logits[0, -1].logsumexp(-1)
        loss.backward()
    step = 1e-3
    losses = []
    for factor in (1 - step, 1 + step):
        with model.trace(IDS, grad=False):
            model.layers[0].output *= factor
            losses.append(model.logits[0, -1].logsumexp(-1).item())
    assert scale.grad.item() == pytest.approx(
        (losses[1] - losses[0]) / (2 * step), rel=0.05, abs=1e-3
    )


def test_attribution_patching_approximates_patching(model):
    """Gradient times difference is the first order of the patch's effect."""
    other = torch.tensor([[1, 2, 3, 6, 5]])
    with model.trace(other):
        source = model.layers[0].mlp.output
    with model.trace(IDS):
        mlp = model.layers[0].mlp.output
        metric = model.logits[0, -1, 7]
        metric.backward()
    step = 1e-2
    with model.trace(IDS, grad=False):
        model.layers[0].mlp.output += step * (source - mlp.detach())
        patched = model.logits[0, -1, 7]
    predicted = (mlp.grad * (source - mlp)).sum().item()
    assert (patched - metric.detach()).item() / step == pytest.approx(predicted, rel=0.1, abs=1e-3)


def test_autograd_grad_works_as_well(model, hf):
    expected = reference(hf, model.layers[1].path)
    with model.trace(IDS):
        hidden = model.layers[1].output
        (gradient,) = torch.autograd.grad(model.logits[0, -1].logsumexp(-1), hidden)
    torch.testing.assert_close(gradient, expected)


def test_nothing_is_recorded_where_no_gradient_is_asked_for(model):
    def read():
        with model.trace(IDS):
            hidden = model.layers[1].output
            assert not torch.is_grad_enabled()
            return hidden, model.logits

    hidden, logits = read()
    assert hidden.grad_fn is None
    assert logits.grad_fn is None


def test_gradients_can_be_asked_for_explicitly(model):
    def loss_of(logits):
        return logits[0, -1].logsumexp(-1)

    def read():
        with model.trace(IDS, grad=True):
            return loss_of(model.logits)

    assert read().requires_grad


def test_where_a_forward_is_run_again_it_is_said_that_no_gradient_leads_there(model, hf):
    with model.trace(IDS) as tracer:
        late = model.layers[1].mlp.output
        early = model.layers[0].mlp.output
        model.logits[0, -1].logsumexp(-1).backward()
    assert late.grad is not None
    assert early.grad is None
    assert "No gradient leads" in tracer.report.notices[0]
    with model.trace(IDS) as tracer:
        model.layers[1].mlp.output.save()
        model.layers[0].mlp.output.save()
    assert "gradient" not in tracer.report.notices[0]
