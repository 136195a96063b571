"""Skipped blocks: what a block returns besides its hidden states, and whether that is known."""

from __future__ import annotations

import pytest
import torch

from nnsight_magic import LanguageModel
from nnsight_magic.engine.running import block_layout
from nnsight_magic.errors import WrongValueError
from tests import tiny
from tests.hooks import hooked

IDS = torch.tensor([[1, 2, 3, 4, 5]])


SKIPS = {
    "what the block before gave": lambda m: m.layers[0].output,
    "its own input": lambda m: m.layers[1].input,
    "a number": lambda m: 0.0,
    "hidden states in a tuple": lambda m: (m.layers[0].output,),
}


@pytest.mark.parametrize("value", SKIPS)
@pytest.mark.parametrize("seen", [False, True])
def test_a_block_that_hands_on_more_is_not_skipped_by_hidden_states_alone(value, seen, monkeypatch):
    """T5's blocks hand on the position bias: without it the next block takes another one."""
    model = LanguageModel(tiny.build("t5"))
    given = {"input_ids": IDS, "decoder_input_ids": IDS}
    block_layout._known.clear()
    if seen:
        with model.trace(given):
            _ = model.layers[0].output
            _ = model.output
    with pytest.raises(WrongValueError, match=r"layers\[3\]._output"), model.trace(given):
        model.layers[1].skip(SKIPS[value](model))
    with model.trace(given):
        model.layers[1].skip(model.layers[0]._output)
        skipped = model.logits
    blocks = model.module.decoder.block
    before: list = []
    with hooked(blocks[0], before.append), torch.no_grad(), monkeypatch.context() as patched:
        patched.setattr(blocks[1], "forward", lambda *args, **kwargs: before[-1])
        right = model.module(**given, use_cache=False).logits
    torch.testing.assert_close(skipped.value, right)


@pytest.mark.parametrize("architecture", ["gpt2", "llama", "gpt_neox", "mamba"])
def test_a_skip_is_the_same_whether_or_not_a_block_has_run_before(architecture):
    model = LanguageModel(tiny.build(architecture))
    found = []
    for _ in range(2):
        block_layout._known.clear()
        for _ in range(2):
            with model.trace(IDS, resume=False):
                model.layers[1].skip(model.layers[1].input)
                found.append(model.logits)
    for each in found:
        torch.testing.assert_close(each.value, found[0].value)
