"""Work of every kind, and what has to be true of a model after it, whatever went wrong."""

from __future__ import annotations

import signal
from typing import Any

import torch
from torch import nn

from nnsight_magic import LanguageModel
from tests.hooks import hook_count

IDS = torch.tensor([[1, 2, 3, 4, 5]])


class Boom(Exception):
    pass


def forward(hf: nn.Module, ids: torch.Tensor = IDS) -> torch.Tensor:
    with torch.no_grad():
        return hf(ids, use_cache=False).logits


def assert_untouched(model: Any) -> None:
    """No hook, no instance `forward`, no lock, no mode, no signal handler of ours is left."""
    root = model.module
    assert hook_count(root) == 0
    assert not any("forward" in vars(module) for module in root.modules())
    assert not model._turn.locked()
    assert model._turn.owner is None and model._turn.active is None
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()
    assert torch._C._is_torch_function_enabled()
    assert not torch.is_autocast_enabled("cpu")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def trace_and_write(model: LanguageModel) -> Any:
    with model.trace(IDS):
        hidden = model.layers[0].output
        model.layers[1].mlp.output[:, -1] = 0
        model.layers[2].attn.skip((model.layers[2].attn.input * 1, None))
        logits = model.output.logits
    return hidden, logits


def generate_and_write(model: LanguageModel) -> Any:
    with model.generate(IDS, max_new_tokens=3, do_sample=False) as tracer:
        for step in tracer.steps:
            model.layers[1].output[:, -1] += step.index
    return tracer.result


def invoke_and_read_back(model: LanguageModel) -> Any:
    with model.trace() as tracer:
        with tracer.invoke(IDS):
            late = model.layers[2].output
            early = model.layers[0].mlp.output
        with tracer.invoke(IDS):
            model.layers[0].mlp.output = early + 1
            logits = model.output.logits
    return late, logits


WORK = [trace_and_write, generate_and_write, invoke_and_read_back]
