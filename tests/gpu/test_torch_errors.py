"""Errors of torch on an accelerator, the memory used up above all, in a suspended forward.

They are raised in processes of their own, since what is tried is whether the process lives.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

pytestmark = pytest.mark.gpu


def run(*arguments: str, device: str) -> str:
    """What a program prints that ends well."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, "TEST_DEVICE": device},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def test_errors_at_random_depths_leave_the_process_alive(device):
    assert run("-m", "tests.engine.provoke", "400", device=device) == "400 errors\n"


OUT_OF_MEMORY = """
import random
import sys

import torch
from torch import nn

from nnsight_magic import LanguageModel
from tests.engine.provoke import anywhere
from tests.hooks import hook_count

device = sys.argv[1]
torch.cuda.set_per_process_memory_fraction(0.05, torch.device(device).index or 0)
MIB = 2**20

class Greedy(nn.Module):
    asks = True

    def forward(self, x):
        held = []
        while self.asks:
            held.append(torch.empty(64 * MIB, dtype=torch.uint8, device=x.device))
        return x * 2

random.seed(0)
net = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4), Greedy(), nn.Linear(4, 4)).to(device)
model, greedy = LanguageModel(net), net[2]
x = torch.ones(2, 4, device=device)
with torch.no_grad():
    greedy.asks = False
    plain = net(x)
before = torch.cuda.memory_allocated()
for number in range(100):
    greedy.asks = True
    caught = None
    try:
        with model.trace(x, grad=number % 2 == 0):
            anywhere(lambda: model[0].output)
            anywhere(lambda: model[1].output)
            anywhere(lambda: model[3].output)
    except torch.cuda.OutOfMemoryError as error:
        caught = str(error)
    assert caught is not None and "out of memory" in caught, caught
    assert hook_count(net) == 0
    greedy.asks = False
    with model.trace(x):
        result = anywhere(lambda: model[3].output)
    assert torch.equal(result, plain)
    del result
assert torch.cuda.memory_allocated() - before < 64 * MIB
print("100 errors")
"""


def test_memory_that_is_used_up_is_an_ordinary_error(cuda):
    assert run("-c", OUT_OF_MEMORY, cuda, device=cuda) == "100 errors\n"
