"""Typical wrong answers to notebook 04, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.lens import BROTHER, FRANCE, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


@pytest.fixture(scope="module")
def rows(demo_model, demo_tokenizer):
    """By transformers alone: the stream `(31, tokens, hidden)` of a prompt."""

    def of(prompt):
        last = []
        hook = demo_model.model.norm.register_forward_pre_hook(lambda m, given: last.append(given))
        try:
            with torch.no_grad():
                ids = demo_tokenizer(prompt, return_tensors="pt").input_ids
                states = demo_model(ids, output_hidden_states=True).hidden_states
        finally:
            hook.remove()
        return torch.cat([*states[:-1], last[0][0]])

    return of


@torch.no_grad()
def test_the_lens_by_hand(checks, rows, demo_model, demo_tokenizer):
    stream = rows(FRANCE)
    (paris,), (bare,) = (demo_tokenizer.encode(word) for word in (" Paris", "Paris"))
    logits = demo_model.lm_head(demo_model.model.norm(stream))
    right = logits[:, -1].softmax(-1)[:, paris]
    assert checks.exercise_1(right)
    for wrong, words in (
        (right[1:], "first row is missing"),
        (right[:-1], "last row is missing"),
        (logits[:, -1].log_softmax(-1)[:, paris], "log-probabilities"),
        (logits[:, -1, paris], "softmax over the vocabulary is missing"),
        (demo_model.lm_head(stream[:, -1]).softmax(-1)[:, paris], "norm is missing"),
        (logits[:, -1].softmax(-1)[:, bare], "blank belongs to it"),
        (logits[:, 0].softmax(-1)[:, paris], "first position"),
        (logits[:, -1, paris].softmax(0), "over the rows"),
        (torch.rand(31), "numbers are not"),
    ):
        assert words in hint_for(checks, 1, wrong)


@torch.no_grad()
def test_the_row_of_the_ten_likeliest(checks, rows, demo_model, demo_tokenizer):
    logits = demo_model.lm_head(demo_model.model.norm(rows(BROTHER)[:, -1]))
    (his,) = demo_tokenizer.encode(" his")
    ranks = (logits > logits[:, his, None]).sum(-1)
    row = int((ranks >= 10).nonzero()[-1]) + 1  # of 31, the first is the input's
    assert checks.exercise_2(row - 1)
    assert "place in the list" in hint_for(checks, 2, row)
    assert "not among them yet" in hint_for(checks, 2, row - 2)
    assert "earlier" in hint_for(checks, 2, 29)
    assert "later" in hint_for(checks, 2, 12)
    assert "blocks 0 to 29" in hint_for(checks, 2, 31)
    assert "whole number" in hint_for(checks, 2, 2.5)


def test_sure_and_wrong(checks):
    assert checks.exercise_3(("William Shakespeare wrote Romeo and", 26))
    assert checks.exercise_3(("When Mary and John went to the store, John gave a drink to", 28))
    assert "sure and right" in hint_for(checks, 3, ("hot -> cold, big -> small, left ->", 26))
    assert "not sure" in hint_for(checks, 3, ("The Eiffel Tower is in the city of", 27))
    assert "Blocks 24 to 28" in hint_for(checks, 3, ("William Shakespeare wrote Romeo and", 29))
    assert "Blocks 24 to 28" in hint_for(checks, 3, ("William Shakespeare wrote Romeo and", 3))
    assert "a prompt" in hint_for(checks, 3, (26, "William Shakespeare wrote Romeo and"))


@torch.no_grad()
def test_what_one_mlp_adds(checks, demo_model, demo_tokenizer):
    added = []
    hooks = [
        block.mlp.register_forward_hook(lambda m, i, out: added.append(out[0, -1]))
        for block in demo_model.model.layers
    ]
    try:
        demo_model(demo_tokenizer(FRANCE, return_tensors="pt").input_ids)
    finally:
        for hook in hooks:
            hook.remove()
    logits = demo_model.lm_head(demo_model.model.norm(torch.stack(added)))
    (paris,) = demo_tokenizer.encode(" Paris")
    ranks = (logits > logits[:, paris, None]).sum(-1)
    right, worst = int(ranks.argmin()), int(ranks.argmax())
    assert checks.exercise_4(right)
    assert "Another one" in hint_for(checks, 4, worst)
    for late in {27, 29} - {right}:
        assert "whole stream" in hint_for(checks, 4, late)
    assert "blocks 0 to 29" in hint_for(checks, 4, -1)
