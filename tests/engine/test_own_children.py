"""Children of a model that go by a name of ours: both are reached, and nothing of ours fails."""

from __future__ import annotations

import copy
import inspect
import pickle

import pytest
import torch
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM

from nnsight_magic import LanguageModel, Model
from nnsight_magic.engine.places.handle import Handle
from nnsight_magic.engine.places.own_names import VALUES, names_of_ours
from nnsight_magic.engine.places.place import touching
from nnsight_magic.errors import LoadError, NoSuchModuleError
from nnsight_magic.language.names import HANDLE_ATTRIBUTES, TRACE_NAMES
from tests import tiny

IDS = torch.tensor([[1, 2, 3, 4]])
OURS = sorted(names_of_ours(LanguageModel(tiny.llama(), tiny.tokenizer())))
NAMES = sorted({*OURS, *TRACE_NAMES, *HANDLE_ATTRIBUTES, "heads", "attn", "mlp", "layers"})


class Shift(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(size) / 10)

    def forward(self, x):
        return x + self.weight


class Chain(nn.Module):
    """Runs children of the given names on what another module gives, one after the other."""

    def __init__(self, inner, names):
        super().__init__()
        self.inner, self.called = inner, names
        self._modules.update({name: Shift(32) for name in names})

    def forward(self, x):
        x = self.inner(x)
        for name in self.called:
            x = self._modules[name](x)
        return x


class Clashing(LlamaForCausalLM):
    """A Llama with children of the given names at its root and inside its second block."""

    def __init__(self, names):
        sizes = {"hidden_size": 32, "intermediate_size": 64, "vocab_size": 320}
        heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "num_hidden_layers": 3}
        super().__init__(LlamaConfig(**sizes, **heads, initializer_range=0.2))
        self.called = [name for name in names if name not in self._modules]
        block = self.model.layers[1]
        block.mlp = Chain(block.mlp, names)
        self._modules.update({name: Shift(320) for name in self.called})

    def forward(self, *args, **kwargs):
        outcome = super().forward(*args, **kwargs)
        for name in self.called:
            outcome.logits = self._modules[name](outcome.logits)
        return outcome


def clashing(names):
    torch.manual_seed(0)
    return Clashing(names).eval()


def plain_logits(module, silent=None):
    """What the model computes; with what one of its modules gives set to zero."""
    hook = silent and silent.register_forward_hook(lambda *given: torch.zeros_like(given[-1]))
    with torch.no_grad():
        logits = module(IDS).logits
    if hook:
        hook.remove()
    return logits


@pytest.fixture(scope="module")
def all_clash():
    return LanguageModel(clashing(NAMES), tiny.tokenizer())


def comes_first(handle, name):
    """Whether the child is an attribute: it is none in torch, or keeps a meaning of ours."""
    return name not in VALUES and not hasattr(type(handle._own.module), name)


@pytest.mark.parametrize("name", [name for name in NAMES if name != "model"])
def test_a_child_of_any_name_of_ours_is_read_and_written(all_clash, name):
    model = all_clash
    for parent in (model, model._own.layers[1]["mlp"]):
        module = parent._own.module._modules[name]
        children = [parent[name], *([getattr(parent, name)] if comes_first(parent, name) else [])]
        for child in children:
            assert child.module is module
            with model._own.trace(IDS):
                assert torch.equal(module(child.input), child.output)
            with model._own.trace(IDS):
                child.output = torch.zeros_like(child.output)
                written = model._own.output.logits.save()
            assert torch.equal(written, plain_logits(model._own.module, module))


def is_value(name):
    """Whether it is a value of the forward, which there is in a trace alone."""
    return isinstance(inspect.getattr_static(Handle, name, None), touching)


@pytest.mark.parametrize("name", [name for name in OURS if name not in VALUES])
def test_what_is_ours_stands_at_own_and_is_what_it_is_elsewhere(all_clash, name):
    plain = LanguageModel(clashing(["unrelated"]), tiny.tokenizer())
    places = [(all_clash, plain), (all_clash._own.layers[1]["mlp"], plain.layers[1].mlp)]
    for here, there in places:
        if name in names_of_ours(here) and not is_value(name):
            ours, theirs = getattr(here._own, name), getattr(there, name)
            assert type(ours) is type(theirs)
            assert getattr(ours, "__func__", None) is getattr(theirs, "__func__", None)


