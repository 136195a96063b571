"""Weights of tensor subclasses: quantised, wrapped, sparse, and those that refuse a look."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils._pytree import tree_map

from nnsight_magic import LanguageModel, Model
from nnsight_magic.engine.memory.weights import Weights
from nnsight_magic.errors import BadInputError, WrongValueError
from nnsight_magic.views import show
from tests import tiny

IDS = torch.tensor([[1, 2, 3, 4]])
aten = torch.ops.aten


class Quantised(torch.Tensor):
    """As torchao's: no memory of its own, and no operation but those of a linear module."""

    @staticmethod
    def __new__(cls, codes, scale):
        return torch.Tensor._make_wrapper_subclass(cls, codes.shape, dtype=torch.float32)

    def __init__(self, codes, scale):
        self.codes, self.scale = codes, scale

    def __tensor_flatten__(self):
        return ["codes", "scale"], None

    def dequantize(self):
        return self.codes.float() * self.scale

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        if func in (aten.detach.default, aten.alias.default):
            return cls(args[0].codes, args[0].scale)
        if func not in (aten.mm.default, aten.addmm.default, aten.t.default):
            raise NotImplementedError(f"{cls.__name__}: {func}")
        return func(*tree_map(lambda x: x.dequantize() if isinstance(x, cls) else x, args))


class WithoutFlatten(Quantised):
    """A wrapper that does not tell which tensors it holds."""

    __tensor_flatten__ = None


class Nested(Quantised):
    """A wrapper of a wrapper, as linear activations are quantised."""

    def __init__(self, codes, scale):
        self.inner = Quantised(codes, scale)

    codes = property(lambda self: self.inner.codes)
    scale = property(lambda self: self.inner.scale)

    def __tensor_flatten__(self):
        return ["inner"], None


class Hidden(WithoutFlatten):
    """A wrapper whose numbers stand in an object of another class."""

    def __init__(self, codes, scale):
        self.held = type("Held", (), {"codes": codes, "scale": scale})()

    codes = property(lambda self: self.held.codes)
    scale = property(lambda self: self.held.scale)


class Refusing(torch.Tensor):
    """Its own memory, and a `__torch_function__` that refuses to be looked at."""

    refused = frozenset(
        {torch.Tensor.view, torch.cat, torch.equal, torch.Tensor.as_strided, torch.Tensor.data_ptr}
    )
    codes = property(lambda self: self.as_subclass(torch.Tensor))

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        if func in cls.refused:
            raise NotImplementedError(func)
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
        return result.as_subclass(cls) if func is torch.Tensor.detach else result


WRAPPERS = [Quantised, WithoutFlatten, Nested, Hidden]
KINDS = [*WRAPPERS, Refusing]


def of_kind(kind, weight):
    weight = weight.detach()
    if kind is Refusing:
        return nn.Parameter(weight.clone().as_subclass(Refusing), requires_grad=False)
    scale = weight.abs().amax(1, keepdim=True) / 127
    codes = (weight / scale).round().to(torch.int8)
    return nn.Parameter(kind(codes, scale), requires_grad=False)


def language_model(kind):
    torch.manual_seed(0)
    module = tiny.llama().eval()
    for each in module.modules():
        if isinstance(each, nn.Linear):
            each.weight = of_kind(kind, each.weight)
    return LanguageModel(module, tiny.tokenizer())


def is_as_plain(model):
    """Whether a trace gives the numbers of plain transformers; and how many blocks it ran."""
    with model.trace(IDS) as tracer:
        logits = model.logits.save()
    with torch.no_grad():
        return torch.equal(logits, model.module(IDS).logits), tracer.report.blocks_run


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_of_such_weights_is_traced_and_a_change_of_them_is_seen(kind):
    model = language_model(kind)
    remembers = kind is not Hidden  # of what cannot be compared nothing is remembered
    assert is_as_plain(model) == (True, 3)
    assert is_as_plain(model) == (True, 0 if remembers else 3)
    weights = [layer.mlp.up_proj.weight for layer in model.module.model.layers]
    with torch.no_grad():
        weights[2].codes.zero_()
    assert is_as_plain(model)[0]
    weights[1].codes.data.zero_()  # torch counts no such write
    assert is_as_plain(model)[0]
    if kind in (Quantised, WithoutFlatten):
        weights[0].codes = torch.ones_like(weights[0].codes)
        assert is_as_plain(model)[0]


