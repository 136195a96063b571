"""Sweeps in causal decoders run no token that stays as it is, and give the same numbers."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.resident import STATUS, growth
from nnsight_magic import LanguageModel
from nnsight_magic.engine.sweeping import size
from nnsight_magic.errors import AlreadyRanError
from tests import tiny as tiny_models
from tests.engine.test_sweep import agree, one_by_one

IDS = torch.arange(1, 13)[None]
BLOCKS = range(tiny_models.LAYERS)
POSITIONS = range(IDS.shape[1])


class Products(TorchDispatchMode):
    """Counts what matrix products give, in numbers."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func.overloadpacket in (torch.ops.aten.mm, torch.ops.aten.addmm):
            self.count += result.numel()
        return result


def work(model, change, variants, **kwargs) -> int:
    with Products() as products:
        model.sweep(IDS, change, variants, progress=False, **kwargs)
    return products.count


def compare(model, change, variants, ids=IDS, **near) -> None:
    """The sweep gives what traces give one by one."""
    got = model.sweep(ids, change, variants, progress=False)
    agree(got, one_by_one(model, change, variants, ids), **near)


def patching(model):
    """Write at one position of a block; read the last logits."""

    def patch(block, position):
        model.layers[block].output[:, position] *= -1.5
        return model.logits[:, -1]

    return patch, list(itertools.product(BLOCKS, POSITIONS))


def packs(model, change, variants) -> bool:
    """Whether the second sweep (the first one tries) does less for the same."""
    model.sweep(IDS, change, variants, progress=False)
    return work(model, change, variants) < 0.8 * work(model, change, variants, pack=False)


@pytest.mark.parametrize("name", ["gpt2", "llama", "gpt_neox", "mixtral"])
@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_a_patch_of_one_position_leaves_out_the_tokens_before(tiny, name, attention):
    hf = tiny(name)
    hf.set_attn_implementation(attention)
    model = LanguageModel(hf)
    patch, variants = patching(model)
    compare(model, patch, variants)
    assert packs(model, patch, variants)


@pytest.mark.parametrize("kept", [1, 3, 20])
def test_the_last_logits_alone(tiny, kept):
    model = LanguageModel(tiny("llama"))
    _, variants = patching(model)

    def patch(block, position):
        model.layers[block].output[:, position] *= -1.5
        return model.logits

    got = model.sweep(IDS, patch, variants, progress=False, logits_to_keep=kept)
    expected = [full[:, -kept:] for full in one_by_one(model, patch, variants, IDS)]
    agree(got, expected)


@pytest.mark.parametrize("site", ["input", "attn", "mlp", "q_proj", "norm"])
def test_whatever_is_written_inside_a_block(tiny, site):
    model = LanguageModel(tiny("llama"))

    def patch(block, position):
        layer = model.layers[block]
        match site:
            case "input":
                layer.input[:, position] = 1.0
            case "attn":
                layer.attn.output[0][:, position] = 1.0
            case "mlp":
                layer.mlp.output[:, position] = 1.0
            case "q_proj":
                layer.attn.q_proj.output[:, position] = 1.0
            case "norm":
                layer.input_layernorm.output[:, position] = 1.0
        return model.logits[:, -1]

    variants = list(itertools.product(BLOCKS, POSITIONS))
    compare(model, patch, variants)
    assert packs(model, patch, variants)


def test_what_is_read_behind_the_write_has_all_tokens(tiny):
    model = LanguageModel(tiny("llama"))

    def patch(block, position):
        model.layers[block].output[:, position] = 0
        read = [model.layers[later].output for later in range(block + 1, len(BLOCKS))]
        read += [model.norm.input, model.norm.output, model.logits]
        assert all(value.shape[:2] == IDS.shape for value in read)
        return torch.cat([value.flatten() for value in read])

    variants = list(itertools.product(BLOCKS, POSITIONS))
    compare(model, patch, variants)


