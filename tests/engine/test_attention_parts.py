"""Attention's steps in sweeps, edits and their files, gradients, scans, and a second run."""

from __future__ import annotations

import copy

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import AlreadyRanError, EditError, NoSuchModuleError, WrongValueError
from tests import tiny
from tests.hooks import hook_count

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture
def model():
    module = tiny.build("llama")
    yield LanguageModel(module, tiny.tokenizer())
    assert hook_count(module) == 0


def test_a_sweep_over_heads_of_queries_gives_what_a_loop_of_traces_gives(model):
    def without(block, head, name):
        getattr(model.layers[block].attn, name)[:, 3:, head] = 0
        return model.logits[:, -1]

    names = ("q", "k", "z", "q_rot", "result")
    points = [(block, head, name) for name in names for block in (0, 2) for head in (0, 1)]
    expected = []
    for point in points:
        with model.trace(IDS):
            expected.append(without(*point))
    for found, one in zip(model.sweep(IDS, without, points), expected, strict=True):
        assert torch.allclose(found, one, atol=1e-4)


def test_edits_of_queries_and_of_what_heads_give_are_kept_in_a_file(model, tmp_path):
    vector = torch.randn(8)
    with model.trace(IDS):
        model.layers[1].attn.q[:, :, 2] += vector
        model.layers[2].attn.z[:, -1] *= 0.5
        expected = model.logits
    with model.edit("heads", inplace=True):
        model.layers[1].attn.q[:, :, 2] += vector
        model.layers[2].attn.z[:, -1] *= 0.5
    assert "self_attn.q[:, :, 2] += tensor (8,)" in str(model.edits)
    with model.trace(IDS):
        assert torch.equal(model.logits, expected)
    model.edits.save(tmp_path / "edits.safetensors")
    other = LanguageModel(copy.deepcopy(model.module), model.tokenizer)
    other.edits.load(tmp_path / "edits.safetensors")
    with other.trace(IDS):
        assert torch.equal(other.logits, expected)
    strange = LanguageModel(tiny.build("mamba"), model.tokenizer)
    with pytest.raises(EditError, match="no module of this model that has q"):
        strange.edits.load(tmp_path / "edits.safetensors")
    model.edits.clear()


def test_what_is_computed_inside_a_module_is_no_place_for_an_edit(model):
    for name in ("scores", "q_rot", "result"):
        with pytest.raises(EditError, match="operation inside a module"), model.edit():
            getattr(model.layers[1].attn, name)[:] = 0


@pytest.mark.parametrize("name", ["q", "k", "v", "q_rot", "k_rot", "scores", "z", "result"])
def test_gradients_of_a_step_are_those_of_a_small_change(name):
    """The derivative along a direction, against the difference of two runs."""
    model = LanguageModel(tiny.build("gpt_neox").double())  # whose norms stay in double precision
    model.module.requires_grad_(False)

    def at():
        return model.layers[1].attn

    with model.trace(IDS, grad=True):
        value = getattr(at(), name).requires_grad_()
        model.logits[0, -1, 7].backward()
        gradient = value.grad
    direction = torch.randn(value.shape, dtype=torch.double)
    if name == "scores":
        direction = direction.tril()
    ends = []
    for sign in (1, -1):
        with model.trace(IDS):
            now = getattr(at(), name)
            now += sign * 1e-5 * direction
            ends.append(model.logits[0, -1, 7])
    slope = (ends[0] - ends[1]) / 2e-5
    along = torch.nan_to_num(gradient * direction).sum()
    assert torch.allclose(along, slope, rtol=1e-4, atol=1e-7)


def test_gradients_of_a_norm_s_scale():
    for kind, rtol in (("llama", 1e-2), ("gpt2", 1e-4)):  # Llama's norms are in single precision
        found = LanguageModel(tiny.build(kind).double())
        found.module.requires_grad_(False)
        with found.trace(IDS, grad=True):
            scale = found.norm.scale.requires_grad_()
            found.logits[0, -1, 7].backward()
            gradient = scale.grad
        ends = []
        for sign in (1, -1):
            with found.trace(IDS):
                found.norm.scale[0, -1] += sign * 1e-3
                ends.append(found.logits[0, -1, 7])
        slope = (ends[0] - ends[1]) / 2e-3
        assert torch.allclose(gradient[0, -1, 0].double(), slope, rtol=rtol)


def test_a_second_run_resumes_behind_blocks_that_are_known(model):
    for _ in range(2):
        with model.trace(IDS) as tracer:
            values = model.layers[2].attn.v
    assert tracer.report.blocks_skipped == 2
    with model.trace(IDS, resume=False):
        assert torch.equal(values, model.layers[2].attn.v)


