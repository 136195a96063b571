"""Queries, keys, values and what heads give, by name, in every architecture."""

from __future__ import annotations

import pytest
import torch
from torch.overrides import TorchFunctionMode

from nnsight_magic import LanguageModel
from nnsight_magic.errors import NoSuchModuleError
from tests.architectures import families, models, reference
from tests.hooks import hook_count

TEXT = [*families.FAMILIES, "gpt2", "llama", "gpt_neox", "mixtral", "t5", "jamba", "bert", "vit"]
TEXT += ["whisper", "clip", "tied", "half", "lora"]
NO_ATTENTION = ("mamba2", "rwkv", "zamba2")
ATTENDING = [name for name in TEXT if name not in NO_ATTENTION]
NO_QUERIES = ("jetmoe",)  # whose queries come from experts
NORM_BEHIND = ("llama4",)  # the norm of queries follows the rotary embedding


class Attended(TorchFunctionMode):
    """Notes what every attention multiplies: queries and keys, and values, by head."""

    def __init__(self):
        super().__init__()
        self.calls: list[list[torch.Tensor]] = []
        self._product: tuple = ()

    def __torch_function__(self, func, types, args=(), kwargs=None):
        name = getattr(func, "__name__", "")
        result = func(*args, **(kwargs or {}))
        if name == "scaled_dot_product_attention":
            self.calls.append([each.clone() for each in args[:3]])
        elif name in ("matmul", "__matmul__", "bmm", "baddbmm"):
            left, right = [*args, *(kwargs or {}).values()][1:3] if name == "baddbmm" else args
            if self.calls and len(self.calls[-1]) == 2:
                self.calls[-1].append(right.clone())
            self._product = (left.clone(), right.transpose(-1, -2).clone())
        elif name == "softmax" and self._product and args[0].ndim > 2:
            self.calls.append(list(self._product))
        return result


def by_tokens(value, heads):
    """`(batch, tokens, heads, size)` of what one sees in there."""
    if value.ndim == 3:
        value = value.unflatten(0, (-1, heads))
    return value.transpose(1, 2)


def attended(module, inputs):
    """What each attention of the text's own blocks multiplies, in order."""
    with Attended() as seen, torch.no_grad():
        reference.run(module, inputs)
    return seen.calls


def attentions(model):
    """The attention of each block that has one with queries."""
    for block in model.blocks:
        try:
            attention = block.attn
        except (NoSuchModuleError, AttributeError):
            continue
        shares = "gemma3n" in type(model.module).__module__ and "k_proj" not in dir(attention)
        if "linear" not in attention.path and not shares:  # keys of another block's
            yield attention


def own_call(calls, value):
    """The call whose values are those that were found, each repeated for the queries it serves."""
    tokens, kv = value.shape[1:3]
    for call in calls:
        if len(call) < 3:
            continue
        found = by_tokens(call[2], 4)
        if found.shape[1] != tokens or found.shape[2] % kv:
            continue
        every = found.shape[2] // kv
        for picked in (found[:, :, ::every], found[:, :, :kv]):  # JetMoe repeats all in turn
            if picked.shape == value.shape and torch.allclose(picked, value, atol=1e-6):
                return call
    raise AssertionError("no attention multiplies these values")


