"""The model that most tests of the engine run, and what has to be true of it afterwards."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from tests.hooks import hook_count


@pytest.fixture
def model(hf: nn.Module) -> Iterator[LanguageModel]:
    """The file's `hf`, wrapped; nothing may be left on it, nor on torch."""
    yield LanguageModel(hf)
    assert hook_count(hf) == 0
    assert not any("forward" in vars(module) for module in hf.modules())
    assert torch._C._len_torch_function_stack() == 0
    assert torch.is_grad_enabled()


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Python's own handler of SIGINT, whatever the one who runs the tests has."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def gradients_on() -> Iterator[None]:
    """Gradients are on afterwards, whatever a test left them at."""
    yield
    torch.set_grad_enabled(True)
