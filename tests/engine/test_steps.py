"""Steps of a generation: numbers that can be counted with, tokens that are those of the step, and
modules inside that generate for a model. What is right is what transformers itself generates."""

from __future__ import annotations

import copy
import json
import pickle

import pytest
import torch
import transformers
from torch import nn

from nnsight_magic import LanguageModel
from nnsight_magic.errors import BadInputError
from tests import tiny

PROMPT = "The cat sat on"
NEW = 4


@pytest.fixture
def model():
    return LanguageModel(tiny.build("llama"), tiny.tokenizer())


def plain(model, new=NEW, **options):
    """The sequences as transformers gives them."""
    encoded = model.tokenizer(PROMPT, return_tensors="pt")
    torch.manual_seed(0)
    with torch.no_grad():
        return model.module.generate(**encoded, max_new_tokens=new, min_new_tokens=new, **options)


def generate(model, new=NEW, **options):
    torch.manual_seed(0)
    return model.generate(PROMPT, max_new_tokens=new, min_new_tokens=new, **options)


# ── a step is a number ───────────────────────────────────────────────────────────────────


def test_a_step_is_the_number_that_it_is(model):
    with generate(model) as tracer:
        steps = []
        found = {0: "a", 1: "b", 2: "c", 3: "d"}
        row = torch.arange(10)
        for step in tracer.iter[:]:
            steps.append(step)
            assert isinstance(step, int)
            assert found[step] == "abcd"[len(steps) - 1]
            assert row[step] == len(steps) - 1
            assert (step == 2) == (len(steps) == 3)
    assert steps == [0, 1, 2, 3]
    assert [step for step in steps if step in (1, 2)] == [1, 2]
    assert [step for step in steps if step > 1 and step % 2] == [3]
    assert f"{steps[2]} {steps[2]:03d} {steps[2]!s} {steps[2]!r}" == "2 002 2 2"
    assert json.dumps(steps) == "[0, 1, 2, 3]"
    assert {steps[1]: "one"}[1] == "one"
    for other in (copy.deepcopy(steps[2]), pickle.loads(pickle.dumps(steps[2]))):
        assert other == 2
        assert torch.equal(other.tokens, steps[2].tokens)
    assert type(steps[1] + 1) is int
    assert type(steps[1].index) is int


# ── going back and forth ─────────────────────────────────────────────────────────────────


ORDERS = [[1, 0], [0, 1], [3, 0], [2, 1, 0], [3, 1, 2], [0, 3, 1], [1, 1], [3, 3, 0, 3]]


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}], ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("read", [True, False])
def test_steps_in_any_order_have_their_own_tokens_and_leave_the_text(model, order, options, read):
    whole = plain(model, **options)
    prompt = model.tokenizer(PROMPT, return_tensors="pt").input_ids
    hidden = []

    def keep(module, args, output):
        hidden.append((output[0] if isinstance(output, tuple) else output)[:1, -1].clone())

    hook = model.module.model.layers[1].register_forward_hook(keep)
    plain(model, **options)
    hook.remove()
    with generate(model, **options) as tracer:
        for index in order:
            for step in tracer.iter[index]:
                assert step == index
                assert step.tokens.shape[1] == prompt.shape[1] + index
                if options.get("num_beams") is None:
                    assert torch.equal(step.tokens, whole[:, : step.tokens.shape[1]])
                if read:
                    value = model.layers[1].output[:1, -1]
                    torch.testing.assert_close(value.value, hidden[index])
    assert torch.equal(tracer.result, whole)


# ── a module inside that generates ───────────────────────────────────────────────────────


def peft_model():
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    return get_peft_model(tiny.build("llama"), config).eval()


def compiled():
    return torch.compile(tiny.build("llama"))


class Talking(nn.Module):
    """As BLIP-2 and Kosmos-2 do it: a model of their own class, which has another one generate."""

    main_input_name = "input_ids"

    def __init__(self):
        super().__init__()
        self.looks = nn.Linear(2, 2)
        self.language_model = tiny.build("llama")
        self.config = self.language_model.config
        self.generation_config = self.language_model.generation_config

    def forward(self, input_ids, **kwargs):
        return self.language_model(input_ids, **kwargs)

    def generate(self, input_ids, **kwargs):
        self.looks(torch.ones(1, 2))
        return self.language_model.generate(input_ids, **kwargs)


def blip2():
    config = transformers.Blip2Config(
        vision_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 8,
            "patch_size": 4,
        },
        qformer_config={
            "hidden_size": 16,
            "intermediate_size": 16,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "encoder_hidden_size": 16,
            "vocab_size": 30,
        },
        text_config={
            "model_type": "opt",
            "hidden_size": 16,
            "ffn_dim": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "vocab_size": 320,
            "word_embed_proj_dim": 16,
            "max_position_embeddings": 64,
        },
        num_query_tokens=2,
        image_token_index=319,
    )
    torch.manual_seed(0)
    return transformers.Blip2ForConditionalGeneration(config).eval()


INSIDE = {
    "peft": (peft_model, "base_model.model.model.layers.1"),
    "compile": (compiled, "_orig_mod.model.layers.1"),
    "talking": (Talking, "language_model.model.layers.1"),
    "blip2": (blip2, "language_model.model.decoder.layers.1"),
}