def test_steps_read_in_any_order_are_the_same(model):
    names = ("result", "z", "scores", "k_rot", "q", "v")
    with model.trace(IDS):
        late = {name: getattr(model.layers[1].attn, name) for name in names}
    for name in names:
        with model.trace(IDS):
            assert torch.equal(getattr(model.layers[1].attn, name), late[name])


def test_what_was_written_is_read_in_every_name_of_the_same_place(model):
    with model.trace(IDS):
        attention = model.layers[1].attn
        attention.q[:, :, 1] = 2
        whole = attention.q_proj.output
        assert bool((whole.unflatten(-1, (4, 8))[:, :, 1] == 2).all())
        attention.q_proj.output[:] = 3
        assert bool((attention.q == 3).all())
        attention.heads[1] = 4
        assert bool((attention.z[:, :, 1] == 4).all())
        assert torch.equal(attention.heads[...], attention.z)
        attention.heads[...] = 5
        assert bool((attention.heads[3] == 5).all())


def test_an_older_copy_and_a_late_write_are_refused(model):
    said = r"older copy of layers\[1\].attn.q"
    with pytest.raises(WrongValueError, match=said), model.trace(IDS):
        old = model.layers[1].attn.q
        model.layers[1].attn.q[:] = 1
        old[:] = 2
    said = r"layers\[1\].attn.q was written after"
    with pytest.raises(AlreadyRanError, match=said), model.trace(IDS):
        queries = model.layers[1].attn.q
        _ = model.layers[2].output
        queries[:] = 0


def test_what_does_not_fit_is_refused_with_both_shapes(model):
    said = r"attn.k takes another shape.*\n.*\(1, 6, 2, 8\)"
    with pytest.raises(WrongValueError, match=said), model.trace(IDS):
        model.layers[1].attn.k = torch.zeros(1, 6, 4, 8)


def test_a_scan_knows_the_shapes_of_what_modules_give(model):
    with model.scan(IDS):
        attention = model.layers[1].attn
        shapes = [tuple(getattr(attention, name).shape) for name in ("q", "k", "v", "z")]
    assert shapes == [(1, 6, 4, 8), (1, 6, 2, 8), (1, 6, 2, 8), (1, 6, 4, 8)]


def test_one_token_has_queries_too(model):
    with model.trace(IDS[:, :1]):
        attention = model.layers[1].attn
        q, turned, scores = attention.q, attention.q_rot, attention.scores
    assert torch.allclose(q, turned, atol=1e-6)  # position 0
    assert scores.shape == (1, 4, 1, 1)


def test_eager_attention_has_the_same_steps(model):
    names = ("q_rot", "k_rot", "scores", "pattern", "z")
    with model.trace(IDS):
        fused = [getattr(model.layers[1].attn, name) for name in names]
    model.module.set_attn_implementation("eager")
    with model.trace(IDS):
        eager = [getattr(model.layers[1].attn, name) for name in names]
    for one, other in zip(fused, eager, strict=True):
        seen = one > -1e9
        assert torch.allclose(one[seen], other[seen], atol=1e-5)


def test_a_module_of_the_users_may_go_by_a_name_that_its_place_has_not(model):
    block = model.layers[1]
    block.scale = torch.nn.Identity()
    assert isinstance(block.scale.module, torch.nn.Identity)
    del block.scale


def deepseek():
    from transformers import DeepseekV3Config, DeepseekV3ForCausalLM

    config = DeepseekV3Config(
        **{**tiny._sizes(2), "num_key_value_heads": 4},
        moe_intermediate_size=16,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=2,
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=4,
        qk_nope_head_dim=8,
        v_head_dim=6,
        **tiny._tokens(),
    )
    torch.manual_seed(0)
    return DeepseekV3ForCausalLM(config).eval()


def test_latent_attention_has_queries_values_and_rotated_keys_and_says_why_no_keys():
    model = LanguageModel(deepseek())
    attention = model.layers[1].attn
    with model.trace(IDS):
        q, v, turned = attention.q, attention.v, attention.q_rot
        keys, scores, pattern, z = attention.k_rot, attention.scores, attention.pattern, attention.z
    assert [each.shape[2:] for each in (q, turned, keys, v, z)] == [
        (4, 12), (4, 12), (4, 12), (4, 6), (4, 6),
    ]  # fmt: skip
    assert torch.equal(q[..., :8], turned[..., :8])  # the part that is not turned
    expected = torch.einsum("bqhs,bkhs->bhqk", turned, keys) * attention.module.scaling
    seen = scores > -1e9
    assert torch.allclose(scores[seen], expected[seen], atol=1e-5)
    assert torch.allclose(torch.einsum("bhqk,bkhs->bqhs", pattern, v), z, atol=1e-5)
    with pytest.raises(NoSuchModuleError, match="no keys before the rotary embedding"):
        _ = attention.k
