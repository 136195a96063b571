"""Typical wrong answers to notebook 06, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.patching import FOUR, GREECE, ITALY, NAMES, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


@pytest.fixture(scope="module")
def by_hooks(demo_model, demo_tokenizer):
    """`by_hooks(heads, pair)`: what the heads bring back, by hand-written hooks alone."""

    def run(prompt, hooks=()):
        handles = [module.register_forward_pre_hook(hook) for module, hook in hooks]
        try:
            with torch.no_grad():
                ids = demo_tokenizer(prompt, return_tensors="pt").input_ids
                return demo_model(ids).logits[0, -1]
        finally:
            for handle in handles:
                handle.remove()

    def difference(logits, answer, versus):
        ids = [demo_tokenizer.encode(word)[0] for word in (answer, versus)]
        return float(logits[ids[0]] - logits[ids[1]])

    def restored(heads, pair):
        clean, corrupt, answer, versus = pair
        kept = {}
        projections = {b: demo_model.model.layers[b].self_attn.o_proj for b, _ in heads}

        def keep(block):
            return lambda module, given: kept.update({block: given[0].clone()})

        def put(block):
            def hook(module, given):
                changed = given[0].clone()
                for b, h in heads:
                    if b == block:
                        at = slice(64 * h, 64 * h + 64)
                        changed[..., at] = kept[block][..., at]
                return (changed,)

            return hook

        high = difference(run(clean, [(m, keep(b)) for b, m in projections.items()]), *pair[2:])
        low = difference(run(corrupt), answer, versus)
        now = difference(run(corrupt, [(m, put(b)) for b, m in projections.items()]), *pair[2:])
        return (now - low) / (high - low)

    return restored


def test_the_grid(checks, demo):
    from nnsight_magic import analyses

    clean, corrupt, answer, versus = ITALY
    found = analyses.patch(demo, *ITALY)
    right = analyses.normalized(found)
    assert checks.exercise_1(right)
    assert checks.exercise_1(torch.tensor(right.values))
    low, high = found.attrs["baseline"], found.attrs["reference"]
    back = checks._share((corrupt, clean, versus, answer), "resid_post")
    before = checks._share(ITALY, "resid_pre")
    for wrong, words in (
        (found.values, "Divide it by the difference"),
        (found.values + low, "the metric itself"),
        ((found.values + low) / high, "divided by the clean run's value"),
        (1 - right.values, "0 and 1 are exchanged"),
        (back, "patches Greece into Italy"),
        (before, "before each block"),
        (right.values.T, "other way round"),
        (right.values[:, :5], "shape should be"),
    ):
        assert words in hint_for(checks, 1, wrong)


def test_the_head_that_works_against_it(checks):
    assert checks.exercise_2((29, 0))
    assert checks.exercise_2("29.0")
    assert "helps most" in hint_for(checks, 2, (23, 4))
    assert "more negative" in hint_for(checks, 2, (3, 1))
    assert "no head 4.23" in hint_for(checks, 2, (4, 23))


def test_a_circuit_is_measured_together_as_hooks_do(checks, by_hooks):
    names = [(23, 3), (29, 1), (17, 4), (20, 0)]
    told = checks.exercise_3(names)
    assert told
    assert f"{by_hooks(names, NAMES):.2f}" in told.says
    assert "capitals' circuit" in hint_for(checks, 3, FOUR)
    assert f"{by_hooks(FOUR, NAMES):.2f}" in hint_for(checks, 3, FOUR)
    assert "5 are enough" in hint_for(checks, 3, [(29, h) for h in range(6)])
    assert "0.9 was asked" in hint_for(checks, 3, [(23, 3)])
    assert "twice" in hint_for(checks, 3, [(23, 3), "23.3"])


def test_what_is_left(checks, by_hooks):
    clean, corrupt, answer, versus = GREECE
    gone = by_hooks(FOUR, (corrupt, clean, versus, answer))
    forward = by_hooks(FOUR, GREECE)
    assert checks.exercise_4(1 - gone)
    assert "what is gone" in hint_for(checks, 4, gone)
    assert "whether the heads are enough" in hint_for(checks, 4, forward)
    assert "does not bring back" in hint_for(checks, 4, 1 - forward)
    assert "Divide by" in hint_for(checks, 4, 12.5)
    assert "1 would mean" in hint_for(checks, 4, 0.5)


def test_a_frame_of_ones_own(checks, by_hooks):
    own = ("In Italy, most people speak", "In Russia, most people speak", " Italian", " Russian")
    told = checks.exercise_5(own)
    assert told
    assert f"{by_hooks(FOUR, own):.2f}" in told.says
    for wrong, words in (
        (ITALY, "is the notebook's"),
        ((own[0], own[0], *own[2:]), "Both prompts are the same"),
        ((own[0], "In the Russian Federation, most people speak", *own[2:]), "tokens. A patch"),
        ((*own[:2], " Italianate", " Russian"), "tokens: take an answer of one"),
        ((*own[:2], "Italian", " Russian"), "no blank"),
        ((*own[:2], " Russian", " Italian"), "does not know this pair"),
        (NAMES, "bring back"),
        (own[:3], "a tuple (clean, corrupt, answer, versus)"),
        ((1, 2, 3, 4), "a text"),
    ):
        assert words in hint_for(checks, 5, wrong), words
