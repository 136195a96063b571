"""Typical wrong answers to notebook 01, and the hints that they get."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic.tutorials.reading import PROMPT, Checks
from tests.notebooks.tutorial import hint_for

pytestmark = pytest.mark.demo


@pytest.fixture(scope="module")
def checks(demo):
    return Checks(demo)


@pytest.fixture(scope="module")
def seen(demo, demo_model, demo_tokenizer):
    """Transformers' hidden states `(31, tokens, hidden)`, and what the halves added, by hooks."""
    added = {}
    hooks = [
        module.register_forward_hook(
            lambda m, i, out, at=(half, k): added.__setitem__(
                at, (out[0] if isinstance(out, tuple) else out)[0].detach()
            )
        )
        for k, block in enumerate(demo_model.model.layers)
        for half, module in (("attn", block.self_attn), ("mlp", block.mlp))
    ]
    last = {}
    hooks.append(
        demo_model.model.layers[-1].register_forward_hook(
            lambda m, i, out: last.update(h=(out[0] if isinstance(out, tuple) else out)[-9:])
        )
    )
    try:
        with torch.no_grad():
            ids = demo_tokenizer(PROMPT, return_tensors="pt").input_ids
            states = demo_model(ids, output_hidden_states=True).hidden_states
    finally:
        for hook in hooks:
            hook.remove()
    # Transformers puts the final norm over the last of its states.
    stream = torch.stack([*(each[0] for each in states[:-1]), last["h"].reshape(9, -1)])
    return stream, {h: torch.stack([added[h, k] for k in range(30)]) for h in ("attn", "mlp")}


def test_right_answers_are_right_by_hand_written_hooks(checks, seen):
    stream, added = seen
    assert checks.exercise_1(stream[1:].norm(dim=-1))
    assert checks.exercise_1(stream[1:].norm(dim=-1).tolist())
    assert checks.exercise_2((11, "mlp", added["mlp"][11, 0, 507].item()))
    assert checks.exercise_3(stream[0] + added["attn"].sum(0) + added["mlp"].sum(0))


def test_the_attention_to_the_first_token_is_that_of_eager_attention(checks, demo_tokenizer):
    from nnsight_magic.loading.load import open_source

    eager = open_source("demo").weights()
    eager.set_attn_implementation("eager")
    with torch.no_grad():
        ids = demo_tokenizer(PROMPT, return_tensors="pt").input_ids
        looks = torch.stack(eager(ids, output_attentions=True).attentions)[:, 0]
    assert checks.exercise_4(looks[:, :, 1:, 0].mean((1, 2)))
    for wrong, words in (
        (looks[..., 0].mean((1, 2)), "Token 0 itself"),
        (looks[:, :, 0].mean((1, 2)), "Rows are the tokens that look"),
        (looks[:, :, -1, 0].mean(1), "last token alone"),
        (looks[:, :, 1:, 0].mean(2), "over the heads"),
        (looks[:, :, 1:, 0].amax((1, 2)), "largest weight"),
    ):
        assert words in hint_for(checks, 4, wrong)


def test_wrong_answers_get_hints_of_their_own(checks, seen):
    stream, added = seen
    behind = stream[1:]
    lengths, written = behind.norm(dim=-1), added["mlp"][11, 0, 507].item()
    summed = stream[0] + added["attn"].sum(0) + added["mlp"].sum(0)
    wrong = [
        (1, behind.norm(dim=1), "which axis"),
        (1, behind.norm(dim=(1, 2)), "the tokens are summed"),
        (1, lengths[:, 1:], "first token is missing"),
        (1, lengths.T, "other way round"),
        (1, lengths[:, None], "axis of size 1"),
        (1, lengths**2, "squared"),
        (1, stream[:-1].norm(dim=-1), "one block too early"),
        (1, lengths * 1.1, "numbers are not"),
        (2, (15, "mlp", written), "not the largest"),
        (2, (16, "mlp", written), "not the largest"),
        (2, (11, "attn", written), "There the number stands"),
        (2, (11, "mlp", behind[11, 0, 507].item()), "the stream's"),
        (2, (11, "mlp", 1.0), "The module is right, the number is not"),
        (2, (11, "head", 1.0), "two halves"),
        (2, (40, "mlp", 1.0), "blocks 0 to 29"),
        (3, added["attn"].sum(0) + added["mlp"].sum(0), "before the first block"),
        (3, stream[0] + added["mlp"].sum(0), "attention halves"),
        (3, stream[0] + added["attn"].sum(0), "MLPs add"),
        (3, stream[0] + behind.sum(0), "counts everything many times"),
        (3, summed[None], "axis of size 1"),
    ]
    for number, answer, words in wrong:
        assert words in hint_for(checks, number, answer), (number, words)
