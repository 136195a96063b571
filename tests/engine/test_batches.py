"""Batches, several runs in one trace, and values of one used in another."""

from __future__ import annotations

import copy

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError, TraceInsideTraceError, WrongValueError
from tests.hooks import hook_count

SHORT, LONG = "The Eiffel Tower", "The Eiffel Tower is in the city of"


@pytest.fixture(params=["gpt2", "llama", "gpt_neox"])
def hf(request, tiny):
    return tiny(request.param)


@pytest.fixture
def model(hf, tiny_tokenizer):
    model = LanguageModel(hf, tiny_tokenizer)
    yield model
    assert hook_count(hf) == 0


def single(model, prompt, i=1):
    with model.trace(prompt):
        return model.layers[i].output, model.logits


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_padded_batch_equals_its_prompts_one_by_one(model, side):
    model.tokenizer.padding_side = side
    try:
        with model.trace([SHORT, LONG]) as tracer:
            hidden = model.layers[1].output
            logits = model.logits
        mask = tracer.attention_mask.bool()
    finally:
        model.tokenizer.padding_side = "left"
    for row, prompt in enumerate([SHORT, LONG]):
        alone, alone_logits = single(model, prompt)
        torch.testing.assert_close(
            hidden.value[row][mask[row]], alone.value[0], atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(logits[row][mask[row]], alone_logits[0], atol=1e-4, rtol=1e-4)


def test_a_write_to_one_row_leaves_the_others_alone(model):
    with model.trace([LONG, LONG]):
        model.layers[0].output[1] = 0
        logits = model.logits
    _, alone = single(model, LONG)
    torch.testing.assert_close(logits[0], alone[0], atol=1e-4, rtol=1e-4)
    assert not torch.allclose(logits[1], alone[0], atol=1e-3)


def test_a_batch_of_different_lengths_generates_what_each_prompt_does(model):
    kwargs = {"max_new_tokens": 3, "do_sample": False}
    together = model.generate([SHORT, LONG], **kwargs)
    for row, prompt in enumerate([SHORT, LONG]):
        alone = model.generate(prompt, **kwargs)
        assert together[row, -3:].tolist() == alone[0, -3:].tolist()


def test_values_of_one_invoke_are_used_in_the_next(model):
    with model.trace() as tracer:
        with tracer.invoke(LONG):
            clean = model.layers[0].output
            target = model.logits
        with tracer.invoke("Tower city the of in The Eiffel is"):
            model.layers[0].output = clean
            patched = model.logits
    assert torch.equal(patched, target)
    assert tracer.report.forwards == 2


def test_an_invoke_without_a_prompt_runs_all_prompts_with_their_writes(model):
    with model.trace() as tracer:
        with tracer.invoke(SHORT):
            model.layers[0].output[:, -1] = 0
            first = model.logits
        with tracer.invoke(LONG):
            second = model.logits
        with tracer.invoke():
            both = model.logits
    torch.testing.assert_close(both[0, -1], first[0, -1], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both[1], second[0], atol=1e-4, rtol=1e-4)


def test_an_invoke_without_a_prompt_needs_one_before_it(model):
    with pytest.raises(BadInputError, match="Give it a prompt"), model.trace() as tracer:
        tracer.invoke()


def test_a_touch_outside_the_invokes_says_where_it_belongs(model):
    with pytest.raises(BadInputError, match=r"tracer\.invoke"), model.trace():
        model.layers[0].output.save()


def test_a_trace_inside_an_invoke_is_an_error(model):
    with pytest.raises(TraceInsideTraceError), model.trace() as tracer, tracer.invoke(SHORT):
        model.trace(LONG).__enter__()


def test_invokes_of_a_generation(model):
    kwargs = {"max_new_tokens": 2, "do_sample": False}
    with model.generate(**kwargs) as tracer:
        with tracer.invoke(SHORT) as first:
            states = [model.layers[1].output for _ in first.steps]
        with tracer.invoke(LONG) as second:
            model.layers[0].output.save()
    assert [state.shape[1] for state in states][1] == 1
    assert torch.equal(first.result, model.generate(SHORT, **kwargs).sequences)
    assert torch.equal(second.result, model.generate(LONG, **kwargs).sequences)


def test_cache_keeps_what_modules_give(model):
    with model.trace(LONG):
        expected = [model.layers[i].mlp.output for i in range(2)]
    with model.trace(LONG) as tracer:
        cache = tracer.cache([model.layers[0].mlp, "layers[1].mlp"])
    assert len(cache) == 2
    assert torch.equal(cache["layers[0].mlp"].output, expected[0])
    assert torch.equal(cache[model.layers[1].mlp].output, expected[1])


def test_cache_of_everything_sees_the_writes(model, hf):
    with model.trace(LONG) as tracer:
        cache = tracer.cache(include_inputs=True)
        model.layers[0].output[:] = 0
    assert cache["layers[0]"].output is not None
    assert cache["layers[1]"].input.abs().sum() == 0
    assert len(cache) > len(hf.get_submodule(model.layers.path)) * 3


def test_cache_over_a_generation_has_an_item_a_step(model):
    with model.generate(LONG, max_new_tokens=3, do_sample=False) as tracer:
        cache = tracer.cache([model.layers[1]])
    assert len(cache["layers[1]"].output) == 3


def test_iter_visits_chosen_steps(model):
    with model.generate(LONG, max_new_tokens=4, do_sample=False) as tracer:
        seen = [(step.index, model.layers[0].output.shape[1]) for step in tracer.iter[1:3]]
    assert seen == [(1, 1), (2, 1)]


def test_an_empty_prompt_is_the_token_that_begins_a_text(model, tiny_tokenizer):
    with model.trace("") as tracer:
        model.layers[0].output.save()
    assert tracer.input_ids.tolist() == [[tiny_tokenizer.bos_token_id]]


def test_an_empty_prompt_without_such_a_token_is_an_error(hf, tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    tokenizer.bos_token = None
    with pytest.raises(BadInputError, match="empty"):
        LanguageModel(hf, tokenizer).trace("")


def test_text_without_a_tokenizer_is_an_error(hf):
    with pytest.raises(BadInputError, match="tokenizer"):
        LanguageModel(hf).trace("text")


def test_skipping_a_block_passes_its_input_on(model):
    with model.trace(LONG):
        model.layers[1].skip(model.layers[1].input)
        into_next = model.layers[2].input
        before = model.layers[0].output
    assert torch.equal(into_next, before)


def test_models_that_count_positions_from_behind_padding_agree_too(tiny_tokenizer):
    from transformers import RobertaConfig, RobertaForMaskedLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "vocab_size": 320}
    config = RobertaConfig(**sizes, num_attention_heads=4, initializer_range=0.2)
    model = LanguageModel(RobertaForMaskedLM(config).eval(), tiny_tokenizer)
    with model.trace([SHORT, LONG]) as tracer:
        logits = model.logits
    assert not tracer.attention_mask[0, 0]
    alone, both = single(model, SHORT)[1][0], logits[0, tracer.attention_mask[0].bool()]
    torch.testing.assert_close(both, alone, atol=1e-4, rtol=1e-4)


def test_containers_and_patterns_that_invokes_wrote_are_written_in_the_whole_batch(
    tiny, tiny_tokenizer
):
    hf = tiny("gpt2")
    hf.set_attn_implementation("eager")
    model = LanguageModel(hf, tiny_tokenizer)
    with model.trace() as tracer:
        with tracer.invoke(SHORT):
            hidden, weights = model.layers[0].attn.output
            model.layers[0].attn.output = (hidden * 2, weights)
            first = model.logits
        with tracer.invoke(LONG):
            pattern = model.layers[1].attn.ops.softmax.output
            pattern[:] = pattern.roll(1, 1)
            second = model.logits
        with tracer.invoke() as whole:
            both = model.logits
            mask = whole.attention_mask.bool()
    for row, alone in enumerate((first, second)):
        torch.testing.assert_close(both[row][mask[row]], alone[0], atol=1e-4, rtol=1e-4)


def test_what_has_no_row_for_each_prompt_cannot_be_written_in_the_whole_batch(tiny, tiny_tokenizer):
    model = LanguageModel(tiny("mixtral"), tiny_tokenizer)
    with pytest.raises(WrongValueError, match="one row a prompt"), model.trace() as tracer:
        with tracer.invoke(SHORT):
            model.layers[0].mlp.gate.output[0][:] = 0
        with tracer.invoke(LONG):
            model.logits.save()
        with tracer.invoke():
            model.logits.save()


def test_an_invoke_that_only_writes_counts_in_the_whole_batch(model):
    with model.trace() as tracer:
        with tracer.invoke(SHORT):
            model.layers[1].mlp.output[:] = 0
        with tracer.invoke(LONG):
            pass
        with tracer.invoke() as whole:
            both = model.logits
    with model.trace(SHORT):
        model.layers[1].mlp.output[:] = 0
        alone = model.logits
    mask = whole.attention_mask.bool()
    torch.testing.assert_close(both[0][mask[0]], alone[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(both[1], single(model, LONG)[1][0], atol=1e-4, rtol=1e-4)
