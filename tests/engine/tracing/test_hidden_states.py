"""What a model gives as `hidden_states` of a block that was written to: the page on Python says it.

The values at the blocks and the logits are right everywhere. The list that transformers makes holds
what the block itself gave, with transformers 4 in models whose list it fills by hooks of its own.
"""

from __future__ import annotations

import pytest
import torch
import transformers

from nnsight_magic import Model
from tests import tiny

IDS = torch.tensor([[5, 6, 7, 8, 9]])
OLD = int(transformers.__version__.partition(".")[0]) < 5


@pytest.mark.parametrize(
    ("name", "noted_by_hooks"),
    [("llama", True), ("mixtral", True), ("gpt_neox", False), ("gpt2", False)],
)
def test_the_list_of_hidden_states_has_what_was_written_but_with_transformers_4(
    name: str, noted_by_hooks: bool
) -> None:
    model = Model(tiny.build(name).eval())
    with torch.no_grad(), model.trace(IDS, output_hidden_states=True, use_cache=False):
        model.layers[1].output[:] = 7.0
        written = model.layers[1].output.save()
        following = model.layers[2].input.save()
        out = model.output.save()
    assert (written == 7).all()
    assert (following == 7).all()
    listed = bool((out.hidden_states[2] == 7).all())
    assert listed == (not (noted_by_hooks and OLD))
