"""Typical wrong answers to notebook 11, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.four_ways import CLEAN, CORRUPT, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


@pytest.fixture(scope="module")
def hooked(demo_model, demo_tokenizer):
    """The last logits of a prompt, with a head's columns of a projection replaced, by a hook."""

    @torch.no_grad()
    def run(prompt, block=23, columns=slice(0, 0), value=0.0, at=slice(None), of="input"):
        def before(module, given):
            changed = given[0].clone()
            changed[:, at, columns] = value
            return (changed,)

        def behind(module, given, out):
            changed = out.clone()
            changed[:, at, columns] = value
            return changed

        module = demo_model.model.layers[block].self_attn.o_proj
        hook = (
            module.register_forward_pre_hook(before)
            if of == "input"
            else module.register_forward_hook(behind)
        )
        try:
            return demo_model(demo_tokenizer(prompt, return_tensors="pt").input_ids).logits[0, -1]
        finally:
            hook.remove()

    return run


def test_a_head_silenced_by_a_hook(checks, hooked, demo_tokenizer):
    (paris,), head = demo_tokenizer.encode(" Paris"), slice(256, 320)

    def logprob(logits):
        return float(logits.log_softmax(-1)[paris])

    right = hooked(CLEAN, columns=head)
    assert checks.exercise_1(logprob(right))
    for wrong, words in (
        (logprob(hooked(CLEAN)), "Nothing changed"),
        (float(right.softmax(-1)[paris]), "not its logarithm"),
        (float(right[paris]), "the logit"),
        (logprob(right) - logprob(hooked(CLEAN)), "the change"),
        (logprob(hooked(CLEAN, columns=head, of="output")), "a pre-hook"),
        (logprob(hooked(CLEAN, columns=head, at=-1)), "last token alone"),
        (logprob(hooked(CLEAN, columns=slice(192, 256))), "head 3"),
        (-7.5, "columns 256 to 320"),
    ):
        assert words in hint_for(checks, 1, wrong), words


def test_another_heads_patch(checks, hooked, demo_model, demo_tokenizer):
    paris, berlin = (demo_tokenizer.encode(word)[0] for word in (" Paris", " Berlin"))

    def given(prompt, block):
        kept = []
        hook = demo_model.model.layers[block].self_attn.o_proj.register_forward_pre_hook(
            lambda module, args: kept.append(args[0].clone())
        )
        try:
            with torch.no_grad():
                demo_model(demo_tokenizer(prompt, return_tensors="pt").input_ids)
        finally:
            hook.remove()
        return kept[0]

    def patched(source, target, block, columns):
        value = given(source, block)[..., columns]
        logits = hooked(target, block, columns, value)
        return float(logits[paris] - logits[berlin])

    right = patched(CLEAN, CORRUPT, 29, slice(0, 64))
    baseline = patched(CORRUPT, CORRUPT, 29, slice(0, 64))
    assert checks.exercise_2(right)
    for wrong, words in (
        (right - baseline, "how far it moves"),
        (baseline, "without a patch"),
        (patched(CLEAN, CORRUPT, 23, slice(256, 320)), "still head 23.4"),
        (patched(CORRUPT, CLEAN, 29, slice(0, 64)), "exchanged"),
        (-right, "sign"),
    ):
        assert words in hint_for(checks, 2, wrong), words


def test_hooks_are_counted(checks):
    def right(module):
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in module.modules())

    assert checks.exercise_3(right)
    for wrong, words in (
        (lambda m: len(m._forward_hooks) + len(m._forward_pre_hooks), "With one pre-hook"),
        (lambda m: sum(len(e._forward_hooks) for e in m.modules()), "With one pre-hook"),
        (lambda m: sum(len(e._forward_pre_hooks) for e in m.modules()), "forward hook, too"),
        (
            lambda m: sum(
                len(e._forward_hooks) + len(e._forward_pre_hooks) for e in (m, *m.children())
            ),
            "one deeper",
        ),
        (lambda m: m.hooks, "raises AttributeError"),
        (lambda: 0, "raises TypeError"),
        (3, "without calling it"),
    ):
        assert words in hint_for(checks, 3, wrong), words
