"""Steps of a generation: numbers that can be counted with, and tokens that are those of the step.
What is right is what transformers itself generates."""

from __future__ import annotations

import copy
import json
import pickle
import re

import pytest
import torch
import transformers

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


ROWS = [
    {},
    {"do_sample": True},
    {"num_beams": 2},
    {"do_sample": True, "num_return_sequences": 2},
    {"num_beams": 3, "do_sample": True, "num_return_sequences": 2},
]


def ids_by_step(model, **options):
    """What a plain forward is given at each step: without a cache, all ids that it knows of."""
    given = []

    def keep(module, args, kwargs):
        given.append(kwargs["input_ids"].clone())

    hook = model.module.register_forward_pre_hook(keep, with_kwargs=True)
    plain(model, use_cache=False, **options)
    hook.remove()
    return given


@pytest.mark.parametrize("options", ROWS, ids=str)
@pytest.mark.parametrize("order", ORDERS, ids=str)
@pytest.mark.parametrize("read", [True, False])
def test_steps_in_any_order_have_their_own_tokens_and_leave_the_text(model, order, options, read):
    whole = plain(model, **options)
    given = ids_by_step(model, **options)
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
                assert torch.equal(step.tokens, given[index])
                if read:
                    value = model.layers[1].output[:1, -1]
                    torch.testing.assert_close(value.value, hidden[index])
    assert torch.equal(tracer.result, whole)


@pytest.mark.parametrize("options", ROWS, ids=str)
def test_the_tokens_of_a_batch_are_by_the_rows_of_its_values(model, options):
    texts = [PROMPT, "The quick brown fox jumps over"]
    encoded = model.tokenizer(texts, return_tensors="pt", padding=True)
    sizes = {"max_new_tokens": NEW, "min_new_tokens": NEW}
    given, rows = [], []

    def keep(module, args, kwargs):
        given.append(kwargs["input_ids"].clone())

    hook = model.module.register_forward_pre_hook(keep, with_kwargs=True)
    torch.manual_seed(0)
    with torch.no_grad():
        whole = model.module.generate(**encoded, use_cache=False, **sizes, **options)
    hook.remove()
    torch.manual_seed(0)
    with model.generate(texts, **sizes, **options) as tracer:
        for step in tracer.steps:
            rows.append(model.layers[0].output.shape[0])
            assert torch.equal(step.tokens, given[step])
    assert torch.equal(tracer.result, whole)
    assert rows == [len(ids) for ids in given]


def test_of_embeddings_a_step_knows_the_new_tokens(model):
    encoded = model.tokenizer(PROMPT, return_tensors="pt")
    with torch.no_grad():
        embedded = model.module.get_input_embeddings()(encoded.input_ids)
        given = {"inputs_embeds": embedded, "attention_mask": encoded.attention_mask}
        whole = model.module.generate(**given, max_new_tokens=NEW, min_new_tokens=NEW)
    with model.generate(**given, max_new_tokens=NEW, min_new_tokens=NEW) as tracer:
        seen = [step.tokens for step in tracer.steps]
    assert torch.equal(tracer.result, whole)
    assert all(torch.equal(ids, whole[:, :k]) for k, ids in enumerate(seen))
    assert len(seen) == NEW


def test_the_step_behind_the_last_leaves_no_entry_in_what_generate_gives(model):
    """Scores, logits and states are one for each new token, as plain transformers gives them."""
    options = {
        "return_dict_in_generate": True,
        "output_scores": True,
        "output_logits": True,
        "output_hidden_states": True,
    }
    whole = plain(model, **options)
    with generate(model, **options) as tracer:
        for _ in tracer.iter[NEW - 1]:
            model.layers[0].next().output  # noqa: B018
    for name in ("scores", "logits"):
        assert len(tracer.result[name]) == len(whole[name]) == NEW
        for mine, theirs in zip(tracer.result[name], whole[name], strict=True):
            torch.testing.assert_close(mine.value, theirs)
    assert len(tracer.result["hidden_states"]) == NEW
    assert torch.equal(tracer.result["sequences"], whole.sequences)


class Listener:
    """A streamer that keeps what it is told."""

    def __init__(self):
        self.told, self.ended = [], 0

    def put(self, tokens):
        self.told.append(tokens.flatten().tolist())

    def end(self):
        self.ended += 1


@pytest.mark.parametrize("options", [{}, {"do_sample": True}], ids=str)
@pytest.mark.parametrize("reads", ["none", "forwards", "backwards", "back", "behind", "whole"])
def test_a_streamer_is_told_every_token_once(model, reads, options):
    plainly, mine = Listener(), Listener()
    plain(model, streamer=plainly, **options)
    with generate(model, streamer=mine, **options) as tracer:
        if reads == "whole":
            _ = tracer.result
        for step in tracer.iter[:] if reads in ("forwards", "backwards", "whole") else ():
            model.layers[2].output.save()
            if reads == "backwards":
                model.layers[0].output.save()
            assert reads == "whole" or len(mine.told) <= step + 1
        for index in (2, 0, 1) if reads == "back" else ():
            for _ in tracer.iter[index]:
                model.layers[1].output.save()
        if reads == "behind":
            for _ in tracer.iter[NEW - 1]:
                model.layers[0].next().output.save()
    assert mine.told == plainly.told
    assert mine.ended == plainly.ended == 1