@pytest.mark.parametrize("kind", KINDS)
def test_everything_else_works_on_such_weights(kind):
    model = language_model(kind)
    block = model.layers[1]

    def silenced(index):
        model.layers[index].mlp.output[:] = 0
        return model.logits[0, -1].max()

    looped = []
    for index in range(2):
        with model.trace(IDS):
            looped.append(silenced(index))
    for found, expected in zip(model.sweep(IDS, silenced, range(2)), looped, strict=True):
        torch.testing.assert_close(found, expected.value)
    with model.trace(IDS):
        given, made = block.mlp.up_proj.input.save(), block.mlp.up_proj.output.save()
        inside = block.mlp.up_proj.ops.linear[0].output.save()
    assert torch.equal(made, block.mlp.up_proj.module(given.value)) and torch.equal(inside, made)
    assert type(block.mlp.up_proj.weight) is kind
    with model.generate(IDS, max_new_tokens=2) as tracer:
        ids = tracer.result.save()
    assert torch.equal(ids, model.module.generate(IDS, max_new_tokens=2, do_sample=False))
    assert model.scan(IDS)["model.layers.1.mlp.up_proj"].output.shape == (1, 4, 64)
    shown = show(block.mlp.up_proj.weight, "weight")
    assert "(64, 32)" in repr(shown)


@pytest.mark.parametrize("how", ["parameter", "buffer", "attribute"])
@pytest.mark.parametrize("kind", KINDS)
def test_such_a_tensor_is_looked_at_wherever_a_module_holds_it(kind, how):
    holder = nn.Module()
    weight = of_kind(kind, torch.randn(6, 5))
    if how == "buffer":
        holder.register_buffer("weight", weight)
    elif how == "attribute":
        holder.__dict__["weight"] = weight
    else:
        holder.weight = weight
    weights = Weights(lambda part: [holder])
    assert weights.hold([0])
    weight.codes.data[3] = 7
    assert weights.hold([0]) == (kind is Hidden)


@pytest.mark.parametrize("layout", ["coo", "csr", "csc", "bsr", "bsc"])
@pytest.mark.filterwarnings("ignore:Sparse")
def test_the_values_of_a_sparse_weight_are_looked_at(layout):
    holder, dense = nn.Module(), torch.eye(6)
    block = {"blocksize": (2, 2)} if layout in ("bsr", "bsc") else {}
    form = torch.sparse_coo if layout == "coo" else getattr(torch, f"sparse_{layout}")
    holder.weight = weight = dense.to_sparse(layout=form, **block)
    weights = Weights(lambda part: [holder])
    assert weights.hold([0])
    values = weight._values() if layout == "coo" else weight.values()
    values.data.view(-1)[0] = 3
    assert not weights.hold([0])


class Makes(nn.Module):
    def forward(self, x):
        return Quantised(x.to(torch.int8), torch.ones(len(x), 1))


class Uses(nn.Module):
    def forward(self, weight):
        return nn.functional.linear(torch.eye(weight.shape[1]), weight)


def test_a_value_of_such_a_class_is_refused_in_words_and_replaced_as_a_whole():
    model, x = Model(nn.Sequential(Makes(), Uses())), torch.tensor([[1.0, 2.0], [3.0, 4.0]])
    with model.trace(x):
        assert torch.equal(model[1].output, x.T)
    refusal = pytest.raises(WrongValueError, match=r"is a Quantised.*\n.*\n.*put a plain tensor")
    with refusal, model.trace(x):
        _ = model[0].output
    with model.trace(x):
        model[0].output = x + 1
        assert torch.equal(model[1].output, x.T + 1)


def test_what_gives_no_plain_tensor_is_not_shown_but_told():
    weight = of_kind(Quantised, torch.randn(6, 5))
    Closed = type("Closed", (Quantised,), {"dequantize": torch.Tensor.dequantize})
    with pytest.raises(BadInputError, match="a Closed keeps its numbers in a form of its own"):
        show(Closed(weight.codes, weight.scale))
