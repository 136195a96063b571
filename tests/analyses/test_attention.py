"""What heads attend to: patterns, scores, sinks, and the heads that are known for what they do."""

from __future__ import annotations

import html

import numpy as np
import pytest
import torch

from nnsight_magic import LanguageModel, analyses
from nnsight_magic.errors import BadInputError
from tests.architectures import models

PROMPT = "The Eiffel Tower is in the city of"
# Their own attentions are plain patterns by layer; those of one without attention are none.
KNOWN = ("gpt2", "llama", "gpt_neox", "mixtral", "gemma2", "olmo2", "opt", "qwen3_moe", "gptj")


@pytest.mark.parametrize("name", KNOWN)
def test_patterns_and_scores_are_those_of_the_model_itself(name):
    module, inputs = models.build(name)
    found = analyses.attention(LanguageModel(module), inputs)
    module.set_attn_implementation("eager")
    with torch.no_grad():
        own = torch.stack(module(**inputs, output_attentions=True).attentions)[:, 0].numpy()
    np.testing.assert_allclose(found.patterns.values, own, atol=1e-5)
    tokens = own.shape[-1]
    previous = [[np.mean([p[i, i - 1] for i in range(1, tokens)]) for p in each] for each in own]
    np.testing.assert_allclose(found.scores.sel(score="previous"), previous, atol=1e-5)
    np.testing.assert_allclose(found.scores.sel(score="first"), own[..., 1:, 0].mean(-1), atol=1e-5)


def test_a_sink_is_a_column_of_its_own():
    module, inputs = models.build("gpt_oss")
    found = analyses.attention(LanguageModel(module), inputs)
    assert found.patterns.shape[-2:] == (6, 6)
    module.set_attn_implementation("eager")
    with torch.no_grad():
        own = module(**inputs, output_attentions=True)
    missing = 1 - torch.stack(own.attentions)[:, 0, ..., :6].sum(-1).mean(-1)
    assert float(missing.min()) > 0.01
    np.testing.assert_allclose(found.sinks.values, missing.numpy(), atol=1e-5)
    assert "sink" in found.text() and "sink" in found.view().heads.scores


def test_blocks_without_attention_are_left_out_and_models_without_are_refused():
    module, inputs = models.build("jamba")
    assert analyses.attention(LanguageModel(module), inputs).scores["layer"].values.tolist() == [1]
    module, inputs = models.build("mamba")
    with pytest.raises(BadInputError, match="No block of this model attends"):
        analyses.attention(LanguageModel(module), inputs)


@pytest.fixture(scope="module")
def model():
    from tests import tiny

    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def test_induction_scores_are_means_of_the_pattern_over_the_second_copy(model):
    found = analyses.attention(model, induction=True, repeated=7, seed=3)
    ids = model.tokenizer.convert_tokens_to_ids
    assert len(found.tokens) == 15 and ids("<|endoftext|>") == 0
    assert found.tokens[1:8] == found.tokens[8:] and len({*found.tokens}) == 8
    pattern = found.patterns.values
    induction = np.mean([pattern[..., i, i - 6] for i in range(8, 15)], axis=0)
    duplicate = np.mean([pattern[..., i, i - 7] for i in range(8, 15)], axis=0)
    np.testing.assert_allclose(found.scores.sel(score="induction"), induction, atol=1e-6)
    np.testing.assert_allclose(found.scores.sel(score="duplicate"), duplicate, atol=1e-6)
    again = analyses.attention(model, induction=True, repeated=7, seed=3)
    assert again.tokens == found.tokens
    assert analyses.attention(model, induction=True, repeated=7, seed=4).tokens != found.tokens


def test_patterns_that_are_too_many_are_run_again_by_the_block(model, monkeypatch):
    from nnsight_magic.analyses import attention_patterns

    kept = analyses.attention(model, "Hello world")
    monkeypatch.setattr(attention_patterns, "KEPT", 10)
    found = analyses.attention(model, "Hello world")
    assert found.patterns is None
    np.testing.assert_allclose(found.block(1).values, kept.block(1).values, atol=1e-6)
    assert np.array_equal(found.scores.values, kept.scores.values)
    assert analyses.attention(model, "Hello world", keep=True).patterns is not None
    assert found.view().large.array.shape == found.small.shape


def test_all_heads_are_shown_with_the_one_that_scores_highest_large(model):
    found = analyses.attention(model, "Hello world, this is a test")
    view = found.view(score="first")
    layer, head, value = found.ranked("first")[0]
    assert view.at == [layer, head] and view.large.index[:2] == [layer, head]
    assert [axis["role"] for axis in view.large.axes] == ["layer", "head", "from", "to"]
    assert list(view.large.axes[3]["labels"]) == found.tokens
    view.at = [0, 1]
    assert view.large.index[:2] == [0, 1]
    view.large.index = [2, 3, 0, 0]
    assert view.at == [2, 3]
    still = html.unescape(view.still())
    assert f"<td class='m'>{layer}.{head}</td>" in still and "large below: head 2.3" in still
    assert f"{layer}.{head}" in view.text() and value == float(
        found.scores.sel(score="first").max()
    )
    with pytest.raises(Exception, match="no head"):
        view.at = [3, 0]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({}, "Give a prompt, or ask for induction"),
        ({"prompt": "Hello", "induction": True}, "one of them"),
        ({"prompt": ["Hello", "world"]}, "one prompt; found 2"),
        ({"induction": True, "repeated": 1}, "1 random tokens of a vocabulary of 3"),
        ({"induction": True, "repeated": 400}, "400 random tokens"),
    ],
)
def test_what_cannot_be_run_is_refused_in_words(model, arguments, words):
    with pytest.raises(BadInputError, match=words):
        analyses.attention(model, **arguments)
    with pytest.raises(BadInputError, match="need induction=True"):
        analyses.attention(model, "Hello").ranked("induction")


@pytest.mark.demo
def test_patterns_are_those_of_transformer_lens(demo, bridge):
    found = analyses.attention(demo, PROMPT)
    ids = demo.tokenizer(PROMPT, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        _, cache = bridge.run_with_cache(ids, names_filter=lambda name: "pattern" in name)
    for layer in range(30):
        own = cache[f"blocks.{layer}.attn.hook_pattern"][0].numpy()
        np.testing.assert_allclose(found.block(layer).values, own, atol=1e-3)


@pytest.mark.demo
def test_the_demo_model_has_induction_heads_behind_its_previous_token_heads(demo):
    """Olsson et al. 2022: heads that look behind the earlier occurrence of the present token, in
    blocks behind heads that look at the previous token, whatever the random tokens are."""
    runs = [analyses.attention(demo, induction=True, seed=seed) for seed in (0, 1)]
    for found in runs:
        (layer, head, value), (_, _, second), *_ = found.ranked("induction")
        assert (layer, head) == (18, 6) and value > 0.6 and second > 0.35
        assert float(found.scores.sel(score="induction").median()) < 0.05
        assert found.ranked("previous")[0][0] < layer
        heads = {(layer, head) for layer, head, _ in found.ranked("induction")[:4]}
        assert heads == {(18, 6), (17, 4), (17, 5), (17, 3)}
