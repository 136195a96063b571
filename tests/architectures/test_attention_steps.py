"""From queries to what heads add, and what norms multiply by, in every architecture."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import NoSuchModuleError, NoSuchOperationError, WrongValueError
from tests.architectures import models, reference
from tests.architectures.test_attention_values import (
    ATTENDING,
    attended,
    attentions,
    by_tokens,
    own_call,
)
from tests.hooks import hook_count

ROTARY = """gpt_oss codegen gptj modernbert jetmoe qwen3_next gemma3n gemma2 gemma3 cohere granite
    bamba falcon_h1 lfm2 olmo2 glm4 phi phi3 llama4 mistral qwen3 qwen2_moe qwen3_moe falcon
    stablelm starcoder2 llama gpt_neox mixtral tied half lora""".split()  # noqa: SIM905
# Whose scores are queries times keys times the scale that the module says, where nothing is masked.
PLAIN = [n for n in ROTARY if n not in ("gemma2", "codegen", "gptj", "falcon", "gpt_oss", "half")]
LOOSE = {"half": 3e-2}


@pytest.fixture(params=ATTENDING)
def case(request):
    module, inputs = models.build(request.param)
    yield request.param, LanguageModel(module), module, inputs
    assert hook_count(module) == 0


@pytest.mark.parametrize("name", ROTARY)
def test_rotated_queries_and_keys_are_those_that_attention_multiplies(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    calls = attended(module, inputs)
    for attention in attentions(model):
        with model.trace(inputs):
            values, query, key = attention.v, attention.q_rot, attention.k_rot
        call = own_call(calls, values.value)
        expected = by_tokens(call[1], 4)
        step = expected.shape[2] // key.shape[2]
        own = slice(0, key.shape[2]) if name == "jetmoe" else slice(None, None, step)
        assert torch.equal(query, by_tokens(call[0], 4))
        assert torch.equal(key, expected[:, :, own])


def test_an_architecture_without_a_rotary_embedding_says_so(case):
    name, model = case[:2]
    if name in ROTARY:
        return
    for attention in attentions(model):
        for value in ("q_rot", "k_rot"):
            with pytest.raises(NoSuchModuleError, match="has no rotary embedding"):
                getattr(attention, value)


@pytest.mark.parametrize("name", PLAIN)
def test_scores_are_rotated_queries_times_keys_and_scale(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    for attention in attentions(model):
        with model.trace(inputs):
            query, key, scores = attention.q_rot, attention.k_rot, attention.scores
        times = query.shape[2] // key.shape[2]
        key = key.repeat(1, 1, times, 1) if name == "jetmoe" else key.repeat_interleave(times, 2)
        scale = getattr(attention.module, "scaling", query.shape[-1] ** -0.5)
        expected = torch.einsum("bqhs,bkhs->bhqk", query, key) * scale
        seen = scores > -1e9
        assert bool(seen.any())
        assert torch.allclose(scores[seen], expected[seen], atol=1e-5)


def test_the_pattern_is_the_softmax_of_the_scores(case):
    name, model, _, inputs = case
    for attention in attentions(model):
        with model.trace(inputs):
            scores, pattern = attention.scores, attention.pattern
        expected = scores.float().softmax(-1)
        if name == "gpt_oss":  # a sink takes a part of each row
            expected = expected * pattern.sum(-1, keepdim=True)
        assert torch.allclose(pattern.float(), expected, atol=1e-5)


def test_results_of_heads_and_the_bias_sum_up_to_what_the_projection_gives(case):
    name, model, _, inputs = case
    for attention in attentions(model):
        if name == "jetmoe":
            with pytest.raises(NoSuchModuleError, match="no attention module with heads"):
                _ = attention.result
            return
        with model.trace(inputs) as tracer:
            one = attention.heads[1].result
            z, every = attention.z, attention.result
            path = next(t.parts for t in tracer.report.touches if t.called is not None)
            output = model[".".join(path)].output
        bias = getattr(model[".".join(path)].module, "bias", None)
        total = every.sum(2) + (0 if bias is None else bias)
        atol = LOOSE.get(name, 1e-5)
        assert every.shape == (*z.shape[:3], 32)
        assert torch.allclose(total, output, atol=atol)
        assert torch.allclose(one, every[:, :, 1], atol=atol)


def test_writing_what_was_read_changes_no_bit(case):
    name, model, module, inputs = case
    plain = reference.final(reference.run(module, inputs))
    values = ["scores", "pattern", *(["q_rot", "k_rot"] if name in ROTARY else [])]
    values += ["result"] if name != "jetmoe" else []
    for attention in list(attentions(model))[:1]:
        for value in values:
            with model.trace(inputs):
                setattr(attention, value, getattr(attention, value))
                again = getattr(attention, value)
                again[:] = again.clone()
                logits = reference.final(model.output).value
            assert torch.equal(logits, plain), value


@pytest.mark.parametrize("name", ["llama", "gpt2", "gpt_neox", "bloom", "gemma2", "t5", "opt"])
def test_a_head_whose_result_is_zero_is_a_head_that_gives_nothing(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    attention = model.blocks[1].attn
    logits = []
    for write in ("z", "heads", "result", "head", "whole"):
        with model.trace(inputs):
            if write == "z":
                attention.z[:, :, 2] = 0
            elif write == "heads":
                attention.heads[2][:] = 0
            elif write == "result":
                attention.result[:, :, 2] = 0
            elif write == "head":
                attention.heads[2].result[:] = 0
            else:
                attention.heads[2].result = torch.zeros(1, 6, 32)
            logits.append(reference.final(model.output).value)
    assert not torch.allclose(logits[0], reference.final(reference.run(module, inputs)), atol=1e-3)
    for other in logits[1:]:
        assert torch.allclose(logits[0], other, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt_neox", "gemma2", "gptj", "falcon", "qwen3"])
def test_no_query_is_no_rotated_query_and_scores_that_all_are_equal(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    attention = model.blocks[1].attn
    logits = []
    for write in ("q", "q_rot", "scores"):
        with model.trace(inputs):
            if write == "scores":
                scores = attention.scores
                scores[:, 2] = torch.where(scores[:, 2] > -1e9, 0, scores[:, 2])
            else:
                getattr(attention, write)[:, :, 2] = 0
            logits.append(reference.final(model.output).value)
    assert not torch.allclose(logits[0], reference.final(reference.run(module, inputs)), atol=1e-3)
    for other in logits[1:]:
        assert torch.allclose(logits[0], other, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "falcon", "gptj"])
def test_no_key_is_no_rotated_key(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    logits = []
    for write in ("k", "k_rot"):
        with model.trace(inputs):
            getattr(model.blocks[1].attn, write)[:, 2, 0] = 0
            logits.append(reference.final(model.output).value)
    assert torch.allclose(*logits, atol=1e-5)
    assert not torch.allclose(logits[0], reference.final(reference.run(module, inputs)), atol=1e-3)


def test_results_of_many_heads_run_nothing_again():
    module, inputs = models.build("llama")
    model = LanguageModel(module)
    attention = model.layers[1].attn
    with model.trace(inputs) as tracer:
        found = [attention.heads[j].result for j in range(4)]
        every = attention.result
    assert torch.allclose(torch.stack(found, 2), every, atol=1e-6)
    assert tracer.report.forwards == 1
    with pytest.raises(WrongValueError, match="was read behind"), model.trace(inputs):
        _ = attention.heads[0].result
        attention.heads[1][:] = 0


def test_the_weight_of_a_quantised_projection_is_not_at_hand():
    module, inputs = models.build("quantised")
    model = LanguageModel(module)
    with pytest.raises(WrongValueError, match="needs the weight"), model.trace(inputs):
        _ = model.layers[0].attn.result


# ── norms ────────────────────────────────────────────────────────────────────────────────


def norms(module):
    """The norms of the residual stream, of queries and of gates, each class once."""
    found = {}
    for path, each in module.named_modules():
        kind = type(each).__name__
        if "Norm" in kind:
            found.setdefault(kind, path)
    return found


def by_formula(module, x):
    """1 / standard deviation, or 1 / root mean square, in double precision."""
    x = x.double()
    kind = type(module).__name__
    if kind in ("LayerNorm", "CohereLayerNorm"):
        x = x - x.mean(-1, keepdim=True)
    eps = next(getattr(module, n) for n in ("variance_epsilon", "eps") if hasattr(module, n))
    return (x.square().mean(-1, keepdim=True) + eps).rsqrt()


@pytest.mark.parametrize("name", sorted({*models.CASES} - {"zamba2"}))
def test_the_scale_of_a_norm_is_its_formula_s_and_written_as_it_is_it_changes_no_bit(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    plain = reference.final(reference.run(module, inputs))
    for kind, path in norms(module).items():
        with model.trace(inputs):
            given, scale = model[path].input, model[path]._own.scale
            model[path]._own.scale = scale
            logits = reference.final(model.output).value
        assert torch.equal(logits, plain)
        if "Gated" in kind:  # which norms what a gate has been multiplied with
            continue
        assert scale.shape == (*given.shape[:-1], 1)
        assert torch.allclose(scale.double(), by_formula(model[path].module, given), rtol=1e-2)


@pytest.mark.parametrize("name", ["llama", "gpt2", "bloom", "cohere", "gemma3", "t5"])
def test_a_scale_that_is_twice_as_large_is_a_norm_that_gives_twice_as_much(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    norm = model.norm.module
    bias = getattr(norm, "bias", None)
    bias = 0 if bias is None else bias
    handle = norm.register_forward_hook(lambda m, a, out: (out - bias) * 2 + bias)
    expected = reference.final(reference.run(module, inputs))
    handle.remove()
    with model.trace(inputs):
        model.norm.scale *= 2
        found = reference.final(model.output).value
    assert torch.allclose(found, expected, atol=1e-4)
    assert not torch.allclose(found, reference.final(reference.run(module, inputs)), atol=1e-3)


def test_what_is_no_norm_has_no_scale():
    module, _ = models.build("llama")
    model = LanguageModel(module)
    with pytest.raises(NoSuchModuleError, match="is no norm of tokens"):
        _ = model.layers[0].mlp.scale
    assert "scale" in dir(model.norm)
    assert "scale" not in dir(model.layers[0].mlp)


def test_linear_attention_has_no_scores():
    module, inputs = models.build("qwen3_next")
    model = LanguageModel(module)
    with pytest.raises(NoSuchModuleError, match="no attention module with heads"):
        _ = model.layers[0].attn.q_rot
    with pytest.raises(NoSuchOperationError, match="softmax"), model.trace(inputs):
        _ = model.layers[0].attn.scores
