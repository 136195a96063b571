"""What a model is run on, in every way in which users of transformers hand it over.

What is right is what the model itself gives when it is called so.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError
from tests import tiny

ONE = ["The cat sat on"]
TWO = ["The cat sat on", "The quick brown fox jumps over"]
OTHER = "When Mary and John went"
NEW = 4
SIZES = {"max_new_tokens": NEW, "min_new_tokens": NEW}

# Each: positional arguments and keyword arguments, from what the tokenizer gave.
WAYS = {
    "keywords": lambda e: ((), dict(e)),
    "whole": lambda e: ((e,), {}),
    "dict": lambda e: ((dict(e),), {}),
    "ids and mask": lambda e: ((e["input_ids"],), {"attention_mask": e["attention_mask"]}),
    "main input": lambda e: (
        (),
        {"inputs": e["input_ids"], "attention_mask": e["attention_mask"]},
    ),
    "lists": lambda e: ((), {name: value.tolist() for name, value in e.items()}),
    "arrays": lambda e: ((), {name: value.numpy() for name, value in e.items()}),
}


@pytest.fixture(params=["llama", "gpt2", "mamba", "t5"])
def model(request):
    return LanguageModel(tiny.build(request.param), tiny.tokenizer())


def encoded(model, texts):
    return model.tokenizer(texts, return_tensors="pt", padding=True)


def plain(model, given, **options):
    with torch.no_grad():
        return model.module.generate(**given, **{**SIZES, **options})


def forward(model, given):
    start = {}
    if model.module.config.is_encoder_decoder:
        rows = len(given["input_ids"])
        start["decoder_input_ids"] = torch.full(
            (rows, 1), model.module.config.decoder_start_token_id
        )
    with torch.no_grad():
        return model.module(**given, **start).logits


@pytest.mark.parametrize("texts", [ONE, TWO], ids=["one", "padded"])
@pytest.mark.parametrize("way", WAYS)
def test_text_is_generated_from_it(model, way, texts):
    given = encoded(model, texts)
    whole = plain(model, given)
    args, kwargs = WAYS[way](given)
    assert torch.equal(model.generate(*args, **kwargs, **SIZES).sequences, whole)
    with model.generate(*args, **kwargs, **SIZES) as tracer:
        tokens = [step.tokens for step in tracer.steps]
    assert torch.equal(tracer.result, whole)
    assert all(
        torch.equal(ids, whole[:, : whole.shape[1] - NEW + k]) for k, ids in enumerate(tokens)
    )
    assert len(tokens) == NEW


@pytest.mark.parametrize("texts", [ONE, TWO], ids=["one", "padded"])
@pytest.mark.parametrize("way", WAYS)
def test_it_is_traced_and_invoked(model, way, texts):
    given = encoded(model, texts)
    args, kwargs = WAYS[way](given)
    whole = plain(model, given)
    with model.trace(*args, **kwargs):
        single = model.logits
    with model.trace() as tracer:
        with tracer.invoke(*args, **kwargs):
            first = model.logits
        with tracer.invoke(OTHER):
            second = model.logits
    torch.testing.assert_close(first.value, single.value)
    if len(texts) == 1:  # what a padded forward is given beside is looked at elsewhere
        torch.testing.assert_close(single.value, forward(model, given))
    torch.testing.assert_close(second.value, forward(model, encoded(model, OTHER)))
    with model.generate(**SIZES) as tracer:
        with tracer.invoke(*args, **kwargs) as one:
            seen = [step == 2 for step in one.steps]
        with tracer.invoke(OTHER) as two:
            pass
    assert seen == [False, False, True, False]
    assert torch.equal(one.result, whole)
    assert torch.equal(two.result, plain(model, encoded(model, OTHER)))


@pytest.mark.parametrize("outer", WAYS)
@pytest.mark.parametrize("inner", [*WAYS, "text"])
def test_an_invoke_runs_on_its_own_whatever_the_trace_was_given(outer, inner):
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    given = encoded(model, OTHER)
    args, kwargs = WAYS[inner](given) if inner != "text" else ((OTHER,), {})
    around, options = WAYS[outer](encoded(model, ONE))
    with (
        model.trace(*around, **options) as tracer,
        tracer.invoke(*args, **kwargs),
    ):
        logits = model.logits
    torch.testing.assert_close(logits.value, forward(model, given))
    with (
        model.generate(*around, **options, **SIZES) as tracer,
        tracer.invoke(*args, **kwargs) as mine,
    ):
        pass
    assert torch.equal(mine.result, plain(model, given))


def test_two_prompts_for_one_run_are_refused():
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    given = encoded(model, ONE)
    for call in (model.trace, model.generate, model.scan):
        with pytest.raises(BadInputError, match="given twice"):
            call(OTHER, input_ids=given["input_ids"])


def test_rows_of_several_lengths_are_refused_in_words():
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    given = model.tokenizer(TWO)
    for call in (model.trace, model.generate, model.scan):
        with pytest.raises(BadInputError, match="Pad them"):
            call(**given)


def test_a_generation_of_nothing_says_so_every_time():
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    nothing = model.generate(max_new_tokens=2)
    for _ in range(2):
        with pytest.raises(BadInputError, match="nothing to generate from"):
            _ = nothing.sequences


@pytest.mark.parametrize("error", [AttributeError, ValueError, KeyboardInterrupt])
def test_a_generation_that_failed_never_stands_for_anything_else(error):
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())

    class Failing(nn.Module):
        def forward(self, *args, **kwargs):
            raise error("of the model's own")

    model.module.model.layers[1] = Failing()
    text = model.generate(ONE[0], max_new_tokens=2)
    with pytest.raises(error):
        _ = text.sequences
    again = BadInputError if error is KeyboardInterrupt else error
    for use in (lambda: text.sequences, lambda: text[0], lambda: len(text), lambda: text.shape):
        with pytest.raises(again):
            use()
