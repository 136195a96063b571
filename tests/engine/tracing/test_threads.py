"""Traces and plain calls of one model in several threads."""

from __future__ import annotations

import threading

import pytest
import torch

from nnsight_magic.errors import NoTraceError
from tests.engine.undisturbed import IDS, assert_untouched, forward, trace_and_write

pytestmark = pytest.mark.usefixtures("ctrl_c", "gradients_on")


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


def in_thread(work):
    """The result of `work` in a thread of its own, or the exception that it raised."""
    outcome = []

    def run():
        try:
            outcome.append(work())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return outcome[0]


def test_threads_on_one_model_take_turns_and_get_their_own_numbers(model, hf):
    prompts = [torch.tensor([[n, n + 1, n + 2]]) for n in range(1, 7)]
    expected = [forward(hf, ids) for ids in prompts]
    wrong = []

    def work(ids, right):
        for repeat in range(5):
            with model.trace(ids):
                if repeat % 2:
                    model.layers[1].output[:] = 0
                logits = model.output.logits
            if torch.equal(logits, right) == bool(repeat % 2):
                wrong.append((ids, repeat))

    threads = [
        threading.Thread(target=work, args=pair) for pair in zip(prompts, expected, strict=True)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert_untouched(model)


def test_another_thread_that_calls_the_model_itself_sees_no_trace(model, hf):
    plain = forward(hf)
    with model.trace(IDS):
        model.layers[0].output[:] = 0
        model.layers[1].skip(model.layers[1].input * 0)
        model.layers[2].input.save()
        assert torch.equal(in_thread(lambda: forward(hf)), plain)
        logits = model.output.logits
    assert not torch.equal(logits, plain)
    assert torch.equal(forward(hf), plain)


def test_the_block_itself_may_call_the_model_and_sees_no_trace(model, hf):
    plain = forward(hf)
    with model.trace(IDS):
        model.layers[0].output[:] = 0
        assert torch.equal(hf(IDS, use_cache=False).logits, plain)
        logits = model.output.logits
    assert not torch.equal(logits, plain)


def test_reading_in_another_thread_says_which_thread_may(model):
    with model.trace(IDS):
        model.layers[0].output.save()
        error = in_thread(lambda: model.layers[1].output)
        assert isinstance(error, NoTraceError)
        assert "another thread" in str(error)
        model.layers[1].output.save()
    assert_untouched(model)


def test_leaving_a_trace_in_another_thread_puts_everything_away(model):
    def traced():
        with model.trace(IDS):
            yield model.layers[0].output

    generator = traced()
    next(generator)
    assert in_thread(generator.close) is None
    torch.set_grad_enabled(True)  # the mode of this thread is out of the other's reach
    trace_and_write(model)  # and so is the handler of signals, until the next trace ends
    assert_untouched(model)
    assert torch.equal(trace_and_write(model)[0], trace_and_write(model)[0])
