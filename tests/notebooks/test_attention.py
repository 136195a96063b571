"""Typical wrong answers to notebook 05, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.attention import COUNT, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


@pytest.fixture(scope="module")
def patterns(checks):
    """Of transformers' eager attention: `patterns(seed)`, `(blocks, heads, tokens, tokens)`."""
    from nnsight_magic.loading.load import open_source

    eager = open_source("demo").weights()
    eager.set_attn_implementation("eager")

    @torch.no_grad()
    def of(seed):
        return torch.stack(eager(checks.repeated(seed), output_attentions=True).attentions)[:, 0]

    return of


def diagonal(pattern, back):
    return torch.stack(
        [pattern[:, :, i, i - back] for i in range(COUNT + 1, 2 * COUNT + 1)], -1
    ).mean(-1)


def five(scores):
    return [(int(k) // 9, int(k) % 9) for k in scores.flatten().topk(5).indices]


def test_the_prompt_is_the_same_tokens_twice(checks):
    ids = checks.repeated(3)
    assert ids.shape == (1, 2 * COUNT + 1)
    assert torch.equal(ids[0, 1 : COUNT + 1], ids[0, COUNT + 1 :])
    assert not torch.equal(ids, checks.repeated(4))


def test_the_induction_score(checks, patterns):
    pattern = patterns(0)
    right = diagonal(pattern, COUNT - 1)
    assert checks.exercise_1(right)
    for wrong, words in (
        (diagonal(pattern, COUNT), "duplicate-token score"),
        (diagonal(pattern, COUNT + 1), "token before the earlier one"),
        (diagonal(pattern, COUNT - 2), "One place too far"),
        (diagonal(pattern, 1), "token just before"),
        (right.T, "other way round"),
        (right[17:19], "All 30 blocks"),
    ):
        assert words in hint_for(checks, 1, wrong), words


def test_the_five_heads(checks, patterns):
    pattern = patterns(7)
    right = five(diagonal(pattern, COUNT - 1))
    assert checks.exercise_2(right)
    assert checks.exercise_2([f"{b}.{h}" for b, h in reversed(right)])
    assert "same token" in hint_for(checks, 2, five(diagonal(pattern, COUNT)))
    assert "previous-token" in hint_for(checks, 2, five(diagonal(pattern, 1)))
    assert "first token" in hint_for(checks, 2, five(pattern[..., 1:, 0].mean(-1)))
    assert "4 of them are right" in hint_for(checks, 2, [*right[:4], (0, 0)])
    assert "Five heads" in hint_for(checks, 2, right[:4])


def test_the_head_behind_them(checks):
    assert checks.exercise_3((16, 0))
    assert "induction head itself" in hint_for(checks, 3, (18, 6))
    assert "looks back, but" in hint_for(checks, 3, (11, 1))
    assert "no previous-token head" in hint_for(checks, 3, (23, 4))


def test_attention_and_effect(checks, demo):
    from pandas import Series

    from nnsight_magic import analyses
    from nnsight_magic.tutorials.attention import PAIR

    with demo.trace(PAIR[0]):
        looks = torch.stack([b.attn.pattern.value[0, :, -1, 3] for b in demo.layers]).detach()
    effect = analyses.patch(demo, *PAIR, site="heads", layers=range(14, 30)).values.flatten()
    at, moved = Series(looks[14:].flatten().numpy()), Series(effect)
    assert checks.exercise_4(at.rank().corr(moved.abs().rank()))
    assert "have their signs" in hint_for(checks, 4, at.rank().corr(moved.rank()))
    assert "Take the ranks" in hint_for(checks, 4, at.corr(moved.abs()))
    assert "between -1 and 1" in hint_for(checks, 4, 3)
