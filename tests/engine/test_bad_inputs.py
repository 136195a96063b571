"""What no forward can be run on is told in words, before anything runs; and what runs on what."""

from __future__ import annotations

import traceback

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError
from tests import tiny

BAD = {
    "empty beside another": (["The cat", ""], "Prompt 2 of 2 is empty"),
    "no prompt": ([], "an empty list"),
    "ragged": ([[1, 2], [3]], "different length make no batch by themselves: 2, 1"),
    "a number": (5, "Found: int"),
    "a float": (3.5, "Found: float"),
    "bytes": (b"abc", "Found: bytes"),
    "text and number": (["a", 5], "a list of str, int"),
    "nothing in a list": ([None], "NoneType"),
    "deep": ([[[1]]], "Found"),
    "floats": ([1.5, 2], "a list of float, int"),
    "a surrogate": ("a\ud800b", "lone surrogate"),
    "a tensor of floats": (torch.ones(1, 3), "a tensor of float32"),
    "a tensor of flags": (torch.ones(1, 3, dtype=torch.bool), "a tensor of bool"),
    "an empty tensor": (torch.ones(1, 0, dtype=torch.long), "of shape"),
    "beyond the vocabulary": ([[1, 99999]], "no token 99999"),
    "negative": (torch.tensor([[-1, 2]]), "no token -1"),
    "negative in a dict": ({"input_ids": torch.tensor([[-1, 2]])}, "no token -1"),
}


@pytest.mark.parametrize("call", ["trace", "generate", "scan"])
@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_run_on_is_told_in_words(kind, call):
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    given, words = BAD[kind]
    with pytest.raises(BadInputError, match=words):
        getattr(model, call)(given)
    with model.trace("The cat"):  # and nothing is left open
        assert model.logits.shape[0] == 1


@pytest.mark.parametrize("architecture", ["gpt2", "llama"])
@pytest.mark.parametrize("mask", [[[0, 1, 1, 1]], [[1, 1, 1, 0]], [[0, 0, 1, 1]]])
def test_a_mask_of_the_users_means_what_it_means_to_the_model(architecture, mask):
    model = LanguageModel(tiny.build(architecture), tiny.tokenizer())
    given = {"input_ids": torch.tensor([[1, 5, 6, 7]]), "attention_mask": torch.tensor(mask)}
    with torch.no_grad():
        expected = model.module(**given).logits
    for trace in (lambda: model.trace(given), lambda: model.trace(**given)):
        with trace():
            assert torch.equal(model.logits.value, expected)


def test_an_invoke_without_a_prompt_runs_each_prompt_once():
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    with model.trace() as tracer:
        for prompt in ("The cat", "a", "dog"):
            with tracer.invoke(prompt):
                model.layers[0].output[:] *= 2
        for _ in range(3):
            with tracer.invoke():
                logits = model.logits
                assert logits.shape[0] == 3
        with tracer.invoke("more"):
            pass
        with tracer.invoke():
            assert model.logits.shape[0] == 4


@pytest.mark.parametrize("call", ["trace", "scan", "generate"])
def test_prompts_beside_each_other_are_told_to_be_a_list(call):
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    with pytest.raises(BadInputError, match=r"one argument; found 2: str, str") as caught:
        getattr(model, call)("The cat", "The dog")
    assert call + "([" in str(caught.value)


@pytest.mark.parametrize("call", ["trace", "scan", "generate", "tokens"])
def test_a_call_that_is_refused_ends_on_the_users_line(call):
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    with pytest.raises(BadInputError) as caught:
        getattr(model, call)([[1, 99999]])
    entries = traceback.extract_tb(caught.value.__traceback__)
    assert [entry.filename for entry in entries] == [__file__]
    whole = str(caught.value.full_traceback)
    assert __file__ in whole and "inputs.py" in whole and "no token 99999" in whole
