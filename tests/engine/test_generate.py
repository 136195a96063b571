"""Generation: steps, writes, and the same tokens as transformers' own `generate`."""

from __future__ import annotations

import pytest
import torch
from transformers import GenerationConfig

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError, GenerationEndedError, NeverRanError
from tests.hooks import hooked, hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture(params=["gpt2", "llama", "gpt_neox", "mamba"])
def hf(request, tiny):
    return tiny(request.param)


def reference(hf, ids=IDS, **kwargs):
    kwargs = {"max_new_tokens": 4, "do_sample": False, "pad_token_id": 0, **kwargs}
    return hf.generate(ids, attention_mask=torch.ones_like(ids), **kwargs)


def test_without_with_the_sequences_are_those_of_transformers(model, hf):
    ids = model.generate(IDS, max_new_tokens=4, do_sample=False)
    assert isinstance(ids, torch.Tensor)
    assert torch.equal(ids, reference(hf))
    assert ids.shape == (1, 9)
    assert [row.tolist() for row in ids] == reference(hf).tolist()


def test_a_block_gives_the_same_sequences(model, hf):
    with model.generate(IDS, max_new_tokens=4, do_sample=False) as tracer:
        model.layers[0].output.save()
    assert torch.equal(tracer.result, reference(hf))


def test_sampling_gives_the_same_tokens_for_the_same_seed(model, hf):
    torch.manual_seed(3)
    expected = reference(hf, do_sample=True)
    torch.manual_seed(3)
    with model.generate(IDS, max_new_tokens=4, do_sample=True) as tracer:
        model.layers[1].output.save()
    assert torch.equal(tracer.result, expected)


@pytest.mark.parametrize("noise", [False, True])
def test_reads_out_of_order_leave_the_sampled_tokens_as_they_are(model, hf, noise):
    def draw():
        return torch.rand(1) + 1 if noise else 1

    torch.manual_seed(3)
    with hooked_block(model.layers[1].module, lambda out: out * draw()):
        expected = reference(hf, do_sample=True)
    drawn = torch.get_rng_state()
    torch.manual_seed(3)
    early = []
    with model.generate(IDS, max_new_tokens=4, do_sample=True) as tracer:
        for _ in tracer.steps:
            model.layers[1].output *= draw()
            model.layers[2].output.save()
            early.append(model.layers[0].output)
    assert torch.equal(tracer.result, expected)
    assert torch.equal(torch.get_rng_state(), drawn)
    seen = []
    torch.manual_seed(3)
    with (
        hooked_block(model.layers[0].module, lambda out: seen.append(out.clone())),
        hooked_block(model.layers[1].module, lambda out: out * draw()),
    ):
        reference(hf, do_sample=True)
    assert all(map(torch.equal, early, seen))


def test_beam_search_gives_the_same_tokens(tiny):
    hf = tiny("gpt2")
    model = LanguageModel(hf)
    with model.generate(IDS, max_new_tokens=4, do_sample=False, num_beams=3) as tracer:
        hidden = model.layers[1].output.save()
    assert torch.equal(tracer.result, reference(hf, num_beams=3))
    assert hidden.shape[0] in (1, 3)  # one row a beam; the prompt may be run once for all


@pytest.fixture
def bart():
    from transformers import BartConfig, BartForConditionalGeneration

    torch.manual_seed(0)
    sizes = {"encoder_layers": 2, "decoder_layers": 2, "d_model": 32, "vocab_size": 320}
    sizes |= {"encoder_attention_heads": 4, "decoder_attention_heads": 4, "init_std": 0.2}
    sizes |= {"encoder_ffn_dim": 64, "decoder_ffn_dim": 64, "max_position_embeddings": 64}
    return BartForConditionalGeneration(BartConfig(**sizes)).eval()


@pytest.mark.parametrize("length", [{"max_new_tokens": 6}, {"max_length": 6}])
def test_a_model_that_is_made_to_end_at_a_length_ends_there(bart, length):
    assert bart.generation_config.forced_eos_token_id == 2
    model = LanguageModel(bart)
    expected = bart.generate(IDS, do_sample=False, num_beams=1, **length)
    assert expected[0, -1] == 2
    with model.generate(IDS, do_sample=False, num_beams=1, **length) as tracer:
        steps = [step.index for step in tracer.steps]
    assert torch.equal(tracer.result, expected)
    assert len(steps) == expected.shape[1] - 1


@pytest.mark.parametrize("place", ["the model", "the call"])
def test_the_length_that_a_configuration_sets_is_kept_to(model, hf, place):
    expected = reference(hf, max_new_tokens=None, max_length=8)
    assert expected.shape == (1, 8)
    if place == "the call":
        given = {"generation_config": GenerationConfig(max_length=8)}
    else:
        hf.generation_config.max_length, given = 8, {}
    assert torch.equal(model.generate(IDS, do_sample=False, **given), expected)