class Counting(transformers.LogitsProcessor):
    """Bans a token of its own choice at every call, and keeps what it was asked."""

    def __init__(self):
        self.asked = []

    def __call__(self, input_ids, scores):
        self.asked.append(input_ids.tolist())
        scores[:, scores.argmax(-1)] = -torch.inf
        return scores - len(self.asked)


class Watching(Counting):
    """Leaves the scores as they are."""

    def __call__(self, input_ids, scores):
        self.asked.append((input_ids.tolist(), scores.clone().tolist()))
        return scores


class Stopping(transformers.StoppingCriteria):
    """Stops when it was asked a third time."""

    def __init__(self):
        self.asked = []

    def __call__(self, input_ids, scores, **_):
        self.asked.append(input_ids.tolist())
        return torch.full((len(input_ids),), len(self.asked) == 3)


class Allowing:
    """Allows a moving window of tokens, whatever the text."""

    def __init__(self):
        self.asked = []

    def __call__(self, batch, input_ids):
        self.asked.append((batch, input_ids.tolist()))
        return [*range(len(self.asked) * 7, len(self.asked) * 7 + 20)]


def with_a_say(kinds):
    """The user's objects, as arguments of `generate`."""
    objects = {kind: kind() for kind in kinds}
    arguments = {}
    for kind, value in objects.items():
        if kind is Allowing:
            arguments["prefix_allowed_tokens_fn"] = value
        elif kind is Stopping:
            arguments["stopping_criteria"] = transformers.StoppingCriteriaList([value])
        else:
            arguments.setdefault("logits_processor", transformers.LogitsProcessorList())
            arguments["logits_processor"].append(value)
    return [*objects.values()], arguments


@pytest.mark.parametrize("options", [{}, {"do_sample": True}, {"num_beams": 2}], ids=str)
@pytest.mark.parametrize("reads", ["none", "forwards", "backwards", "back", "behind", "whole"])
@pytest.mark.parametrize(
    "kinds",
    [(Counting,), (Watching, Counting), (Stopping,), (Allowing,), (Watching, Stopping, Allowing)],
    ids=lambda kinds: "+".join(kind.__name__ for kind in kinds),
)
def test_what_has_a_say_in_a_generation_is_asked_once(model, kinds, reads, options):
    plainly, theirs = with_a_say(kinds)
    mine, arguments = with_a_say(kinds)
    whole = plain(model, **theirs, **options)
    steps = 3 if Stopping in kinds else NEW
    with generate(model, **arguments, **options) as tracer:
        if reads == "whole":
            _ = tracer.result
        for _ in tracer.iter[:] if reads in ("forwards", "backwards", "whole") else ():
            model.layers[2].output.save()
            if reads == "backwards":
                model.layers[0].output.save()
        for index in (2, 0, 1) if reads == "back" else ():
            for _ in tracer.iter[index]:
                model.layers[1].output.save()
        if reads == "behind" and "num_beams" not in options and steps == NEW:
            for _ in tracer.iter[NEW - 1]:
                model.layers[0].next().output.save()
    assert torch.equal(tracer.result.value, whole)
    assert [each.asked for each in mine] == [each.asked for each in plainly]


def test_transformers_own_processors_start_anew_in_every_run(model):
    """One that remembers, and one whose type `generate` makes too."""
    from transformers.generation.logits_process import SynthIDTextWatermarkLogitsProcessor as Marks

    def marks():
        made = Marks(
            ngram_len=3,
            keys=[3, 5, 7],
            sampling_table_size=64,
            sampling_table_seed=0,
            context_history_size=16,
            device="cpu",
        )
        warm = transformers.TemperatureLogitsWarper(0.5)
        return transformers.LogitsProcessorList([made, warm])

    options = {"do_sample": True, "temperature": 0.9}
    whole = plain(model, logits_processor=marks(), **options)
    with generate(model, logits_processor=marks(), **options) as tracer:
        for index in (2, 0, 1):
            for _ in tracer.iter[index]:
                model.layers[1].output.save()
    assert torch.equal(tracer.result.value, whole)


# ── a forward that is no new token ───────────────────────────────────────────────────────


def assistants():
    return {
        "prompt lookup": {"prompt_lookup_num_tokens": 2},
        "assistant": {"assistant_model": tiny.build("llama")},
        "early exit": {"assistant_early_exit": 1},
        "by a configuration": {
            "generation_config": transformers.GenerationConfig(prompt_lookup_num_tokens=2)
        },
        "own way": {"custom_generate": lambda model, input_ids, **_: input_ids},
        "prompt in pieces": {"prefill_chunk_size": 2},
    }


@pytest.mark.parametrize("kind", assistants())
def test_proposed_tokens_are_refused_in_a_block_and_run_without_one(model, kind):
    options = assistants()[kind]
    with pytest.raises(BadInputError, match="no step would be one new token"):  # noqa: SIM117
        with model.generate(PROMPT, max_new_tokens=NEW, **options):
            pass
    try:
        expected = plain(model, **options)
    except ValueError as error:  # transformers 4 takes no minimal length beside an assistant
        with pytest.raises(ValueError, match=re.escape(str(error)[:60])):
            generate(model, **options).sequences  # noqa: B018
        return
    assert torch.equal(generate(model, **options).sequences, expected)


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
