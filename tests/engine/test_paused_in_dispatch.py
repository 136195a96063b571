"""Models that call `torch.ops` themselves: such a call keeps to the order in which calls begin."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from nnsight_magic import Model
from nnsight_magic.engine.running import coroutine
from nnsight_magic.errors import TwoInDispatchError
from tests.hooks import hook_count

X = torch.ones(2)


class Block(nn.Module):
    def forward(self, x):
        return torch.ops.aten.add.Tensor(torch.ops.aten.mul(x, 2.0), 1.0)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = Block(), Block()

    def forward(self, x):
        return self.b(self.a(x))


def test_one_forward_stands_in_them_while_others_call_them():
    one, two = Model(Net()), Model(Net())
    with one.trace(X):
        doubled = one.a.ops.mul[0].output
        assert torch.equal(torch.ops.aten.mul(doubled, 3.0), torch.full((2,), 6.0))
        with two.trace(X):
            whole = two.b.output
        one.b.ops["add.Tensor"][0].output += 1
        last = one.output
    assert torch.equal(whole, torch.full((2,), 7.0))
    assert torch.equal(last, torch.full((2,), 8.0))
    assert hook_count(one.module) == hook_count(two.module) == 0


@pytest.mark.skipif(coroutine._floor is None, reason="each forward has a thread of its own")
def test_a_second_one_that_would_stand_in_them_is_refused_and_the_first_goes_on():
    one, two = Model(Net()), Model(Net())
    with one.trace(X):
        first = one.a.ops.mul[0].output
        refused = pytest.raises(
            TwoInDispatchError, match=r"torch\.ops\.aten\.add(.|\n)*End the other"
        )
        with refused, two.trace(X):
            two.a.ops["add.Tensor"][0].output.save()
        with two.trace(X):
            beside = two.a.output
        last = one.output
    assert torch.equal(first, torch.full((2,), 2.0))
    assert torch.equal(beside, torch.full((2,), 3.0))
    assert torch.equal(last, torch.full((2,), 7.0))
    with two.trace(X):  # and nothing is left behind
        assert torch.equal(two.b.ops.mul[0].output, torch.full((2,), 6.0))


INTERLEAVED = """
import torch
from tests.engine.test_paused_in_dispatch import X, Net
from nnsight_magic import Model

one, two = Model(Net()), Model(Net())
with one.trace(X):
    first = one.a.ops.mul[0].output
    with two.trace(X):
        beside = two.a.ops["add.Tensor"][0].output
        later = one.b.ops.mul[0].output
        last = two.b.ops.mul[0].output
print([each.tolist()[0] for each in (first, beside, later, last)])
"""


def test_where_each_forward_has_a_thread_of_its_own_they_take_turns():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", INTERLEAVED],
        env={**os.environ, "NNSIGHT_MAGIC_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[0] == "[2.0, 3.0, 6.0, 6.0]"