def test_steps_visit_the_prompt_and_then_each_new_token(model):
    shapes, lengths = [], []
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        for step in tracer.steps:
            shapes.append(tuple(model.layers[-1].output.shape[:2]))
            lengths.append(step.tokens.shape[1])
    assert shapes == [(1, 5), (1, 1), (1, 1)]
    assert lengths == [5, 6, 7]


def test_a_step_sees_what_a_hook_sees(model, hf):
    seen = []
    block = hf.get_submodule(model.layers[1].path)
    with hooked_block(block, lambda out: seen.append(out[0] if isinstance(out, tuple) else out)):
        reference(hf)
    with model.generate(IDS, max_new_tokens=4, do_sample=False) as tracer:
        values = [model.layers[1].output for _ in tracer.steps]
    assert len(values) == 4
    assert all(torch.equal(a, b) for a, b in zip(values, seen, strict=False))


@pytest.mark.parametrize("cached", [True, False])
def test_steering_at_every_step_equals_a_hook(model, hf, cached):
    block = hf.get_submodule(model.layers[0].path)

    def steer(out):
        return (out[0] + 1.5, *out[1:]) if isinstance(out, tuple) else out + 1.5

    with hooked_block(block, steer):
        expected = reference(hf, use_cache=cached)
    with model.generate(IDS, max_new_tokens=4, do_sample=False, use_cache=cached) as tracer:
        widths = []
        for _ in tracer.steps:
            model.layers[0].output += 1.5
            widths.append(model.layers[0].output.shape[1])
    assert torch.equal(tracer.result, expected)
    assert widths[1:] == ([1, 1, 1] if cached else [6, 7, 8])


def test_final_logits_written_choose_the_token(model):
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        for step in tracer.steps:
            model.logits[:, -1, 40 + step.index] = 1e6
    assert tracer.result[0, 5:].tolist() == [40, 41, 42]


def test_next_moves_one_module_or_several(model):
    with model.generate(IDS, max_new_tokens=3, do_sample=False):
        first, last = model.layers[0], model.layers[-1]
        a = [first.output.shape[1]]
        b = [last.output.shape[1]]
        for _ in range(2):
            first, last = first.next(), last.next()
            a.append(first.output.shape[1])
            b.append(last.output.shape[1])
    assert a == b == [5, 1, 1]


def test_the_step_after_the_last_token_runs_once_more(model, hf):
    ran = []
    generating = model.generate(IDS, max_new_tokens=2, do_sample=False)
    with hooked(hf, ran.append), generating as tracer:
        block = model.layers[-1]
        for _ in range(2):
            block = block.next()
        beyond = block.output.save()
    assert beyond.shape[1] == 1
    assert len(ran) == 3
    assert torch.equal(tracer.result, reference(hf, max_new_tokens=2))


def test_a_step_behind_that_is_an_error(model):
    with pytest.raises(GenerationEndedError, match="max_new_tokens"):  # noqa: SIM117
        with model.generate(IDS, max_new_tokens=2, do_sample=False):
            block = model.layers[-1]
            for _ in range(5):
                block = block.next()
            block.output.save()


def test_the_end_of_the_text_ends_the_loop(tiny):
    hf = tiny("gpt2")
    model = LanguageModel(hf)
    steps = []
    with model.generate(IDS, max_new_tokens=8, do_sample=False, eos_token_id=42) as tracer:
        for step in tracer.steps:
            steps.append(step.index)
            if step.index == 2:
                model.logits[:, -1, 42] = 1e6
    assert steps == [0, 1, 2]
    assert tracer.result.shape[1] == 8


def test_an_earlier_step_is_read_by_generating_again(model):
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        steps = [model.layers[0].output for _ in tracer.steps]
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        block = model.layers[0]
        block.next().output.save()
        late = model.layers[1].output
        del late
        assert tracer.report.forwards == 1
    assert steps[0].shape[1] == 5


def test_the_result_is_known_inside_the_block(model, hf):
    with model.generate(IDS, max_new_tokens=4, do_sample=False) as tracer:
        model.layers[0].output.save()
        inside = tracer.result
    assert torch.equal(inside, reference(hf))


def test_next_in_a_trace_is_an_error(model):
    with pytest.raises(NeverRanError, match="generate"), model.trace(IDS):
        model.layers[0].next()


def test_nothing_to_generate_is_an_error(model):
    with pytest.raises(BadInputError, match="max_new_tokens"):
        model.generate(IDS, max_new_tokens=0)


def test_no_gradient_is_recorded(model):
    with model.generate(IDS, max_new_tokens=2, do_sample=False):
        hidden = model.layers[0].output
    assert not hidden.requires_grad
    assert torch.is_grad_enabled()


def test_a_prompt_in_several_forwards_is_refused(model):
    with pytest.raises(BadInputError, match="prefill_chunk_size"):  # noqa: SIM117
        with model.generate(IDS, max_new_tokens=2, prefill_chunk_size=2):
            pass
