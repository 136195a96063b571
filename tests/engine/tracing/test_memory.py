"""What a trace leaves in memory: nothing."""

from __future__ import annotations

import gc
import tracemalloc
import weakref

import pytest
import torch

from nnsight_magic import LanguageModel
from tests.engine.undisturbed import IDS, WORK, Boom, assert_untouched

pytestmark = pytest.mark.usefixtures("ctrl_c", "gradients_on")


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


def test_two_thousand_traces_leave_no_object_behind(tiny):
    model = LanguageModel(tiny("gpt2", layers=1, hidden=8))
    model.resume.enabled = False

    def trace():
        with model.trace(IDS):
            model.layers[0].mlp.output[:] = 0
            return model.layers[0].output

    def forward():
        with torch.no_grad():
            model.module(IDS, use_cache=False)

    # What a plain forward leaves: the masks of transformers 4 some hundred cycles, those of 5 none.
    by_forward, rest = divmod(left_behind(forward, 100), 100)
    assert rest < 50
    assert left_behind(trace, 2000) - 2000 * by_forward < 50
    assert_untouched(model)


def left_behind(work, times):
    """How many objects there are more, without a garbage collector: a cycle shows."""
    for _ in range(20):
        work()
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        for _ in range(times):
            work()
        return len(gc.get_objects()) - before
    finally:
        gc.enable()


def test_traces_of_every_kind_leave_no_memory_behind(model):
    def all_kinds():
        for work in WORK:
            work(model)
        with pytest.raises(Boom), model.trace(IDS):
            model.layers[0].output.save()
            raise Boom

    for _ in range(5):
        all_kinds()
    gc.collect()
    tracemalloc.start()
    try:
        grown = []
        while len(grown) < 16 and not any(each < 5_000 for each in grown):
            before = tracemalloc.get_traced_memory()[0]
            for _ in range(15):
                all_kinds()
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - before)
        # A leak grows every time; caches of Python's and torch's own are full at some time.
        assert min(grown) < 5_000, grown
    finally:
        tracemalloc.stop()


def test_a_value_keeps_nothing_of_the_run_alive(model, hf):
    activations = []
    handle = hf.transformer.h[1].mlp.register_forward_hook(
        lambda module, args, output: activations.append(weakref.ref(output))
    )
    gc.collect()
    gc.disable()
    try:
        with model.trace(IDS) as tracer:
            hidden = model.layers[1].mlp.output.save()
            parts = model.layers[2].attn.output
            forwards = weakref.ref(tracer._forwards)
            run = weakref.ref(tracer._forwards.main)
        assert forwards() is None
        assert run() is None
        assert activations[0]() is None
        trace = weakref.ref(tracer)
        del tracer
        assert trace() is None
    finally:
        gc.enable()
        handle.remove()
    assert hidden.shape == (1, 5, 32)
    assert parts[0].shape == (1, 5, 32)


def test_the_values_of_a_trace_with_gradients_free_its_graph(model):
    with model.trace(IDS):
        hidden = model.layers[1].output
        loss = model.output.logits.sum()
        loss.backward()
    kept = hidden.grad.clone()
    graph = weakref.ref(loss)
    del loss, hidden
    assert graph() is None
    assert kept.abs().sum() > 0
    assert_untouched(model)
