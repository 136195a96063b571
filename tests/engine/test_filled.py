"""Caches of the user's: filled once by a trace or a generation, as by a plain call."""

from __future__ import annotations

import inspect

import pytest
import torch
from transformers import DynamicCache, EncoderDecoderCache, StaticCache

from nnsight_magic import LanguageModel
from tests import tiny
from tests.hooks import hook_count

FIRST = torch.tensor([[5, 6, 7, 8, 9]])
IDS = torch.tensor([[10, 11, 12]])


def dynamic(hf):
    return DynamicCache(config=hf.config)


def bare(hf):
    return DynamicCache()


def static(hf):
    return StaticCache(config=hf.config, max_cache_len=32)


def prefilled(make):
    def filled(hf):
        cache = make(hf)
        with torch.no_grad():
            hf(FIRST, past_key_values=cache, use_cache=True)
        return cache

    filled.__name__ = f"prefilled {make.__name__}"
    return filled


CACHES = [dynamic, bare, static, prefilled(dynamic), prefilled(static)]


def tensors_of(cache):
    return [t for layer in cache.layers for t in (layer.keys, layer.values)]


def assert_same(cache, other):
    assert cache.get_seq_length() == other.get_seq_length()
    assert len(cache.layers) == len(other.layers)
    for mine, theirs in zip(tensors_of(cache), tensors_of(other), strict=True):
        assert torch.equal(mine, theirs)


def backwards(model):
    return [model.layers[2].output, model.layers[0].output, model.layers[1].mlp.output]


def first_alone(model):
    return [model.layers[0].output]


def nothing(model):
    return []


@pytest.mark.parametrize("read", [backwards, first_alone, nothing])
@pytest.mark.parametrize("make", CACHES, ids=lambda make: make.__name__)
@pytest.mark.parametrize("architecture", ["llama", "gpt2"])
def test_a_trace_fills_a_cache_once_whatever_it_reads(architecture, make, read):
    hf = tiny.build(architecture)
    model, cache, plain = LanguageModel(hf), make(hf), make(hf)
    for ids in (IDS, IDS + 3):  # the second goes on from what the first left
        with torch.no_grad():
            seen = []
            hooks = [
                module.register_forward_hook(lambda m, a, out, seen=seen: seen.append(out))
                for module in (model.layers[k].module for k in range(3))
            ]
            expected = hf(ids, past_key_values=plain, use_cache=True).logits
            for hook in hooks:
                hook.remove()
        with model.trace(ids, past_key_values=cache, use_cache=True):
            values = read(model)
            logits = model.logits
        if read is backwards:
            first = seen[0][0] if isinstance(seen[0], tuple) else seen[0]
            assert torch.equal(values[1].value, first)
        assert torch.equal(logits.value, expected)
        assert_same(cache, plain)
        with model.trace(ids, past_key_values=cache, use_cache=True):  # no read of the end
            read(model)
        with torch.no_grad():
            hf(ids, past_key_values=plain, use_cache=True)
        assert_same(cache, plain)
    assert hook_count(hf) == 0


def test_the_memory_of_a_static_cache_stays_where_it_is():
    hf = tiny.build("llama")
    model, cache = LanguageModel(hf), prefilled(static)(hf)
    before = [t.data_ptr() for t in tensors_of(cache)]
    with model.trace(IDS, past_key_values=cache, use_cache=True):
        backwards(model)
    assert [t.data_ptr() for t in tensors_of(cache)] == before
    assert cache.get_seq_length() == FIRST.shape[1] + IDS.shape[1]


def test_what_is_written_is_in_the_cache():
    hf = tiny.build("llama")
    model, cache, plain = LanguageModel(hf), dynamic(hf), dynamic(hf)
    with model.trace(IDS, past_key_values=cache, use_cache=True):
        model.layers[0].output = 0
    hook = hf.model.layers[0].register_forward_hook(lambda m, a, out: out * 0)
    with torch.no_grad():
        hf(IDS, past_key_values=plain, use_cache=True)
    hook.remove()
    assert_same(cache, plain)


