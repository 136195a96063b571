"""Tokens by their texts in the Python API, what a prompt's tokens are, and the model's sizes."""

from __future__ import annotations

import gc
import weakref

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import NoSuchModuleError, TokenTextError
from tests import tiny
from tests.architectures import models

PROMPT = "The quick brown fox"


@pytest.fixture(scope="module")
def model():
    return LanguageModel(tiny.build("gpt2"), tiny.tokenizer())


def expected_tokens(model, prompt):
    ids = model.tokenizer(prompt)["input_ids"]
    return [(at, number, model.tokenizer.decode([number])) for at, number in enumerate(ids)]


def test_the_tokens_of_a_prompt_are_those_of_its_tokenizer(model):
    tokens = model.tokens(PROMPT)
    assert [tuple(token) for token in tokens] == expected_tokens(model, PROMPT)
    assert "".join(tokens.texts) == PROMPT
    assert torch.equal(tokens.ids, model.tokenizer(PROMPT, return_tensors="pt").input_ids)
    at, number, text = tokens[2]
    assert tokens.position(text) == at == tokens[2].position
    assert repr(tokens).splitlines()[2].split(maxsplit=1)[1] == f"{text!r} {number}"


def test_of_several_prompts_there_is_a_list_without_the_padding(model):
    first, second = model.tokens(["The dog", PROMPT])
    assert [tuple(token) for token in first] == expected_tokens(model, "The dog")
    assert [tuple(token) for token in second] == expected_tokens(model, PROMPT)
    assert list(model.tokens(torch.tensor([5, 6]))) == list(model.tokens([[5, 6]]))


def test_a_text_is_a_position_in_python_as_in_a_cell(model):
    text = model.tokens(PROMPT).texts[2].strip()
    with model.trace(PROMPT):
        value = model.transformer.h[1].output
        by_text, by_number = value[:, text], value[:, 2]
        behind = value[0][0, text:]
        model.layers[2].mlp.output[:, text] = 0
        written = model.layers[2].mlp.output
        logit = model.logits[0, -1, " the"]
        share = model.logits[0, -1].softmax(-1)[" the"]
        logits = model.logits
    token = model.tokenizer.encode(" the")
    assert len(token) == 1
    assert torch.equal(by_text, by_number)
    assert torch.equal(behind, value[0, 2:])
    assert written[0].abs().sum(-1).bool().tolist() == [at != 2 for at in range(written.shape[1])]
    assert torch.equal(logit, logits[0, -1, token[0]])
    assert torch.equal(share, logits[0, -1].softmax(-1)[token[0]])
    assert torch.equal(value[:, text], by_number)  # behind the block too


def test_names_and_sweeps_take_texts_too(model):
    text = model.tokens(PROMPT).texts[2]

    def change(block):
        model.layers[block].resid_mid[:, text] = 0
        return model.layers[block].resid_mid[0].abs().sum(-1).bool().tolist()

    found = model.sweep(PROMPT, change, range(2))
    assert [row.index(False) for row in found] == [2, 2]


def test_a_text_that_is_no_token_is_told_with_the_tokens(model):
    with pytest.raises(TokenTextError, match="is no token of the prompt"), model.trace(PROMPT):
        _ = model.layers[0].output[:, "zebra"]
    bare = LanguageModel(tiny.build("gpt2"))
    with pytest.raises(TokenTextError, match="no tokenizer"), bare.trace(torch.tensor([[5, 6]])):
        _ = bare.layers[0].output[:, "The"]


def test_prompts_of_which_a_text_stands_at_different_positions_are_told_apart(model):
    prompts = [PROMPT, "One, two, three"]
    with pytest.raises(TokenTextError), model.trace(prompts):
        _ = model.layers[0].output[:, model.tokens(PROMPT).texts[2]]


def test_a_value_that_knows_its_tokens_does_not_keep_the_model():
    model = LanguageModel(tiny.build("gpt2"), tiny.tokenizer())
    with model.trace(PROMPT):
        value = model.layers[0].output
        _ = value[:, "The"]
    gone = weakref.ref(model)
    del model
    gc.collect()
    assert gone() is None
    assert value.shape[0] == 1


# By hand, from the configurations that the tests build.
SIZES = {
    "gpt2": (3, 4, 4, 32),
    "llama": (3, 4, 2, 32),
    "t5": (3, 4, 4, 32),
    "bert": (3, 4, 4, 32),
    "falcon": (2, 4, 1, 32),
    "bloom": (2, 4, 4, 32),
    "opt": (2, 4, 4, 32),
    "gemma2": (2, 4, 2, 32),
    "bart": (2, 4, 4, 32),
    "xglm": (2, 4, 4, 32),
    "zamba2": (3, 4, 4, 32),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_have_one_name_in_every_architecture(name):
    model = LanguageModel(models.build(name)[0])
    found = (model.n_layers, model.n_heads, model.n_key_value_heads, model.hidden_size)
    assert found == SIZES[name]


@pytest.mark.parametrize("name", ["mamba", "mamba2"])
def test_a_model_without_attention_has_no_heads(name):
    model = LanguageModel(models.build(name)[0])
    assert (model.n_layers, model.hidden_size) == (len(model.layers), 32)
    for size in ("n_heads", "n_key_value_heads"):
        with pytest.raises(NoSuchModuleError, match="no attention heads"):
            getattr(model, size)
