"""What a standard name promises in every architecture, or refuses in words."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.running.inputs import with_positions
from nnsight_magic.errors import NoSuchModuleError, NoSuchOperationError
from tests.architectures import families, models
from tests.hooks import hook_count

TEXT = [*families.FAMILIES, "gpt2", "llama", "gpt_neox", "mixtral", "mamba", "t5", "jamba"]


@pytest.fixture(params=TEXT)
def case(request):
    module, inputs = models.build(request.param)
    yield LanguageModel(module), module, inputs
    assert hook_count(module) == 0


def test_embed_is_called_with_the_tokens_of_the_residual_stream(case):
    model, _, inputs = case
    ids = inputs.get("decoder_input_ids", inputs["input_ids"])
    with model.trace(inputs):
        given, found = model.embed.input, model.embed.output
    assert torch.equal(given, ids)
    assert found.shape[:2] == ids.shape


def test_the_embedding_that_a_decoder_shares_with_its_encoder_is_no_standard_name():
    module, _ = models.build("bart")
    module.model.decoder.embed_tokens = module.model.encoder.embed_tokens
    model = LanguageModel(module)
    with pytest.raises((NoSuchModuleError, AttributeError), match="embed"):
        _ = model.embed


def test_a_block_with_two_mlps_names_both_and_one_without_experts_has_one():
    module, _ = models.build("granite4")
    with pytest.raises((NoSuchModuleError, AttributeError), match=r"block_sparse_moe.*shared_mlp"):
        _ = LanguageModel(module).layers[1].mlp
    module.model.layers[1].has_experts = False
    assert LanguageModel(module).layers[1].mlp.path == "model.layers.1.shared_mlp"
    module, _ = models.build("switch")
    assert LanguageModel(module).layers[0].mlp.path == "decoder.block.0.layer.2.mlp"


def attention_of_transformers(name):
    """What the model's own attention, computed step by step, says that it attends to."""
    module, inputs = models.build(name)
    module.set_attn_implementation("eager")
    with torch.no_grad():
        found = module(**inputs, output_attentions=True, use_cache=False)
    found = found.get("attentions") or found.get("decoder_attentions") or ()
    if name in ("falcon", "xglm"):  # which give scores under that name, or a merged pattern
        return None
    return [pattern for pattern in found if pattern is not None]


NO_PATTERN = ("mamba", "mamba2", "rwkv", "zamba2")


@pytest.mark.parametrize("name", [name for name in TEXT if name not in NO_PATTERN])
def test_the_pattern_is_by_batch_heads_queries_and_keys(name):
    module, inputs = models.build(name)
    model, patterns = LanguageModel(module), []
    for block in model.blocks:
        try:
            attention = block.attn
        except (NoSuchModuleError, AttributeError):
            continue  # the block of a hybrid that attends to nothing
        try:
            with model.trace(inputs):
                patterns.append(attention.pattern)
        except NoSuchOperationError:
            continue  # a linear attention, refused in words
    expected = attention_of_transformers(name)
    heads, tokens = 4, inputs.get("decoder_input_ids", inputs["input_ids"]).shape[1]
    assert patterns
    for pattern in patterns:
        assert pattern.shape == (1, heads, tokens, tokens)
        if name != "gpt_oss":  # whose heads give the rest to their sinks
            assert torch.allclose(pattern.sum(-1), torch.ones(1, heads, tokens), atol=1e-5)
    if expected is not None:
        assert len(patterns) == len(expected)
        for pattern, other in zip(patterns, expected, strict=True):
            assert torch.allclose(pattern, other.float(), atol=1e-5)


@pytest.mark.parametrize("name", [name for name in TEXT if name not in NO_PATTERN])
def test_a_write_to_the_pattern_of_one_head_changes_what_that_head_gives(name):
    module, inputs = models.build(name)
    model = LanguageModel(module)
    attention = model.blocks[1].attn
    if name == "jetmoe":  # whose experts project heads together
        with pytest.raises(NoSuchModuleError, match="no attention module with heads"):
            _ = attention.heads
        return
    with model.trace(inputs):
        before = attention.heads[:]
    with model.trace(inputs):
        attention.pattern[:, 1] = 0
        after = attention.heads[:]
    assert before.shape[-2] == 4
    changed = [not torch.allclose(before[..., h, :], after[..., h, :], atol=1e-6) for h in range(4)]
    assert changed == [False, True, False, False]
    assert bool((after[..., 1, :] == 0).all())


GENERATING = ["llama", "mistral", "qwen3", "gpt_oss", "xglm", "codegen", "jetmoe", "gemma3"]


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", GENERATING)
def test_in_a_padded_generation_the_pattern_has_the_heads_of_the_model(name, cache):
    module, inputs = models.build(name)
    if cache == "static" and not module._can_compile_fullgraph:
        cache = "dynamic"
    model = LanguageModel(module)
    ids = inputs["input_ids"].repeat(2, 1)
    mask = torch.ones_like(ids)
    ids[1, :2], mask[1, :2] = 0, 0
    given = {"input_ids": ids, "attention_mask": mask}
    options = {"max_new_tokens": 3, "do_sample": False, "eos_token_id": None}
    how = {} if cache == "dynamic" else {"cache_implementation": "static", "disable_compile": True}
    site = model.blocks[1].attn
    with model.generate(given, **options, **how) as tracer:
        steps = [site.pattern for _ in tracer.steps]
        tokens = tracer.result
    whole_mask = torch.cat([mask, torch.ones(2, 2, dtype=mask.dtype)], 1)
    whole_text = {"input_ids": tokens[:, :-1], "attention_mask": whole_mask}
    with model.trace(with_positions(whole_text, module)):  # as generate counts them
        whole = site.pattern
    for number, pattern in enumerate(steps[1:], 6):
        assert pattern.shape[:3] == (2, 4, 1)
        keys = min(pattern.shape[-1], number + 1)
        expected = whole[:, :, number, number + 1 - keys : number + 1]
        assert torch.allclose(pattern[:, :, 0, :keys], expected, atol=1e-4)


def test_in_a_padded_generation_a_write_to_one_head_changes_that_head_alone():
    module, inputs = models.build("llama")
    model = LanguageModel(module)
    ids = inputs["input_ids"].repeat(2, 1)
    mask = torch.ones_like(ids)
    ids[1, :2], mask[1, :2] = 0, 0
    heads = []
    for write in (False, True):
        with model.generate(
            {"input_ids": ids, "attention_mask": mask}, max_new_tokens=2, do_sample=False
        ) as tracer:
            for number, _ in enumerate(tracer.steps):
                if number == 1:
                    if write:
                        model.layers[1].attn.pattern[:, 1] = 0
                    heads.append(model.layers[1].attn.heads[:])
    before, after = heads
    assert [torch.allclose(before[:, :, h], after[:, :, h], atol=1e-6) for h in range(4)] == [
        True,
        False,
        True,
        True,
    ]
    assert bool((after[:, :, 1] == 0).all())


def test_a_linear_attention_is_cut_by_its_own_number_of_heads(monkeypatch):
    sizes = families.FAMILIES["qwen3_next"][2]
    monkeypatch.setitem(sizes, "linear_num_value_heads", 2)
    module, inputs = models.build("qwen3_next")
    model = LanguageModel(module)
    assert (len(model.layers[0].attn.heads), len(model.layers[1].attn.heads)) == (2, 4)
    with model.trace(inputs):
        assert model.layers[0].attn.heads[1].shape == (1, 6, 4)
