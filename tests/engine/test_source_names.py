"""Calls inside a forward by the names that nnsight gives them: the same values, or words."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel, Model
from nnsight_magic.errors import NoSuchOperationError, SpellingError
from tests.hooks import hooked_block

IDS = torch.tensor([[1, 2, 3, 4, 5]])


class Small(nn.Module):
    """A forward with nested calls, a call in two lines, a branch and an assigned name."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)

    def forward(self, x, other=False):
        x = torch.relu(torch.relu(self.first(x)) - 1)
        if other:
            x = torch.tanh(x)
        if not other:
            x = torch.tanh(2 * x)
        softmax = nn.functional.softmax
        softmax = softmax(x, -1)
        x = twice(softmax) + self.second(x)
        return self.second(x)


def twice(x):
    return torch.mul(x, 2)


@pytest.fixture
def small():
    torch.manual_seed(0)
    return Model(Small())


def test_nested_calls_are_counted_from_the_inside(small):
    x = torch.ones(1, 4)
    with small.trace(x):
        inner = small.source.torch_relu_0.output
        outer = small.source.torch_relu_1.output
    first = small.module.first(x).relu()
    assert torch.equal(inner, first)
    assert torch.equal(outer, (first - 1).relu())


def test_what_is_assigned_too_has_either_number(small):
    with small.trace(torch.ones(1, 4)):
        one = small.source.softmax_0.output
        other = small.source.softmax_1.output
    assert torch.equal(one, other) and torch.allclose(one.sum(), torch.ones(()))


def test_a_branch_that_did_not_run_is_no_other_branch(small):
    with small.trace(torch.ones(1, 4)):
        assert small.source.torch_tanh_1.output.shape == (1, 4)
    with pytest.raises(SpellingError), small.trace(torch.ones(1, 4)):
        _ = small.source.torch_tanh_0.output


def test_calls_of_called_functions_lie_under_their_source(small):
    with small.trace(torch.ones(1, 4)):
        found = small.source.twice_0.source.torch_mul_0.output
        softmax = small.source.softmax_0.output
    assert torch.equal(found, 2 * softmax)


@pytest.mark.parametrize("name", ["self_second_0", "self_second_1"])
def test_a_module_that_is_called_in_several_lines_is_refused(small, name):
    with pytest.raises(NoSuchOperationError, match=r"calls\[1\]"), small.trace(torch.ones(1, 4)):
        getattr(small.source, name)


@pytest.mark.parametrize("name", ["nothing_0", "torch_relu_2", "torch_relu", "torch_relu_x"])
def test_a_name_that_is_not_there_lists_what_is(small, name):
    with pytest.raises(NoSuchOperationError, match="torch_relu_0"), small.trace(torch.ones(1, 4)):
        getattr(small.source, name)


def test_what_a_function_of_python_gives_is_refused(small):
    with pytest.raises(SpellingError, match="a function of Python"), small.trace(torch.ones(1, 4)):
        _ = small.source.twice_0.output


@pytest.mark.parametrize("name", ["gpt2", "llama", "mixtral"])
def test_a_call_of_a_module_is_the_module(tiny, name):
    hf = tiny(name)
    model = LanguageModel(hf)
    with model.trace(IDS):
        block = model.layers[1]
        # As the block's forward calls it: Mixtral's own name for it is another in transformers 4.
        name = block.mlp.path.rpartition(".")[2]
        call = getattr(block.source, f"self_{name}_0")
        output = call.output[0] if isinstance(call.output, tuple) else call.output
        output[:] = 0
        logits = model.logits
    with hooked_block(model.layers[1].mlp.module, torch.zeros_like), torch.no_grad():
        assert torch.equal(logits, hf(IDS, use_cache=False).logits)


def test_a_call_at_a_step_of_a_generation(tiny):
    hf = tiny("gpt2")
    model = LanguageModel(hf)
    with model.generate(IDS, max_new_tokens=3, do_sample=False, pad_token_id=0) as tracer:
        mlp = model.layers[0].mlp
        seen = [mlp.source.self_act_0.output.shape[1] for _ in tracer.steps]
    assert seen == [5, 1, 1]


@pytest.mark.parametrize("how", ["eager", "sdpa"])
@pytest.mark.parametrize("name", ["gpt2", "llama", "mixtral", "gpt_neox"])
def test_what_an_attention_function_gives_is_what_it_gave(tiny, name, how, monkeypatch):
    from transformers.models import gpt2, gpt_neox, llama, mixtral

    module = {"gpt2": gpt2, "llama": llama, "mixtral": mixtral, "gpt_neox": gpt_neox}[name]
    hf = tiny(name)
    hf.set_attn_implementation(how)
    model = LanguageModel(hf)
    with model.trace(IDS):
        values, weights = model.layers[1].attn.source.attention_interface_0.output
    with model.trace(IDS):
        model.layers[1].attn.source.attention_interface_0.output[0][:, :, 1] = 0
        written = model.layers[1].attn.output[0]

    code = getattr(module, f"modeling_{name}")
    gave, functions = [], code.ALL_ATTENTION_FUNCTIONS

    def watched(function):
        def call(*args, **kwargs):
            out = function(*args, **kwargs)
            gave.append(out)
            return out

        return call

    if hasattr(functions, "get_interface"):
        chosen = functions.get_interface
        get = lambda implementation, default: watched(chosen(implementation, default))  # noqa: E731
        monkeypatch.setattr(functions, "get_interface", get)
    elif how == "eager":  # transformers 4 names the function and looks it up
        monkeypatch.setattr(code, "eager_attention_forward", watched(code.eager_attention_forward))
    else:
        monkeypatch.setitem(functions, how, watched(functions[how]))
    with torch.no_grad():
        hf(IDS, use_cache=False)
    torch.testing.assert_close(torch.Tensor(values), gave[1][0])
    assert (weights is None) == (how == "sdpa")
    if weights is not None:
        torch.testing.assert_close(torch.Tensor(weights), gave[1][1])

    projection = model.layers[1].attn.heads._projection
    with torch.no_grad():
        silent = gave[1][0].clone()
        silent[:, :, 1] = 0
        expected = model.layers[1].attn.module.get_submodule(projection)(silent.flatten(-2))
    torch.testing.assert_close(torch.Tensor(written), expected)


def test_attention_whose_result_is_changed_before_it_is_projected_is_refused():
    class Gated(nn.Module):
        def __init__(self):
            super().__init__()
            self.o_proj, self.num_heads = nn.Linear(4, 4), 2

        def forward(self, x):
            attention_interface = twice
            out = attention_interface(x)
            return self.o_proj(out * torch.sigmoid(x))

    model = Model(nn.ModuleDict({"attn": Gated()})["attn"])
    with pytest.raises(SpellingError, match="a function of Python"), model.trace(torch.ones(1, 4)):
        _ = model.source.attention_interface_0.output
