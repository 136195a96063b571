"""A child of the model comes before a list of ours with the same name."""

from __future__ import annotations

import torch
from torch import nn

from nnsight_magic import Model


class Vision(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.Sequential(*(nn.Linear(4, 4) for _ in range(4)))

    def forward(self, x):
        return self.blocks(x)


def test_a_models_own_blocks_are_its_blocks():
    torch.manual_seed(0)
    module, x = Vision(), torch.ones(1, 4)
    model = Model(module)
    with model.trace(x):
        third = model.blocks[3].output.save()
        whole = model.blocks.output.save()
    assert model.blocks[3].module is module.blocks[3]
    assert torch.equal(third, module(x)) and torch.equal(whole, module(x))