def test_a_second_write_may_come_behind_the_first_or_before_it(tiny):
    model = LanguageModel(tiny("llama"))

    def patch(first, second):
        model.layers[0].output[:, first] = 0
        model.layers[2].output[:, second] *= 2
        return model.logits.flatten()

    variants = list(itertools.product(POSITIONS, POSITIONS))
    compare(model, patch, variants)


@pytest.mark.parametrize("name", ["pattern", "weights"])
def test_attention_patterns_can_be_read_and_written_behind_a_write(tiny, name):
    hf = tiny("llama")
    hf.set_attn_implementation("eager")
    model = LanguageModel(hf)

    def patch(position):
        model.layers[0].output[:, position] = 0
        attn = model.layers[1].attn
        if name == "weights":
            return attn.output[1].flatten()
        attn.ops.softmax[0].output[:, 1] = 0
        return model.logits.flatten()

    compare(model, patch, POSITIONS)


def test_rows_of_a_batch_without_padding(tiny):
    model = LanguageModel(tiny("gpt2"))
    ids = torch.cat([IDS, IDS.flip(1)])
    patch, variants = patching(model)
    compare(model, patch, variants, ids)


def test_padded_prompts_run_whole(tiny):
    model = LanguageModel(tiny("llama"))
    inputs = {"input_ids": IDS.repeat(2, 1), "attention_mask": torch.ones(2, 12, dtype=torch.long)}
    inputs["attention_mask"][0, :4] = 0
    patch, variants = patching(model)
    got = model.sweep(inputs, patch, variants, progress=False)
    agree(got, one_by_one(model, patch, variants, inputs))


class Averaging(nn.Module):
    """An MLP that looks at all tokens, later ones too."""

    def __init__(self, mlp: nn.Module):
        super().__init__()
        self.mlp = mlp

    def forward(self, x):
        return self.mlp(x) + x.mean(1, keepdim=True)


def test_a_model_that_looks_ahead_is_found_out(tiny):
    hf = tiny("llama")
    hf.model.layers[1].mlp = Averaging(hf.model.layers[1].mlp)
    model = LanguageModel(hf)
    patch, variants = patching(model)
    compare(model, patch, variants)
    assert not packs(model, patch, variants)


@pytest.mark.parametrize("window", [4, 64])
def test_a_window_of_attention_that_the_prompt_outgrows_is_found_out(window):
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    sizes = {**tiny_models._sizes(3), **tiny_models._tokens()}
    hf = MistralForCausalLM(MistralConfig(**sizes, num_key_value_heads=2, sliding_window=window))
    model = LanguageModel(hf.eval())
    patch, variants = patching(model)
    compare(model, patch, variants)
    assert packs(model, patch, variants) == (window > IDS.shape[1])


def test_hooks_of_others_see_whole_rows(tiny):
    hf = tiny("llama")
    model = LanguageModel(hf)
    shapes = set()
    hook = hf.model.layers[1].register_forward_hook(lambda m, a, out: shapes.add(out.shape[1]))
    patch, variants = patching(model)
    model.sweep(IDS, patch, variants, progress=False)
    hook.remove()
    assert shapes == {IDS.shape[1]}


def test_half_precision(tiny):
    model = LanguageModel(tiny("llama").to(torch.bfloat16))
    patch, variants = patching(model)
    got = model.sweep(IDS, patch, variants, progress=False)
    for mine, theirs in zip(got, one_by_one(model, patch, variants, IDS), strict=True):
        torch.testing.assert_close(mine, theirs.value, atol=0.1, rtol=0.05)
    assert packs(model, patch, variants)


def test_a_write_behind_a_later_read_is_an_error(tiny):
    model = LanguageModel(tiny("llama"))

    def change(position):
        model.layers[1].mlp.output[:, position] = 0
        model.layers[1].attn.output[0][:] = 0

    with pytest.raises(AlreadyRanError):
        model.sweep(IDS, change, POSITIONS, progress=False)


