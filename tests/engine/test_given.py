"""What a model is run on, in every way in which users of transformers hand it over.

What is right is what the model itself gives when it is called so.
"""

from __future__ import annotations

import pytest
import torch
from torch import nn
from transformers import GenerationConfig

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError, NeverRanError
from tests import composed, tiny

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


# ── what stands in the model's own configuration ─────────────────────────────────────────


@pytest.mark.parametrize("padding", [None, 0, 3])
@pytest.mark.parametrize("ends", [5, [5, 300]], ids=str)
def test_padding_among_ids_and_behind_texts_is_that_of_transformers(model, padding, ends):
    config = model.module.generation_config
    config.eos_token_id, config.pad_token_id = ends, padding
    ids = torch.tensor([[0, 0, 3, 6, 7], [8, 7, 8, 9, 10]])
    with torch.no_grad():
        whole = model.module.generate(ids, max_new_tokens=8)
        first = int(whole[0, -6])
        config.eos_token_id = [first, ends] if isinstance(ends, int) else [first, *ends]
        short = model.module.generate(ids, max_new_tokens=8)
    for expected, end in ((whole, ends), (short, config.eos_token_id)):
        config.eos_token_id = end
        assert torch.equal(model.generate(ids, max_new_tokens=8).sequences, expected)
        with model.generate(ids, max_new_tokens=8) as tracer:
            pass
        assert torch.equal(tracer.result, expected)


CONFIGURED = {
    "beams": {"num_beams": 3},
    "sampling": {"do_sample": True, "temperature": 3.0},
    "both": {"num_beams": 2, "do_sample": True},
    "several": {"do_sample": True, "num_return_sequences": 2},
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("kind", CONFIGURED)
def test_what_a_model_is_configured_to_do_is_known(kind, inside):
    """Of a model inside it is that one's configuration which counts."""
    module, given = composed.talking()
    module.generation_config = GenerationConfig()
    driver = module.language_model
    if not inside:
        module, given = driver, {"input_ids": given["input_ids"]}
    driver.generation_config = GenerationConfig(pad_token_id=0, eos_token_id=0, **CONFIGURED[kind])
    model = LanguageModel(module, tiny.tokenizer())
    torch.manual_seed(1)
    with torch.no_grad():
        whole = module.generate(**given, **SIZES)
    torch.manual_seed(1)
    with model.generate(**given, **SIZES) as tracer:
        for _ in tracer.steps:
            model.logits  # noqa: B018
            # What lies behind is read by a second run, which has to come to the same tokens.
            driver_of(model, inside).model.layers[0].output.save()
    assert torch.equal(tracer.result, whole)


def driver_of(model, inside):
    return model.language_model if inside else model


@pytest.mark.parametrize("stop", ["e", "th"])
def test_a_text_stops_where_transformers_stops_it(stop):
    model = LanguageModel(tiny.build("llama"), tiny.tokenizer())
    given = encoded(model, ONE)
    options = {"max_new_tokens": 30, "stop_strings": [stop]}
    whole = plain(model, given, **options, tokenizer=model.tokenizer, min_new_tokens=None)
    assert torch.equal(model.generate(ONE[0], **options).sequences, whole)
    with model.generate(**given, **options, tokenizer=model.tokenizer) as tracer:
        pass
    assert torch.equal(tracer.result, whole)


class Looping(nn.Module):
    """A class of the user's with a loop of its own, as models written to learn from have it."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.embed = nn.Embedding(320, 16)
        self.head = nn.Linear(16, 320)

    def forward(self, idx):
        return self.head(self.embed(idx))

    def generate(self, idx, max_new_tokens=3):
        for _ in range(max_new_tokens):
            idx = torch.cat([idx, self(idx)[:, -1:].argmax(-1)], 1)
        return idx


@pytest.mark.parametrize("options", [{}, {"max_new_tokens": 4}], ids=str)
def test_a_class_with_a_loop_of_its_own_has_steps(options):
    module, ids = Looping(), torch.tensor([[5, 6]])
    model = LanguageModel(module)
    with torch.no_grad():
        whole = module.generate(ids, **options)
    assert torch.equal(model.generate(ids, **options).sequences, whole)
    seen = []
    with model.generate(ids, **options) as tracer:
        for step in tracer.steps:
            seen.append(model.head.output.shape[1])
            with pytest.raises(NeverRanError, match="not known"):
                _ = step.tokens
    assert torch.equal(tracer.result, whole)
    assert seen == [2 + k for k in range(whole.shape[1] - 2)]