def test_an_error_leaves_the_cache_as_it_was():
    hf = tiny.build("llama")
    model, cache, plain = LanguageModel(hf), prefilled(dynamic)(hf), prefilled(dynamic)(hf)
    with pytest.raises(ZeroDivisionError), model.trace(IDS, past_key_values=cache, use_cache=True):
        model.layers[1].output / (1 // 0)
    assert_same(cache, plain)


def test_a_result_has_a_cache_that_goes_on():
    hf = tiny.build("llama")
    model, cache, plain = LanguageModel(hf), dynamic(hf), dynamic(hf)
    with model.trace(IDS, past_key_values=cache):
        given = model.output.past_key_values
    assert given is not None
    with torch.no_grad():
        hf(IDS, past_key_values=plain)
        expected = hf(FIRST, past_key_values=plain).logits
        assert torch.equal(hf(FIRST, past_key_values=cache).logits, expected)


@pytest.mark.parametrize("make", CACHES, ids=lambda make: make.__name__)
def test_a_generation_fills_a_cache_as_transformers_does(make):
    hf = tiny.build("llama")
    model, cache, plain = LanguageModel(hf), make(hf), make(hf)
    ids = torch.cat([FIRST, IDS], -1)
    options = {"max_new_tokens": 3, "do_sample": False, "pad_token_id": 0}
    expected = hf.generate(ids, past_key_values=plain, **options)
    with model.generate(ids, past_key_values=cache, **options) as tracer:
        model.layers[2].output  # noqa: B018
        model.layers[0].output  # noqa: B018
    assert torch.equal(tracer.result, expected)
    assert_same(cache, plain)
    other, plain = make(hf), make(hf)
    hf.generate(ids, past_key_values=plain, **options)
    assert torch.equal(model.generate(ids, past_key_values=other, **options), expected)
    assert_same(other, plain)


def test_the_cache_of_an_encoder_and_a_decoder():
    hf = tiny.build("t5")
    model = LanguageModel(hf)
    cache, plain = (EncoderDecoderCache(DynamicCache(), DynamicCache()) for _ in range(2))
    inputs = {"input_ids": FIRST, "decoder_input_ids": IDS}
    with torch.no_grad():
        expected = hf(**inputs, past_key_values=plain, use_cache=True).logits
    with model.trace(inputs, past_key_values=cache, use_cache=True):
        backwards_in_t5 = [model.layers[2].output, model.layers[0].output]
        logits = model.logits
    assert len(backwards_in_t5) == 2
    assert torch.equal(logits.value, expected)
    assert_same(cache.self_attention_cache, plain.self_attention_cache)
    assert_same(cache.cross_attention_cache, plain.cross_attention_cache)
    assert cache.is_updated == plain.is_updated


def test_a_states_cache_of_mamba():
    hf = tiny.build("mamba")
    model = LanguageModel(hf)
    with torch.no_grad():
        start, plain = hf(FIRST, use_cache=True), hf(FIRST, use_cache=True)
        expected = mamba_step(hf, IDS[:, :1], plain.cache_params, 5)
    cache = start.cache_params
    with model.trace(IDS[:, :1], cache_params=cache, use_cache=True, **mamba_position(hf, 5)):
        later, earlier = model.layers[2].output, model.layers[0].output
        logits = model.logits
    assert later.shape == earlier.shape
    assert torch.equal(logits.value, expected)
    with torch.no_grad():
        one, other = (mamba_step(hf, IDS[:, 1:2], c, 6) for c in (cache, plain.cache_params))
    assert torch.equal(one, other)


def mamba_step(hf, ids, cache, seen):
    return hf(ids, cache_params=cache, use_cache=True, **mamba_position(hf, seen)).logits


def mamba_position(hf, seen):
    """transformers 4 has to be told how many tokens the cache has seen."""
    told = "cache_position" in inspect.signature(hf.forward).parameters
    return {"cache_position": torch.tensor([seen])} if told else {}


def test_a_sweep_leaves_the_cache_as_it_was():
    hf = tiny.build("llama")
    model, cache, plain = LanguageModel(hf), prefilled(dynamic)(hf), prefilled(dynamic)(hf)

    def scaled(factor):
        model.layers[1].output *= factor
        return model.logits

    found = model.sweep(
        IDS, scaled, [0.5, 1.0], past_key_values=cache, use_cache=True, progress=False
    )
    assert_same(cache, plain)
    with torch.no_grad():
        expected = hf(IDS, past_key_values=plain, use_cache=True).logits
    assert torch.equal(found[1], expected)


def test_gradients_flow_through_a_cache():
    hf = tiny.build("llama")
    model, cache = LanguageModel(hf), dynamic(hf)
    hf(FIRST, past_key_values=cache, use_cache=True)
    with model.trace(IDS, past_key_values=cache, use_cache=True, grad=True):
        model.logits.sum().backward()
    assert hf.model.layers[0].self_attn.k_proj.weight.grad is not None
