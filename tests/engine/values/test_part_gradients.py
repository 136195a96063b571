"""The gradient of a part of a value is that part of the whole's."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, Model
from nnsight_magic.errors import GraphError, WrongValueError
from tests import tiny

IDS = torch.tensor([[5, 6, 7, 8, 9]])
PARTS = {
    "one position": lambda h: h[:, -1],
    "some features": lambda h: h[..., 2:7],
    "every other": lambda h: h[:, ::2, ::3],
    "turned": lambda h: h.transpose(1, 2),
    "a part of a part": lambda h: h[:, 1:][..., 3],
    "of another shape": lambda h: h.view(1, 5, 4, -1)[:, :, 2],
    "one number": lambda h: h[0, 1, 2],
    "a diagonal": lambda h: h[:, :, :5].diagonal(dim1=1, dim2=2),
}


@pytest.fixture(params=["llama", "gpt2", "mixtral"])
def model(request):
    return LanguageModel(tiny.build(request.param), tiny.tokenizer())


def by_hook(model, path):
    """The gradient at a block's output, by retain_grad in a hook."""
    kept = []

    def hook(module, args, output):
        hidden = output[0] if isinstance(output, tuple) else output
        hidden.retain_grad()
        kept.append(hidden)

    handle = model.module.get_submodule(path).register_forward_hook(hook)
    loss = model.module(IDS, use_cache=False).logits[0, -1].logsumexp(-1)
    handle.remove()
    loss.backward()
    return kept[0].grad


@pytest.mark.parametrize("part", PARTS)
def test_of_a_part(model, part):
    take = PARTS[part]
    with model.trace(IDS):
        whole = model.layers[1].output
        taken = take(whole)
        model.logits[0, -1].logsumexp(-1).backward()
    expected = by_hook(model, model.layers[1].path)
    torch.testing.assert_close(taken.grad.value, take(expected))


def test_of_heads(model):
    with model.trace(IDS):
        heads = model.layers[1].attn.heads
        one, some, all_of_them = heads[1], heads[0:2], model.layers[1].attn.z
        model.logits[0, -1].logsumexp(-1).backward()
    assert one.grad.abs().sum() > 0
    assert torch.equal(one.grad, all_of_them.grad[:, :, 1])
    assert torch.equal(some.grad, all_of_them.grad[:, :, 0:2])


WRITES = {
    "into it": lambda part: part.grad.zero_(),
    "a tensor": lambda part: setattr(part, "grad", torch.zeros_like(part)),
    "a number": lambda part: setattr(part, "grad", 0),
}


@pytest.mark.parametrize("write", WRITES)
def test_what_is_written_in_a_block_flows_on(model, write):
    found = []
    for part_of in (lambda h: h, None):
        with model.trace(IDS):
            early, late = model.layers[0].output, model.layers[1].output
            part = late[:, -1]
            with model.logits[0, -1].logsumexp(-1).backward():
                if part_of is None:
                    WRITES[write](part)
                else:
                    late.grad[:, -1] = 0
                found.append(early.grad.value)
    assert torch.equal(*found)


def test_a_gradient_of_another_shape_is_refused(model):
    with model.trace(IDS), pytest.raises(WrongValueError, match="The gradient of this part"):
        part = model.layers[1].output[:, -1]
        with model.logits[0, -1].logsumexp(-1).backward():
            part.grad = torch.zeros(3)


class Turned(nn.Module):
    """Gives a value that lies in memory otherwise than its gradient."""

    def forward(self, x):
        return (2 * x).transpose(0, 1)


def test_a_write_that_could_not_flow_on_is_refused():
    model = Model(nn.Sequential(nn.Linear(3, 4), Turned(), nn.Linear(2, 5)))
    with model.trace(torch.ones(2, 3)):
        part = model[1].output[0]
        with model.output.square().sum().backward(), pytest.raises(GraphError, match="the whole's"):
            part.grad[:] = 0