@pytest.mark.parametrize("kind", INSIDE)
def test_the_steps_of_a_model_inside_are_seen(kind):
    make, block = INSIDE[kind]
    module = make()
    model = LanguageModel(module, tiny.tokenizer())
    given = {"input_ids": torch.tensor([[5, 6, 7, 8]])}
    if kind == "blip2":
        given = {
            "pixel_values": torch.ones(1, 3, 8, 8),
            "input_ids": torch.tensor([[319, 319, 5, 6, 7]]),
            "attention_mask": torch.ones(1, 5, dtype=torch.long),
        }
    options = {"max_new_tokens": NEW, "min_new_tokens": NEW, "do_sample": False}
    logits = []

    def keep(module, args, output):
        logits.append(output.logits[:, -1].clone())

    driver = module.get_submodule(block.partition(".model.layers")[0].partition(".model.dec")[0])
    hook = driver.register_forward_hook(keep)
    with torch.no_grad():
        whole = module.generate(**given, **options)
    hook.remove()
    with model.generate(**given, **options) as tracer:
        seen = [model.logits[:, -1].value for _ in tracer.steps]
    assert torch.equal(tracer.result, whole)
    assert len(seen) == len(logits) == NEW
    for value, expected in zip(seen, logits, strict=True):
        torch.testing.assert_close(value, expected)

    def double(module, args, output):
        return (2 * output[0], *output[1:]) if isinstance(output, tuple) else 2 * output

    hook = module.get_submodule(block).register_forward_hook(double)
    with torch.no_grad():
        changed = module.generate(**given, **options)
    hook.remove()
    with model.edit("double"):
        model[block].output *= 2
    assert torch.equal(model.generate(**given, **options).sequences, changed)
    with model.generate(**given, **options) as tracer:
        pass
    assert torch.equal(tracer.result, changed)
    model.edits.clear()
    assert not any(each._forward_hooks or each._forward_pre_hooks for each in module.modules())


class Elsewhere(Talking):
    """Whose text comes from something that is no module of its own."""

    def generate(self, input_ids, **kwargs):
        return torch.cat([input_ids, input_ids[:, :1]], 1)


def test_a_generation_without_steps_says_so():
    model = LanguageModel(Elsewhere(), tiny.tokenizer())
    with pytest.raises(BadInputError, match="No step of this generation was seen"):  # noqa: SIM117
        with model.generate(PROMPT, max_new_tokens=2) as tracer:
            for _ in tracer.steps:
                pass


# ── a forward that is no new token ───────────────────────────────────────────────────────


def assistants():
    return {
        "prompt lookup": {"prompt_lookup_num_tokens": 2},
        "assistant": {"assistant_model": tiny.build("llama")},
        "early exit": {"assistant_early_exit": 1},
    }


@pytest.mark.parametrize("kind", ["prompt lookup", "assistant"])
def test_proposed_tokens_are_refused_in_a_block_and_run_without_one(model, kind):
    options = assistants()[kind]
    with pytest.raises(BadInputError, match="no step would be one new token"):  # noqa: SIM117
        with model.generate(PROMPT, max_new_tokens=NEW, **options):
            pass
    assert torch.equal(generate(model, **options).sequences, plain(model, **options))


def test_whatever_runs_the_model_more_than_once_a_token_is_refused(model):
    """Classifier-free guidance runs it a second time; here a processor of the user's does."""

    class Twice(transformers.LogitsProcessor):
        def __call__(self, input_ids, scores):
            return scores + 0 * model.module(input_ids).logits[:, -1]

    processors = transformers.LogitsProcessorList([Twice()])
    with pytest.raises(BadInputError, match="no forward for each new token"):  # noqa: SIM117
        with model.generate(PROMPT, max_new_tokens=NEW, logits_processor=processors) as tracer:
            for _ in tracer.steps:
                pass


# ── what transformers' users write ───────────────────────────────────────────────────────


@pytest.mark.parametrize("architecture", ["llama", "gpt2", "t5"])
def test_what_a_tokenizer_gives_is_taken_as_transformers_takes_it(architecture):
    module, tokenizer = tiny.build(architecture), tiny.tokenizer()
    model = LanguageModel(module, tokenizer)
    encoded = tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        whole = module.generate(**encoded, max_new_tokens=NEW)
        embedded = module.get_input_embeddings()(encoded.input_ids)
        given = {"inputs_embeds": embedded, "attention_mask": encoded.attention_mask}
        by_embedding = module.generate(**given, max_new_tokens=NEW)
    ways = [
        lambda: model.generate(**encoded, max_new_tokens=NEW),
        lambda: model.generate(encoded, max_new_tokens=NEW),
        lambda: model.generate(encoded.input_ids, max_new_tokens=NEW),
        lambda: model.generate(input_ids=encoded.input_ids, max_new_tokens=NEW),
        lambda: model.generate(inputs=encoded.input_ids, max_new_tokens=NEW),
        lambda: model.generate(PROMPT, max_new_tokens=NEW),
    ]
    for way in ways:
        assert torch.equal(way().sequences, whole)
        with way() as tracer:
            pass
        assert torch.equal(tracer.result, whole)
    assert torch.equal(model.generate(**given, max_new_tokens=NEW).sequences, by_embedding)
    start = {}
    if architecture == "t5":
        start["decoder_input_ids"] = torch.tensor([[module.config.decoder_start_token_id]])
    with torch.no_grad():
        expected = module(**encoded, **start).logits
    for trace in (lambda: model.trace(**encoded), lambda: model.trace(encoded)):
        with trace():
            logits = model.logits
        torch.testing.assert_close(logits.value, expected)
