"""Exceptions in the block, in the model and in hooks: nothing is left, what was read stays."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic.engine.model.model import Model
from tests.engine.undisturbed import IDS, Boom, assert_untouched, trace_and_write
from tests.hooks import hook_count

pytestmark = pytest.mark.usefixtures("ctrl_c", "gradients_on")


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


def test_an_exception_in_the_block(model):
    with pytest.raises(Boom), model.trace(IDS):
        model.layers[1].output[:] = 0
        raise Boom
    assert_untouched(model)


def test_an_exception_in_the_models_forward(model, hf):
    inner = hf.transformer.h[1].mlp.forward
    hf.transformer.h[1].mlp.forward = lambda *args: (_ for _ in ()).throw(Boom("in the model"))
    with pytest.raises(Boom, match="in the model"), model.trace(IDS):
        model.layers[2].output.save()
    assert hook_count(hf) == 0
    del hf.transformer.h[1].mlp.forward
    assert inner == hf.transformer.h[1].mlp.forward
    assert_untouched(model)
    assert torch.equal(trace_and_write(model)[0], trace_and_write(model)[0])


def test_an_exception_in_a_hook_of_the_users(model, hf):
    def fail(*args):
        raise Boom("in a hook")

    handle = hf.transformer.h[1].register_forward_hook(fail)
    with pytest.raises(Boom, match="in a hook"), model.trace(IDS):
        model.layers[2].output.save()
    assert hook_count(hf) == 1
    handle.remove()
    assert_untouched(model)


def test_an_exception_in_a_generation(model):
    with pytest.raises(Boom), model.generate(IDS, max_new_tokens=3) as tracer:
        for step in tracer.steps:
            model.layers[0].output.save()
            if step.index == 1:
                raise Boom
    assert_untouched(model)


def test_a_model_that_swallows_every_exception_is_ended_too():
    class Stubborn(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second = nn.Linear(2, 2), nn.Linear(2, 2)

        def forward(self, x):
            try:
                x = self.first(x)
            except BaseException:
                x = -x
            try:
                return self.second(x)
            finally:
                raise Boom

    model = Model(Stubborn())
    with model.trace(torch.ones(1, 2)):
        model.first.output.save()
    assert_untouched(model)


def test_what_was_read_before_an_error_stays(model):
    try:
        with model.trace(IDS):
            hidden = model.layers[1].output.save()
            raise Boom
    except Boom:
        pass
    assert hidden.shape == (1, 5, 32)
