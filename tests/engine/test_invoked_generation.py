"""In an invoke of `generate` the outer tracer speaks of the run that is going on."""

import pytest
import torch

PROMPTS = [torch.tensor([[1, 2, 3, 4, 5]]), torch.tensor([[9, 8, 7]])]
NEW = 3


@pytest.fixture
def hf(tiny):
    return tiny("llama")


@torch.no_grad()
def generated(hf, ids):
    mask = torch.ones_like(ids)
    return hf.generate(ids, attention_mask=mask, max_new_tokens=NEW, do_sample=False)


def states(hf, ids):
    """What block 1 gives in each forward of a plain generation, by a hand-written hook."""
    found = []
    hook = hf.model.layers[1].register_forward_hook(lambda m, a, out: found.append(out.clone()))
    generated(hf, ids)
    hook.remove()
    return found


def test_the_result_is_that_of_the_invoke_that_runs(model, hf):
    inside = []
    with model.generate(max_new_tokens=NEW, do_sample=False) as tracer:
        for ids in PROMPTS:
            with tracer.invoke(ids):
                inside.append(tracer.result)
    for ids, result, after in zip(PROMPTS, inside, tracer.result, strict=True):
        assert torch.equal(result, generated(hf, ids))
        assert torch.equal(after, result)


def test_the_result_of_a_single_invoke_is_the_result(model, hf):
    with model.generate(max_new_tokens=NEW, do_sample=False) as tracer:
        with tracer.invoke(PROMPTS[0]):
            model.layers[1].output[:] *= 1
        assert torch.equal(tracer.result, generated(hf, PROMPTS[0]))
    assert torch.equal(tracer.result, generated(hf, PROMPTS[0]))


@pytest.mark.parametrize(
    "visit",
    [lambda t: t.iter[:], lambda t: t.iter[0:NEW], lambda t: t.steps, lambda t: t.all()],
    ids=["iter[:]", "iter[0:3]", "steps", "all()"],
)
def test_the_steps_are_those_of_the_invoke(model, hf, visit):
    with model.generate(max_new_tokens=NEW, do_sample=False) as tracer:
        for ids in PROMPTS:
            with tracer.invoke(ids):
                seen = [model.layers[1].output.value for _ in visit(tracer)]
            expected = states(hf, ids)
            assert len(seen) == NEW
            for value, plain in zip(seen, expected, strict=True):
                torch.testing.assert_close(value, plain, atol=1e-5, rtol=0)


def test_a_cache_of_the_outer_trace_has_every_invoke(model, hf):
    with model.generate(max_new_tokens=NEW, do_sample=False) as tracer:
        cache = tracer.cache(modules=[model.layers[1]])
        for ids in PROMPTS:
            with tracer.invoke(ids):
                pass
    expected = [each for ids in PROMPTS for each in states(hf, ids)]
    found = cache["model.layers.1"].output
    assert len(found) == len(expected)
    for value, plain in zip(found, expected, strict=True):
        torch.testing.assert_close(value, plain, atol=1e-5, rtol=0)


def test_a_cache_that_is_asked_for_in_an_invoke_is_of_that_one(model, hf):
    with model.generate(max_new_tokens=NEW, do_sample=False) as tracer:
        with tracer.invoke(PROMPTS[0]):
            cache = tracer.cache(modules=[model.layers[1]])
        with tracer.invoke(PROMPTS[1]):
            pass
    assert len(cache["model.layers.1"].output) == len(states(hf, PROMPTS[0]))


def test_the_same_in_a_trace(model, hf):
    with model.trace() as tracer:
        cache = tracer.cache(modules=[model.layers[1]])
        for ids in PROMPTS:
            with tracer.invoke(ids):
                with torch.no_grad():
                    expected = hf(ids, use_cache=False).logits
                assert torch.equal(tracer.result.logits, expected)
    assert [each.shape[1] for each in cache["model.layers.1"].output] == [5, 3]
