"""Typical wrong answers to notebook 02, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.changing import EIFFEL, FRANCE, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


@pytest.fixture(scope="module")
def without(demo_model, demo_tokenizer):
    """log p(" Paris"), with a slice of a module's input or output zeroed by a hook."""
    (paris,) = demo_tokenizer.encode(" Paris")

    @torch.no_grad()
    def run(prompt, module=None, at=(...,), of="output"):
        def before(m, given):
            changed = given[0].clone()
            changed[at] = 0
            return (changed,)

        def behind(m, given, out):
            changed = (out[0] if isinstance(out, tuple) else out).clone()
            changed[at] = 0
            return (changed, *out[1:]) if isinstance(out, tuple) else changed

        register = module and {
            "input": lambda: module.register_forward_pre_hook(before),
            "output": lambda: module.register_forward_hook(behind),
        }
        hook = register and register[of]()
        try:
            ids = demo_tokenizer(prompt, return_tensors="pt").input_ids
            return float(demo_model(ids).logits[0, -1].log_softmax(-1)[paris])
        finally:
            if hook:
                hook.remove()

    return run


def test_each_head_silenced(checks, without, demo, demo_model):
    from nnsight_magic import analyses

    clean, projections = without(FRANCE), [b.self_attn.o_proj for b in demo_model.model.layers]

    def row(block, of, tokens=slice(None)):
        """The changes by the heads of one block, by hooks."""
        columns = [slice(64 * h, 64 * h + 64) for h in range(9)]
        module = projections[block]
        changed = [without(FRANCE, module, (slice(None), tokens, each), of) for each in columns]
        return torch.tensor(changed) - clean

    change = torch.tensor(analyses.ablate(demo, FRANCE, " Paris", site="heads").values)
    assert torch.allclose(change[23], row(23, "input"), atol=1e-3)
    assert checks.exercise_1(change)
    columns, at_the_end = change.clone(), change.clone()
    columns[23], at_the_end[23] = row(23, "output"), row(23, "input", -1)
    for wrong, words in (
        (change + clean, "Take the run without"),
        (-change, "sign"),
        ((change + clean).exp() - torch.tensor(clean).exp(), "changes of the probability"),
        (columns, "64 columns"),
        (at_the_end, "last token alone"),
        (change.T, "other way round"),
    ):
        assert words in hint_for(checks, 1, wrong)


def test_the_mean_of_what_an_mlp_adds(checks, demo_model, demo_tokenizer):
    added = []
    hook = demo_model.model.layers[20].mlp.register_forward_hook(
        lambda m, i, out: added.append(out[0].detach())
    )
    try:
        with torch.no_grad():
            for text in checks.texts[:3]:
                demo_model(demo_tokenizer(text, return_tensors="pt").input_ids)
    finally:
        hook.remove()
    rest = torch.cat([each[1:] for each in added])
    assert checks.exercise_2(rest.mean(0))
    for wrong, words in (
        (torch.cat(added).mean(0), "Token 0 is in the mean"),
        (rest.mean(1), "of each token"),
        (rest.sum(0), "a sum"),
        (added[0][1:].mean(0), "first text alone"),
        (rest.mean(0)[None], "axis of size 1"),
    ):
        assert words in hint_for(checks, 2, wrong)


def test_one_number_that_matters(checks):
    assert checks.exercise_3((20, 0, 507))
    assert "The loss goes from" in hint_for(checks, 3, (20, 1, 507))
    assert "The loss goes from" in hint_for(checks, 3, (20, 0, 100))
    assert "notebook's table" in hint_for(checks, 3, (15, 0, 507))
    assert "There is no feature 600" in hint_for(checks, 3, (20, 0, 600))
    assert "whole number" in hint_for(checks, 3, (20.5, 0, 507))


def test_the_attention_that_is_needed_most(checks, without, demo_model):
    layers = demo_model.model.layers
    attn, mlp = checks._without_halves
    right = 2 + int(attn[2:].argmin())
    for block in (0, right, 29):  # by hooks
        assert float(attn[block]) == pytest.approx(
            without(EIFFEL, layers[block].self_attn), abs=0.01
        )
        assert float(mlp[block]) == pytest.approx(without(EIFFEL, layers[block].mlp), abs=0.01)
    assert checks.exercise_4(right)
    told = {
        0: "left out",
        2 + int(attn[2:].argmax()): "helps most",
        2 + int(mlp[2:].argmin()): "the MLP that is needed",
        33: "blocks 0 to 29",
        right - 2: "Counted from block 2" if right > 3 else "left out",
    }
    for wrong, words in told.items():
        if wrong != right:
            assert words in hint_for(checks, 4, wrong), wrong
