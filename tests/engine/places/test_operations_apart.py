"""What watches operations is there for the forward alone, and is gone afterwards."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nnsight_magic.engine.model.model import Model
from tests.engine.places.eager import IDS
from tests.hooks import hook_count


class Counting(TorchFunctionMode):
    """Counts the operations that are issued under it."""

    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(func.__name__)
        return func(*args, **(kwargs or {}))


def test_the_users_code_does_not_run_under_the_modes_of_the_forward(model):
    with model.trace(IDS):
        _ = model.layers[1].ops.add[0].output
        assert torch._C._len_torch_function_stack() == 0
        _ = model.layers[1].mlp.output  # inside the watched block
        assert torch._C._len_torch_function_stack() == 0


def test_the_forward_does_not_run_under_a_mode_of_the_users(model):
    with model.trace(IDS):
        expected = model.layers[1].ops.add[1].output
    with model.trace(IDS):
        _ = model.layers[0].input
        with Counting() as counting:
            _ = model.layers[1].ops.add[0].output
            torch.ones(2).cosh()
        value = model.layers[1].ops.add[1].output
    assert "cosh" in counting.names
    assert not {"layer_norm", "softmax", "addmm"} & set(counting.names)
    assert torch.equal(value, expected)


def test_a_mode_around_the_whole_trace_is_there_for_the_forward_as_well(model):
    with Counting() as counting, model.trace(IDS, resume=False):
        _ = model.layers[1].ops.add[1].output
    assert "layer_norm" in counting.names
    assert torch._C._len_torch_function_stack() == 0


class Failing(nn.Module):
    def forward(self, x):
        y = x + 1
        raise ValueError("inside") if y.sum() > 0 else y


def test_nothing_is_left_behind_by_a_module_that_fails():
    root = nn.Sequential(Failing())
    model = Model(root)
    with pytest.raises(ValueError, match="inside"), model.trace(torch.zeros(2)):
        _ = model[0].ops.add.output
        _ = model.output
    assert torch._C._len_torch_function_stack() == 0
    assert "forward" not in vars(root[0])
    assert hook_count(root) == 0


def test_an_untouched_trace_puts_no_mode_on_the_stack(model, hf):
    depths = []
    hook = hf.transformer.h[1].mlp.register_forward_hook(
        lambda m, a, out: depths.append(torch._C._len_torch_function_stack())
    )
    with model.trace(IDS, full=True):
        _ = model.layers[0].output
    hook.remove()
    assert depths == [0]