@pytest.mark.parametrize("name", ATTENDING)
def test_values_are_those_that_attention_sums_up(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    calls = attended(module, inputs)
    found = 0
    for attention in attentions(model):
        with model.trace(inputs):
            values = attention._own.v
        own_call(calls, values.value)
        found += 1
    assert found
    assert hook_count(module) == 0


@pytest.mark.parametrize("name", [each for each in ATTENDING if each not in NO_QUERIES])
def test_queries_and_keys_are_those_that_attention_multiplies_but_for_a_rotation(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    calls = attended(module, inputs)
    for attention in attentions(model):
        with model.trace(inputs):
            q, k, v = attention._own.q, attention._own.k, attention._own.v
        query, key, _ = own_call(calls, v.value)
        every = by_tokens(key, 4).shape[2] // k.shape[2]
        pairs = [(q, by_tokens(query, 4)), (k, by_tokens(key, 4)[:, :, ::every])]
        if name in NORM_BEHIND:
            continue
        for ours, theirs in pairs:
            assert ours.shape == theirs.shape
            length, expected = (each.float().norm(dim=-1) for each in (ours, theirs))
            factor = (expected / length).mean()  # some scale the queries here
            assert torch.allclose(length * factor, expected, rtol=2e-2 if name == "half" else 1e-4)
            # The first token is at position 0, where a rotation turns by nothing.
            first = (ours[:, 0] * factor).to(theirs.dtype)
            assert torch.allclose(first, theirs[:, 0], atol=2e-2 if name == "half" else 1e-4)


@pytest.mark.parametrize("name", ATTENDING)
def test_writing_what_was_read_changes_no_bit(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    plain = reference.final(reference.run(module, inputs))
    for attention in attentions(model):
        for value in "vz" if name in NO_QUERIES else "qkvz":
            if (name, value) == ("jetmoe", "z"):
                continue
            with model.trace(inputs):
                setattr(attention._own, value, getattr(attention._own, value))
                again = getattr(attention._own, value)
                again[:] = again.clone()
                logits = reference.final(model.output).value
            assert torch.equal(logits, plain), value
    assert hook_count(module) == 0


@pytest.mark.parametrize("name", [n for n in ATTENDING if n not in ("jetmoe", "qwen3_next")])
def test_heads_give_the_values_summed_up_by_the_pattern(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    for attention in attentions(model):
        with model.trace(inputs):
            pattern, values, z = attention.pattern, attention._own.v, attention.z
            heads = attention.heads[...]
        values = values.repeat_interleave(z.shape[2] // values.shape[2], 2)
        expected = torch.einsum("bhqk,bkhs->bqhs", pattern.float(), values.float())
        assert torch.equal(z, heads)
        assert torch.allclose(z.float(), expected, atol=2e-2 if name == "half" else 1e-5)


# A hook by hand on one head of the projection of keys, for each order of a fused projection.
def _head_by_head(out, head):  # GPT-NeoX: query, key, value of one head after another
    return out.view(*out.shape[:2], 4, 3, 8)[:, :, head, 1]


KEYS = {
    "gpt2": ("transformer.h.1.attn.c_attn", lambda out, h: out[..., 32 + 8 * h : 40 + 8 * h]),
    "gpt_neox": ("gpt_neox.layers.1.attention.query_key_value", _head_by_head),
    "bloom": ("transformer.h.1.self_attention.query_key_value", _head_by_head),
    "phi3": (
        "model.layers.1.self_attn.qkv_proj",
        lambda out, h: out[..., 32 + 8 * h : 40 + 8 * h],
    ),
    "falcon": ("transformer.h.1.self_attention.query_key_value", lambda out, h: out[..., 32:40]),
    "codegen": (
        "transformer.h.1.attn.qkv_proj",
        lambda out, h: out.view(*out.shape[:2], 4, 3, 8)[:, :, h, 2],
    ),
    "modernbert": (
        "model.layers.1.attn.Wqkv",
        lambda out, h: out.view(*out.shape[:2], 3, 4, 8)[:, :, 1, h],
    ),
    "llama": ("model.layers.1.self_attn.k_proj", lambda out, h: out[..., 8 * h : 8 * h + 8]),
    "opt": ("model.decoder.layers.1.self_attn.k_proj", lambda out, h: out[..., 8 * h : 8 * h + 8]),
    "olmo2": ("model.layers.1.self_attn.k_norm", lambda out, h: out[..., 8 * h : 8 * h + 8]),
    "qwen3": ("model.layers.1.self_attn.k_norm", lambda out, h: out[:, :, h]),
    "gemma3": ("model.layers.1.self_attn.k_norm", lambda out, h: out[:, h]),
}


@pytest.mark.parametrize("name", KEYS)
def test_a_write_to_a_head_does_what_a_hook_on_its_columns_does(name):
    path, part = KEYS[name]
    module, inputs = models.build(name)
    head = 0 if name == "falcon" else 1

    def change(module, args, output):
        new = output.clone()
        part(new, head)[:] *= 0.5
        part(new, head)[:] += 0.25
        return new

    handle = module.get_submodule(path).register_forward_hook(change)
    expected = reference.final(reference.run(module, inputs))
    handle.remove()
    model = LanguageModel(module)
    attention = model.blocks[1].attn
    with model.trace(inputs):
        attention.k[:, :, head] *= 0.5
        attention.k[:, :, head] += 0.25
        assert torch.equal(reference.final(model.output), expected)
    with model.edit(inplace=True):
        attention.k[:, :, head] *= 0.5
        attention.k[:, :, head] += 0.25
    with model.trace(inputs):
        assert torch.equal(reference.final(model.output), expected)


def test_as_many_tokens_as_heads_are_not_taken_for_them():
    for name in ("qwen3", "gemma3", "olmo2", "cohere", "stablelm", "phi"):
        module, inputs = models.build(name)
        if name in ("stablelm", "phi", "cohere"):
            flag = "use_qk_norm" if name == "cohere" else "qk_layernorm"
            setattr(module.config, flag, True)
            module = type(module)(module.config).eval()
        model = LanguageModel(module)
        four = {"input_ids": inputs["input_ids"][:, :4]}
        with model.trace(inputs):
            q, k = model.layers[1].attn.q, model.layers[1].attn.k
        with model.trace(four):
            few_q, few_k = model.layers[1].attn.q, model.layers[1].attn.k
        assert torch.allclose(few_q, q[:, :4], atol=1e-5), name
        assert torch.allclose(few_k, k[:, :4], atol=1e-5), name


def test_what_an_architecture_has_not_is_refused_in_words():
    module, _ = models.build("jetmoe")
    model = LanguageModel(module)
    with pytest.raises(NoSuchModuleError, match="has no q in a place that is known"):
        _ = model.layers[0].attn.q
    module, _ = models.build("qwen3_next")
    model = LanguageModel(module)
    for name in "qkv":
        with pytest.raises(NoSuchModuleError, match=f"has no {name} in a place that is known"):
            getattr(model.layers[0].attn, name)
    module, _ = models.build("llama")
    model = LanguageModel(module)
    for name in "qkvz":
        with pytest.raises(NoSuchModuleError, match="no attention module with heads"):
            getattr(model.layers[0].mlp, name)
        assert name not in dir(model.layers[0].mlp)
        assert name in dir(model.layers[0].attn)


def test_a_model_s_own_children_come_first():
    module, inputs = models.build("t5")
    model = LanguageModel(module)
    attention = model.layers[0].attn
    with model.trace(inputs):
        theirs, ours = attention.q.output, attention._own.q
    assert torch.equal(theirs.unflatten(-1, (4, 8)), ours)