@pytest.mark.parametrize("names", [NAMES, ["module"], ["path"], ["names"], ["blocks"]], ids=len)
def test_nothing_of_ours_fails_where_names_are_hidden(names):
    module = clashing(names)
    model, expected = LanguageModel(module, tiny.tokenizer()), plain_logits(module)
    own = model._own
    for blocks_run in (3, 0):
        with own.trace(IDS) as tracer:
            logits = own.output.logits.save()
        assert torch.equal(logits, expected)
        assert tracer.report.blocks_run == blocks_run

    def silenced(block):
        own.layers[block]["mlp"].output[:] = 0
        return own.output.logits[0, -1]

    silent = [plain_logits(module, layer.mlp)[0, -1] for layer in module.model.layers]
    for found, one in zip(own.sweep(IDS, silenced, range(2)), silent, strict=False):
        torch.testing.assert_close(found, one)
    with own.edit("off"):
        own.layers[1]["mlp"].output[:] = 0
    with own.trace(IDS):
        torch.testing.assert_close(own.output.logits[0, -1], silent[1])
    own.edits.clear()
    with own.edit() as edited:
        own.layers[1]["mlp"].output[:] = 0
    with edited._own.trace(IDS):
        torch.testing.assert_close(edited._own.output.logits[0, -1], silent[1])
    with own.generate(IDS, max_new_tokens=2) as tracer:
        ids = tracer.result.save()
    assert ids[0, 4] == expected[0, -1].argmax()
    assert own.scan(IDS)["model.layers.1.mlp"].output.shape == (1, 4, 32)
    assert all(f"({name})" in repr(model) and name in dir(model) for name in names)
    assert own.tree() is not None
    with own.trace(IDS), pytest.raises(NoSuchModuleError, match="no attention module"):
        _ = own.layers[1]["mlp"]._own.pattern


@pytest.mark.parametrize("names", [NAMES, ["path"]], ids=len)
def test_a_model_with_hidden_names_is_copied(names):
    model = LanguageModel(clashing(names), tiny.tokenizer())
    for other in (copy.deepcopy(model), copy.copy(model)):
        with other._own.trace(IDS):
            assert torch.equal(other._own.output.logits, plain_logits(model._own.module))
    with pytest.raises(LoadError, match="has no name"):
        pickle.dumps(model)


class Held(nn.Module):
    def __init__(self, name, kind):
        super().__init__()
        tensor = torch.tensor(3.0)
        (self._parameters if kind == "parameter" else self._buffers)[name] = (
            nn.Parameter(tensor) if kind == "parameter" else tensor
        )
        self.called = name

    def forward(self, x):
        return x * getattr(self, self.called)


@pytest.mark.parametrize("kind", ["parameter", "buffer"])
@pytest.mark.parametrize("name", [each for each in NAMES if not hasattr(nn.Module, each)])
def test_a_parameter_of_any_name_of_ours_is_the_modules_own(name, kind):
    model = Model(nn.ModuleDict({"first": Held(name, kind)})["first"])
    held = getattr(model.module if name in VALUES else model, name)
    assert held is getattr(model._own.module, name)
    with model._own.trace(torch.ones(2)):
        assert torch.equal(model.output, torch.full((2,), 3.0))


def test_assigning_to_a_hidden_name_says_where_ours_is():
    module = nn.Module()
    module.resume = nn.Linear(2, 2)
    model = Model(module)
    memory = model._own.resume
    with pytest.raises(NoSuchModuleError, match=r"model\._own\.resume"):
        model.resume = None
    assert model._own.resume is memory
    model._own.block_index_zero = False
    assert model.block_index_zero is False
    with pytest.raises(AttributeError, match="this package has no 'wrong'"):
        _ = model._own.wrong


def test_names_that_a_user_gives_come_first_too():
    model = LanguageModel(tiny.llama(), tiny.tokenizer(), rename={"mlp": "source"})
    assert model._own.layers[0].source.path == "model.layers.0.mlp"
    assert "Linear" not in str(type(model._own.layers[0]._own.source))


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
