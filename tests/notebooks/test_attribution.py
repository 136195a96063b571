"""Typical wrong answers to notebook 07, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.attribution import EIFFEL, FRANCE, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


def outputs(demo_model, demo_tokenizer, prompt, modules, *, inputs=False, metric=None):
    """What modules give (or are given), by hooks, and the gradient of a metric there."""
    kept = []

    def before(module, given):
        kept.append(given[0])

    def behind(module, given, out):
        kept.append(out[0] if isinstance(out, tuple) else out)

    hooks = [
        m.register_forward_pre_hook(before) if inputs else m.register_forward_hook(behind)
        for m in modules
    ]
    try:
        ids = demo_tokenizer(prompt, return_tensors="pt").input_ids
        logits = demo_model(ids).logits[0, -1]
    finally:
        for hook in hooks:
            hook.remove()
    slopes = torch.autograd.grad(metric(logits), kept) if metric else None
    return [each[0].detach() for each in kept], slopes and [each[0] for each in slopes]


def test_the_parts_of_a_logit(checks, demo_model, demo_tokenizer):
    blocks = demo_model.model.layers
    halves = [half for block in blocks for half in (block.self_attn, block.mlp)]
    (embed, *added), _ = outputs(
        demo_model, demo_tokenizer, EIFFEL[0], [demo_model.model.embed_tokens, *halves]
    )
    parts = torch.stack([each[-1] for each in (embed, *added)])
    scale = parts.sum(0).pow(2).mean().rsqrt()
    weight, unembedding = demo_model.model.norm.weight.detach(), demo_model.lm_head.weight.detach()
    paris, rome = (unembedding[demo_tokenizer.encode(word)[0]] for word in EIFFEL[2:])
    right = parts @ (scale * weight * (paris - rome))
    own = parts.pow(2).mean(-1, keepdim=True).rsqrt()
    assert checks.exercise_1(right)
    for wrong, words in (
        (parts @ (weight * (paris - rome)), "scale is missing"),
        (parts @ (scale * (paris - rome)), "weight is missing"),
        ((parts * own) @ (weight * (paris - rome)), "normed by itself"),
        (parts @ (scale * weight * paris), "alone"),
        (-right, "sign"),
        (right[1:], "embedding is a part"),
        (torch.cat([right[:1], right[1::2], right[2::2]]), "block by block"),
        (torch.rand(61), "numbers are not"),
    ):
        assert words in hint_for(checks, 1, wrong)


def test_attribution_of_heads(checks, demo_model, demo_tokenizer):
    a, b = (demo_tokenizer.encode(word)[0] for word in FRANCE[2:])
    modules = [block.self_attn.o_proj for block in demo_model.model.layers]

    def of(prompt):
        values, slopes = outputs(
            demo_model, demo_tokenizer, prompt, modules, inputs=True,
            metric=lambda logits: logits[a] - logits[b],
        )  # fmt: skip
        return [torch.stack(each).unflatten(-1, (9, 64)) for each in (values, slopes)]

    (clean, clean_slopes), (corrupt, slopes) = of(FRANCE[0]), of(FRANCE[1])
    step = clean - corrupt
    right = (step * slopes).sum((1, 3))
    assert checks.exercise_2(right)
    for wrong, words in (
        ((step * clean_slopes).sum((1, 3)), "that of the clean run"),
        (-right, "not corrupt minus clean"),
        ((clean * slopes).sum((1, 3)), "has to be taken off"),
        (-(corrupt * slopes).sum((1, 3)), "zeroing"),
        ((step * slopes)[:, -1].sum(-1), "last token alone"),
        ((step * slopes).mean((1, 3)), "a mean"),
        ((step * slopes).sum(1), "64 numbers"),
        ((step * slopes).abs().sum((1, 3)), "Signs cancel"),
    ):
        assert words in hint_for(checks, 2, wrong)


def test_a_pair_where_the_gradient_fails(checks):
    assert checks.exercise_3(
        ("The Louvre is in the city of", "The Acropolis is in the city of", " Paris", " Athens")
    )
    assert "It works there" in hint_for(checks, 3, FRANCE)
    assert "the notebook's" in hint_for(checks, 3, EIFFEL)
    assert "need as many" in hint_for(checks, 3, (FRANCE[0], "Berlin is", *FRANCE[2:]))
    assert "does not know" in hint_for(checks, 3, (*FRANCE[:2], " Berlin", " Paris"))
    assert "tokens: take" in hint_for(checks, 3, (*FRANCE[:2], " Paris, France", " Berlin"))


def test_the_direct_part_of_a_head(checks, demo):
    from nnsight_magic import analyses

    direct = float(analyses.path_patch(demo, *FRANCE[:2], ["29.1:logits"], *FRANCE[2:])[0])
    heads = analyses.patch(demo, *FRANCE, site="heads", layers=[29])
    whole = float(heads.sel(layer=29, head=1))
    assert checks.exercise_4(direct / whole)
    assert "Divide it by the whole" in hint_for(checks, 4, direct)
    assert "the whole effect" in hint_for(checks, 4, whole)
    assert "upside down" in hint_for(checks, 4, whole / direct)
    assert "exact patch of 29.1" in hint_for(checks, 4, 0.1)
