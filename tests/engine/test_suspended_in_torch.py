"""A forward may stand inside a function of torch that is not back yet; nobody else notices.

Such a function keeps things on its own stack of which the thread holds the address: what takes the
warnings of torch's C++ is one. Whoever warns must never find an address on a stack that was left,
since that ends the process.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import Model
from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.running import coroutine
from tests.hooks import hook_count

X = torch.linspace(-1, 1, 8).view(2, 4)


class Calls(torch.autograd.Function):
    """Calls a module from within torch's C++, as checkpointing does."""

    @staticmethod
    def forward(ctx, module, x):
        return module(x)

    @staticmethod
    def backward(ctx, grad):
        return None, grad


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 4)

    def forward(self, x):
        return torch.tanh(Calls.apply(self.inner, x)) * 2


def a_model() -> Model:
    return Model(nn.Sequential(Block(), Block()))


PLACES = {
    "at an operation": lambda block: block.ops.tanh[0],
    "in a function of autograd": lambda block: block.inner,
}


@pytest.fixture(params=PLACES)
def place(request):
    return PLACES[request.param]


def test_the_block_warns_as_without_a_trace(place):
    before = torch_insides.warning_handler()
    model = a_model()
    with model.trace(X):
        first = place(model[0]).output
        while_it_stands = torch_insides.warning_handler()
        last = model.output
    assert before == while_it_stands == torch_insides.warning_handler() != 0
    assert first.shape == (2, 4)
    assert torch.equal(last, model.module(X)) and hook_count(model.module) == 0


def test_nor_does_one_stay_where_two_forwards_take_turns(place):
    before = torch_insides.warning_handler()
    one, two = a_model(), a_model()
    with one.trace(X):
        a = place(one[0]).output
        with two.trace(X):
            b = place(two[0]).output
            c = place(one[1]).output
            d = place(two[1]).output
        assert torch_insides.warning_handler() == before
    assert torch_insides.warning_handler() == before
    for model, first, second in (one, a, c), (two, b, d):
        with model.trace(X):
            assert torch.equal(place(model[0]).output, first)
            assert torch.equal(place(model[1]).output, second)


def test_nor_after_a_sweep_over_an_operation():
    before = torch_insides.warning_handler()
    model = a_model()

    def scaled(factor):
        model[0].ops.tanh[0].output[:] *= factor
        return model.output

    found = model.sweep(X, scaled, [0.0, 0.5, 3.0], progress=False)
    assert torch_insides.warning_handler() == before
    with torch.no_grad():
        inner = torch.tanh(model.module[0].inner(X))
        for factor, each in zip([0.0, 0.5, 3.0], found, strict=True):
            torch.testing.assert_close(each, model.module[1](inner * factor * 2))


def test_where_torch_does_not_tell_models_run_in_threads(monkeypatch):
    monkeypatch.setattr(torch_insides, "knows_warning_handler", False)
    monkeypatch.setenv("NNSIGHT_MAGIC_THREADS", "0")
    floor, reason = coroutine._made_here()
    assert floor is None and "warnings" in reason