def test_edits_are_carried_out_for_every_variant_alone(tiny):
    model = LanguageModel(tiny("gpt2"))
    with model.edit("steer"):
        model.layers[0].output[0, -1] += 1.0  # of the one row that every variant has
        model.layers[1].mlp.output[:, 2] *= 3.0
        model.layers[2].input[:, 1] = 0.5
    patch, variants = patching(model)
    with_edits = one_by_one(model, patch, variants, IDS)
    agree(model.sweep(IDS, patch, variants, progress=False), with_edits)
    model.edits["steer"].enabled = False
    without = model.sweep(IDS, patch, variants, progress=False)
    assert not torch.allclose(without[0], with_edits[0].value)


actions = st.lists(
    st.tuples(
        st.sampled_from(["output", "mlp", "input", "attn"]),
        st.integers(0, 2),
        st.sampled_from(["read", "scale", "replace"]),
        st.integers(0, 5),
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(actions, min_size=2, max_size=6), st.sampled_from(["llama", "gpt2"]))
def test_random_variants_give_what_a_loop_gives(programs, name):
    model = LanguageModel(tiny_models.build(name))
    ids = IDS[:, :6]

    def change(program):
        read = []
        for part, block, what, position in sorted(program, key=lambda action: action[1]):
            layer = model.layers[block]
            try:
                match part:
                    case "output":
                        value = layer.output
                    case "mlp":
                        value = layer.mlp.output
                    case "input":
                        value = layer.input
                    case "attn":
                        value = layer.attn.output[0]
                read.append(value.sum())
                if what == "scale":
                    value[:, position] *= 0.5
                elif what == "replace":
                    value[:, position:] = value[:, position:].roll(1, -1)
            except AlreadyRanError:
                read.append(torch.tensor(0.0))
        return torch.stack([*read, model.logits.sum()])

    compare(model, change, programs, ids, atol=2e-4)  # sums of 1,920 numbers that nearly cancel


# ── how many share a forward ─────────────────────────────────────────────────────────────


@pytest.fixture
def many_heads():
    """A model whose patterns stand in memory and are larger than all else."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=128, num_attention_heads=64, num_key_value_heads=64, intermediate_size=64,
        num_hidden_layers=2, vocab_size=64, attn_implementation="eager",
    )  # fmt: skip
    torch.manual_seed(0)
    return LanguageModel(LlamaForCausalLM(config).eval())


@pytest.mark.skipif(not STATUS.exists(), reason="Linux tells how much a process takes at most")
@pytest.mark.parametrize("pack", [True, False])
def test_the_patterns_of_a_batch_stay_below_the_bound(many_heads, monkeypatch, pack):
    """Sixteen packed variants of 64 tokens would have patterns of 0.5 GB."""
    model, ids = many_heads, torch.arange(64)[None] % 60
    monkeypatch.setattr(size, "BYTES_PER_BATCH", 48 * 2**20)

    def patch(position):
        model.layers[0].output[:, position] *= -1.5
        return model.logits[0, -1, :3]

    def run():
        return model.sweep(ids, patch, range(1, 33), pack=pack, progress=False)

    got = run()  # and whatever a first run allocates
    assert growth(run) < 2 * 48 * 1.05 + 20  # MB: scores and mask, beside the pattern
    for k, position in ((0, 1), (31, 32)):
        with model.trace(ids, grad=False):
            expected = torch.Tensor(patch(position).save().value)
        torch.testing.assert_close(got[k], expected, atol=2e-4, rtol=0)


def test_a_sweep_packs_where_it_may_and_gives_the_same_without(many_heads):
    model = many_heads
    change, variants = patching(model)
    variants = [each for each in variants if each[0] < 2]
    packed = model.sweep(IDS, change, variants, progress=False)
    plain = model.sweep(IDS, change, variants, pack=False, progress=False)
    for one, other in zip(packed, plain, strict=True):
        torch.testing.assert_close(one, other, atol=2e-4, rtol=0)
    assert work(model, change, variants) < 0.8 * work(model, change, variants, pack=False)
