"""Operations that are read, compared with transformers' own outputs and plain torch."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from nnsight_magic import LanguageModel
from tests.engine.places.eager import IDS, tokens_and_positions


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "mixtral", "bert"])
def test_the_softmax_is_the_attention_that_transformers_reports(tiny, name):
    hf = tiny(name)
    hf.set_attn_implementation("eager")
    with torch.no_grad():
        expected = hf(IDS, output_attentions=True).attentions
    model = LanguageModel(hf)
    for index, attention in enumerate(expected):
        attn = model.layers[index].attn
        with model.trace(IDS):
            where = attn if name != "bert" else attn["self"]
            pattern = where.ops.softmax[0].output
        # BERT of transformers 4 keeps the attention that it was made with, which is fused.
        torch.testing.assert_close(torch.Tensor(pattern), attention, atol=1e-6, rtol=0)


def test_the_softmax_of_a_vision_model_is_its_attention(tiny):
    hf = tiny("vit")
    hf.set_attn_implementation("eager")
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = hf(pixels, output_attentions=True).attentions[1]
    model = LanguageModel(hf)
    with model.trace({"pixel_values": pixels}):
        attn = model.layers[1].attn  # in transformers 4 a module around the one that attends
        where = attn["attention"] if "attention" in attn.children() else attn
        pattern = where.ops.softmax.output
    assert torch.equal(pattern, expected)


def test_every_spelling_addresses_the_same_operation(model):
    with model.trace(IDS):
        ops = model.layers[1].attn.ops
        first = ops["softmax", 0].output
        assert torch.equal(first, ops["softmax"].output)
        assert torch.equal(first, ops.softmax[0].output)
        assert torch.equal(first, ops.softmax.output)
    assert first.where == "layers[1].attn.ops.softmax[0].output"


def test_scaled_dot_product_attention_gives_what_its_inputs_say(tiny):
    hf = tiny("llama")
    hf.set_attn_implementation("sdpa")
    model = LanguageModel(hf)
    with model.trace(IDS):
        attention = model.layers[1].attn.ops.scaled_dot_product_attention
        args, kwargs = attention.inputs.value
        query = attention.input
        output = attention.output
    assert torch.equal(query, args[0])
    assert torch.equal(output, F.scaled_dot_product_attention(*args, **kwargs))


def test_rotary_embeddings_are_read_where_they_are_applied(tiny):
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    hf = tiny("llama")
    model = LanguageModel(hf)
    with model.trace(IDS):
        cosine, sine = model.model.rotary_emb.output
        attn = model.layers[1].attn
        query, key = attn.q_proj.output.value, attn.k_proj.output.value
    with model.trace(IDS):
        rotated = [model.layers[1].attn.ops.add[i].output for i in (0, 1)]
    size = hf.config.head_dim or hf.config.hidden_size // hf.config.num_attention_heads
    heads = [t.view(1, 5, -1, size).transpose(1, 2) for t in (query, key)]
    expected = apply_rotary_pos_emb(*heads, cosine.value, sine.value)
    assert all(torch.equal(a, b) for a, b in zip(rotated, expected, strict=True))


def test_activations_and_linear_maps_are_operations_of_their_own_modules(tiny):
    model = LanguageModel(tiny("llama"))
    with model.trace(IDS):
        mlp = model.layers[1].mlp
        gate = mlp.gate_proj.ops.linear.output
        before = mlp.act_fn.ops.silu.input
        product = mlp.ops.mul.output
        given = mlp.down_proj.input
    assert torch.equal(gate, before)
    assert torch.equal(product, given)


def test_the_residual_stream_is_a_sum_of_parts(model):
    with model.trace(IDS):
        block = model.layers[1]
        start = block.input
        middle = block.ops.add[0].output
        written = block.ops.add[1].inputs
        mlp = written[0][1]
        end = block.ops.add[1].output
        given = block.output
    with model.trace(IDS):
        attn = model.layers[1].attn.output[0]
        expected = model.layers[1].mlp.output
    assert torch.equal(middle, attn + start)
    assert torch.equal(mlp, expected)
    assert torch.equal(end, middle + mlp)
    assert torch.equal(end, given)


def test_operations_in_order_need_one_forward_and_end_it_early(model):
    with model.trace(IDS, resume=False) as tracer:
        _ = model.layers[0].attn.ops.softmax.output
        _ = model.layers[1].attn.ops.matmul[0].input
        _ = model.layers[1].attn.ops.matmul[1].output
    assert tracer.report.forwards == 1
    assert tracer.report.blocks_run == 2
    assert tracer.report.stopped_at == "layers[1].attn.ops.matmul[1].output"


def test_a_forward_that_stands_in_a_module_above_the_blocks_counts_those_that_ran(model):
    with model.trace(IDS, resume=False) as tracer:
        embedded = tokens_and_positions(model).output
    assert tracer.report.blocks_run == 0
    with model.trace(IDS):
        assert torch.equal(embedded, model.layers[0].input)


def test_what_submodules_and_the_user_do_is_not_counted(tiny):
    model = LanguageModel(tiny("llama"))
    with model.trace(IDS):
        block = model.layers[1]
        start = block.input
        _ = (start + 1) + 1  # an `add` of the user's, while the block is about to run
        middle = block.ops.add[0].output
        _ = middle + 1
        end = block.ops.add[1].output
        assert torch.equal(block.output, end)
    with model.trace(IDS):  # attention adds too, four times, between these two
        assert torch.equal(middle, model.layers[1].post_attention_layernorm.input)


def test_a_saved_value_stays_as_it_was_read(model):
    with model.trace(IDS):
        pattern = model.layers[1].attn.ops.softmax.output.save()
        before = pattern.clone()
        model.layers[1].attn.ops.softmax.output = 0
        _ = model.logits
    assert torch.equal(pattern, before)
