"""A sweep gives what a loop of traces gives."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nnsight_magic import LanguageModel
from nnsight_magic.errors import AlreadyRanError, WrongValueError
from tests import tiny as tiny_models

IDS = torch.tensor([[1, 2, 3, 4, 5]])
SOURCE = torch.tensor([[9, 8, 7, 6, 5]])


@pytest.fixture(params=["gpt2", "llama", "mamba"])
def hf(request, tiny):
    return tiny(request.param)


def one_by_one(model, change, variants, ids=IDS):
    results = []
    for variant in variants:
        with model.trace(ids, resume=False, grad=False):
            results.append(change(*variant) if isinstance(variant, tuple) else change(variant))
    return results


def agree(got, expected, atol=1e-5):
    assert len(got) == len(expected)
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, torch.Tensor(theirs.value), atol=atol, rtol=1e-4)


def test_activation_patching_of_every_block_and_position(model):
    with model.trace(SOURCE):
        clean = [block.output for block in model.layers]

    def patch(block, position):
        model.layers[block].output[:, position] = clean[block][:, position]
        return model.logits[:, -1]

    variants = list(itertools.product(range(len(model.layers)), range(IDS.shape[1])))
    agree(model.sweep(IDS, patch, variants, progress=False), one_by_one(model, patch, variants))


@pytest.mark.parametrize("batch_size", [1, 2, 100])
def test_any_batch_size_gives_the_same(model, batch_size):
    def scale(factor):
        model.layers[1].output *= factor
        return model.logits[:, -1]

    variants = [0.0, 0.5, 2.0]
    got = model.sweep(IDS, scale, variants, batch_size=batch_size, progress=False)
    agree(got, one_by_one(model, scale, variants))


def test_variants_may_touch_different_things(model):
    def change(kind):
        if kind == "embedding":
            model.embed.output[:, 1] = 0
        elif kind == "input":
            model.layers[1].input[:, 1] = 0
        elif kind == "two":
            model.layers[0].output += 1
            model.layers[2].output[:, -1] *= 2
        return model.logits[:, -1]

    variants = ["embedding", "input", "two", "nothing"]
    agree(model.sweep(IDS, change, variants, progress=False), one_by_one(model, change, variants))


def test_a_variant_that_looks_back_goes_on_alone(model):
    def change(block):
        model.layers[block].output[:, 0] = 0
        late = model.layers[-1].output.sum()
        return late + model.layers[0].input.sum() + model.logits.sum()

    variants = range(len(model.layers))
    agree(model.sweep(IDS, change, variants, progress=False), one_by_one(model, change, variants))


def test_rows_of_a_batch_stay_together(model):
    ids = torch.cat([IDS, SOURCE])

    def swap(block):
        hidden = model.layers[block].output
        assert hidden.shape[0] == 2
        model.layers[block].output = hidden.flip(0)
        return model.logits[:, -1]

    variants = range(len(model.layers))
    got = model.sweep(ids, swap, variants, progress=False)
    agree(got, one_by_one(model, swap, variants, ids))


def test_a_variant_without_a_touch_has_its_result(model):
    assert model.sweep(IDS, lambda x: x + 1, [1, 2], progress=False) == [2, 3]


def test_it_ends_where_no_variant_wants_more(model, hf):
    ran = []
    handle = hf.get_submodule(model.layers[-1].path).register_forward_hook(lambda *a: ran.append(1))
    model.sweep(IDS, lambda i: model.layers[0].output[:, i].sum(), range(3), progress=False)
    handle.remove()
    assert ran == []


def test_an_error_in_a_variant_ends_the_sweep_and_leaves_nothing_behind(model):
    def change(block):
        if block == 1:
            model.layers[block].output = torch.zeros(3)
        return model.logits.sum()

    with pytest.raises(WrongValueError, match="Expected"):
        model.sweep(IDS, change, range(3), progress=False)
    with model.trace(IDS):
        model.logits.save()


def test_a_late_write_is_an_error(model):
    def change(block):
        model.layers[2].output.sum()
        model.layers[block].output[:] = 0

    with pytest.raises(AlreadyRanError):
        model.sweep(IDS, change, range(2), progress=False)


actions = st.lists(
    st.tuples(
        st.sampled_from(["output", "mlp", "input", "norm"]), st.integers(0, 2), st.booleans()
    ),
    max_size=4,
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(actions, min_size=1, max_size=5))
def test_random_variants_give_what_a_loop_gives(programs):
    model = LanguageModel(tiny_models.build("gpt2"))

    def change(program):
        read = []
        for part, block, write in sorted(program, key=lambda action: action[1]):
            match part:
                case "output":
                    handle, kind = model.layers[block], "output"
                case "mlp":
                    handle, kind = model.layers[block].mlp, "output"
                case "input":
                    handle, kind = model.layers[block].ln_1, "input"
                case "norm":
                    handle, kind = model.layers[block].ln_2, "output"
            read.append(getattr(handle, kind).sum())
            if write:
                try:
                    setattr(handle, kind, getattr(handle, kind) * 0.5)
                except AlreadyRanError:
                    read.append(torch.tensor(0.0))
        return torch.stack([*read, model.logits.sum()])

    got = model.sweep(IDS, change, programs, progress=False)
    agree(got, one_by_one(model, change, programs))


@pytest.fixture
def mixtral(tiny):
    return LanguageModel(tiny("mixtral"))


@pytest.mark.parametrize("pack", [True, False])
@pytest.mark.parametrize("variants", [[0, 1, 2, 3, 4], [3, 4]])
def test_a_value_without_rows_of_the_prompts_is_read_as_in_a_loop(mixtral, pack, variants):
    """A router sees the tokens of all rows in one."""

    def change(position):
        mixtral.layers[0].output[:, position] *= -3
        found = mixtral.layers[1].mlp.gate.output
        # Before transformers 5 a gate gives its scores alone.
        return (found[0], found[2]) if isinstance(found, tuple) else (found,)

    got = mixtral.sweep(IDS, change, variants, pack=pack, progress=False)
    for mine, theirs in zip(got, one_by_one(mixtral, change, variants), strict=True):
        agree(mine, theirs)


@pytest.mark.parametrize("pack", [True, False])
def test_a_value_without_rows_of_the_prompts_is_written_as_in_a_loop(mixtral, pack):
    def change(position):
        mixtral.layers[0].output[:, position] *= -3
        mixtral.layers[1].mlp.gate.output[1][:] = 1
        return mixtral.logits

    variants = [2, 3, 4]
    got = mixtral.sweep(IDS, change, variants, pack=pack, progress=False)
    agree(got, one_by_one(mixtral, change, variants))


def test_heads_that_share_a_dimension_with_the_rows_are_read_as_in_a_loop():
    from transformers import BloomConfig, BloomForCausalLM

    torch.manual_seed(0)
    config = BloomConfig(vocab_size=320, hidden_size=32, n_layer=3, n_head=4, initializer_range=0.2)
    model = LanguageModel(BloomForCausalLM(config).eval())

    def change(position):
        model.layers[0].output[:, position] *= -3
        return model.layers[1].attn.ops.baddbmm.output  # (rows * heads, tokens, tokens)

    agree(model.sweep(IDS, change, [1, 2, 3], progress=False), one_by_one(model, change, [1, 2, 3]))
