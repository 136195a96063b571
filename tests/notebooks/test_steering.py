"""Typical wrong answers to notebook 03, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.steering import EIFFEL, START, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


@pytest.fixture(scope="module")
def mean(demo_model, demo_tokenizer):
    """The mean of the stream behind block 8, by transformers' hidden states."""

    @torch.no_grad()
    def of(texts, first=1):
        rows = []
        for each in texts:
            ids = demo_tokenizer(each, return_tensors="pt").input_ids
            rows.append(demo_model(ids, output_hidden_states=True).hidden_states[9][0, first:])
        return torch.cat(rows).mean(0)

    return of


@pytest.fixture(scope="module")
def push(checks, mean, demo_model, demo_tokenizer):
    direction = mean([t.upper() for t in checks.texts]) - mean([t.lower() for t in checks.texts])
    with torch.no_grad():
        ids = demo_tokenizer(START, return_tensors="pt").input_ids
        states = demo_model(ids, output_hidden_states=True).hidden_states[9][0, 1:]
    return 0.4 * states.norm(dim=-1).mean() * direction / direction.norm()


def test_a_direction(checks, mean):
    upper, lower = ([f(t) for t in checks.texts[:4]] for f in (str.upper, str.lower))
    assert checks.exercise_1(mean(upper) - mean(lower))
    assert checks.exercise_1((mean(upper) - mean(lower)).tolist())
    assert "other way" in hint_for(checks, 1, mean(lower) - mean(upper))
    assert "one side" in hint_for(checks, 1, mean(upper))
    assert "cosine" in hint_for(checks, 1, torch.randn(576))
    assert "is zero" in hint_for(checks, 1, torch.zeros(576))
    assert "576 numbers" in hint_for(checks, 1, torch.randn(12, 576))


def test_random_directions(checks, push):
    drawn = torch.randn(20, 576, generator=torch.Generator().manual_seed(0))
    unit = drawn / drawn.norm(dim=-1, keepdim=True)
    assert checks.exercise_2(push.norm() * unit)
    for wrong, words in (
        (unit, "They have length 1"),
        (push.norm() * drawn / drawn.norm(), "All twenty together"),
        (drawn, "long, `push` is"),
        (push.norm() * unit[:1].expand(20, -1), "nearly the same direction"),
        (torch.cat([push[None], push.norm() * unit[1:]]), "nearly the direction itself"),
        (push.norm() * unit[:5], "shape should be"),
    ):
        assert words in hint_for(checks, 2, wrong)


def test_the_first_token_feels_no_push(checks, demo_model, demo_tokenizer):
    (paris,) = demo_tokenizer.encode(" Paris")

    @torch.no_grad()
    def probability(where):
        def add(module, given, out):
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            hidden[:, where] += checks.noise
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        hook = demo_model.model.layers[8].register_forward_hook(add)
        try:
            ids = demo_tokenizer(EIFFEL, return_tensors="pt").input_ids
            return float(demo_model(ids).logits[0, -1].softmax(-1)[paris])
        finally:
            hook.remove()

    first, others = probability(slice(0, 1)), probability(slice(1, None))
    clean = probability(slice(0, 0))
    assert checks.exercise_3((first, others))
    assert "exchanged" in hint_for(checks, 3, (others, first))
    assert "Nothing was changed" in hint_for(checks, 3, (clean, clean))
    assert "second number" in hint_for(checks, 3, (first, 0.99))
    assert "not negative" in hint_for(checks, 3, (-0.4, -1.2))


def test_the_prompt_alone_and_the_new_tokens_alone(checks, push, demo_model, demo_tokenizer):
    """By a hook on transformers' own generation."""

    def written(prompt_too, new_too):
        def add(module, given, out):
            hidden = (out[0] if isinstance(out, tuple) else out).clone()
            if hidden.shape[1] > 1 and prompt_too:
                hidden[:, 1:] += push
            elif hidden.shape[1] == 1 and new_too:
                hidden += push
            return (hidden, *out[1:]) if isinstance(out, tuple) else hidden

        hook = demo_model.model.layers[8].register_forward_hook(add)
        try:
            ids = demo_tokenizer(START, return_tensors="pt").input_ids
            made = demo_model.generate(ids, max_new_tokens=12, do_sample=False)
        finally:
            hook.remove()
        return demo_tokenizer.decode(made[0, ids.shape[1] :])

    only_prompt, only_new = written(True, False), written(False, True)
    both, none = written(True, True), written(False, False)
    assert checks.exercise_4((only_prompt, only_new))
    assert checks.exercise_4((START + only_prompt, START + only_new))
    assert "exchanged" in hint_for(checks, 4, (only_new, only_prompt))
    assert "without a push" in hint_for(checks, 4, (none, only_new))
    assert "at all steps" in hint_for(checks, 4, (only_prompt, both))
    assert "other texts" in hint_for(checks, 4, ("I slept.", "I woke."))
