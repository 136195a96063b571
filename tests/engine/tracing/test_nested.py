"""Traces in traces, and in generators that are left at any point."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import TraceInsideTraceError
from tests.engine.undisturbed import IDS, assert_untouched, forward
from tests.hooks import hook_count

pytestmark = pytest.mark.usefixtures("ctrl_c", "gradients_on")


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


def test_traces_of_two_models_nest(tiny):
    one, two = LanguageModel(tiny("gpt2")), LanguageModel(tiny("llama", seed=1))
    alone = forward(one.module), forward(two.module)
    with one.trace(IDS):
        first = one.layers[1].output
        with two.trace(IDS):
            second = two.layers[1].output
            logits_of_two = two.output.logits
        logits_of_one = one.output.logits
    assert torch.equal(logits_of_one, alone[0])
    assert torch.equal(logits_of_two, alone[1])
    assert first.shape == second.shape
    assert_untouched(one)
    assert_untouched(two)


def test_a_trace_inside_a_trace_of_the_same_model_is_refused_and_the_outer_one_goes_on(model, hf):
    with model.trace(IDS):
        model.layers[0].output.save()
        with pytest.raises(TraceInsideTraceError), model.trace(IDS):
            pass
        logits = model.output.logits
    assert torch.equal(logits, forward(hf))
    assert_untouched(model)


def test_a_generator_collected_in_the_midst_of_a_trace_puts_everything_away(model, hf):
    def traced():
        with model.trace(IDS):
            yield model.layers[0].output
            yield model.layers[1].output

    generator = traced()
    next(generator)
    assert hook_count(hf) > 0
    del generator
    assert_untouched(model)


def test_traces_of_two_models_go_on_in_turns(tiny):
    one, two = LanguageModel(tiny("gpt2")), LanguageModel(tiny("gpt2", seed=1))

    def traced(model):
        with model.trace(IDS):
            yield model.layers[0].output
            yield model.output.logits

    first, second = traced(one), traced(two)
    next(first), next(second)
    assert torch.equal(next(first), forward(one.module))
    assert torch.equal(next(second), forward(two.module))
    second.close()
    first.close()
    assert_untouched(one)
    assert_untouched(two)


@pytest.mark.parametrize("grad", [True, False])
def test_traces_that_end_in_the_order_they_began_leave_the_grad_mode_as_it_was(tiny, grad):
    one, two = LanguageModel(tiny("gpt2")), LanguageModel(tiny("gpt2", seed=1))
    with torch.set_grad_enabled(grad):
        first, second = one.trace(IDS), two.trace(IDS)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)
        assert not torch.is_grad_enabled()  # the second one still lasts
        second.__exit__(None, None, None)
        assert torch.is_grad_enabled() == grad
