"""What remembered block outputs are keyed by: whatever changes the numbers, they are run anew."""

from __future__ import annotations

import contextlib
import copy
import sys
from functools import partial
from types import SimpleNamespace

import numpy
import pytest
import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from transformers.models.llama import modeling_llama

from nnsight_magic import LanguageModel
from nnsight_magic.engine.model.model import Model
from tests.hooks import hook_count, hooked, hooked_block

IDS = torch.tensor([[5, 6, 7, 8, 9, 10]])


@pytest.fixture
def hf(tiny):
    return tiny("llama")


@pytest.fixture
def model(hf):
    return LanguageModel(hf)


def by_hook(hf, block, ids=IDS, **kwargs):
    """What a block gives in a plain forward."""
    seen = []
    with hooked_block(block, lambda out: seen.append(out.clone())), torch.no_grad():
        hf(ids, use_cache=False, **kwargs)
    return seen[0]


def last(model, ids=IDS, **kwargs):
    with model.trace(ids, **kwargs) as tracer:
        hidden = model.layers[-1].output
    return hidden.value, tracer.report.blocks_skipped


def doubled(module, args, output):
    return output * 2


class DoubledFunctions(TorchFunctionMode):
    def __torch_function__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result * 2 if func is nn.functional.linear else result


class DoubledOperators(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        return result * 2 if func is torch.ops.aten.mm.default else result


CHANGES = {
    "a weight in place": lambda hf: hf.model.layers[0].mlp.up_proj.weight.data.mul_(2),
    "a weight's storage": lambda hf: setattr(
        hf.model.layers[0].mlp.up_proj.weight, "data", torch.ones(64, 32)
    ),
    "a weight replaced": lambda hf: setattr(
        hf.model.layers[0].mlp.up_proj, "weight", nn.Parameter(torch.ones(64, 32))
    ),
    "a module replaced": lambda hf: setattr(hf.model.layers[0].mlp, "act_fn", nn.ReLU()),
    "a block replaced": lambda hf: hf.model.layers.__setitem__(0, hf.model.layers[1]),
    "a forward replaced": lambda hf: setattr(hf.model.layers[0].mlp, "forward", lambda x: x * 2),
    "an attribute": lambda hf: setattr(hf.model.layers[0].self_attn, "scaling", 3.0),
    "a norm's epsilon": lambda hf: setattr(
        hf.model.layers[0].input_layernorm, "variance_epsilon", 3.0
    ),
    "half precision": lambda hf: hf.bfloat16(),
    "double precision": lambda hf: hf.double(),
    "a forward hook": lambda hf: hf.model.layers[0].register_forward_hook(doubled),
    "a forward pre-hook": lambda hf: hf.model.layers[0].register_forward_pre_hook(
        lambda module, args: (args[0] * 2, *args[1:])
    ),
    "the attention's implementation": lambda hf: hf.set_attn_implementation("eager"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_after_a_change_of_the_model_the_blocks_run_anew(hf, model, change):
    last(model)
    before, skipped = last(model)
    assert skipped == 3
    with torch.no_grad():
        CHANGES[change](hf)
    after, skipped = last(model)
    assert skipped == 0
    assert torch.equal(after, by_hook(hf, hf.model.layers[-1]))
    if change != "the attention's implementation":  # the same numbers up to rounding
        assert not torch.equal(after.float(), before.float())


class Scaled(nn.Module):
    """Multiplies what a module gives by a number that it keeps somewhere."""

    def __init__(self, inner, kept, read):
        super().__init__()
        self.inner, self.kept, self.read = inner, kept, read

    def forward(self, x):
        return self.inner(x) * float(self.read(self.kept))


class Plain:
    def __init__(self):
        self.factor = 1.0

    def __call__(self):
        return self.factor


class Slotted:
    __slots__ = ("factor",)

    def __init__(self):
        self.factor = 1.0


def enclosing(factor):
    def read(new=None):
        nonlocal factor
        factor = factor if new is None else new
        return factor

    return read


# Where a module may keep a number; how it reads it; and how the number is changed in place.
KEPT = {
    "a namespace": (
        SimpleNamespace(factor=1.0),
        lambda kept: kept.factor,
        lambda kept: setattr(kept, "factor", 3.0),
    ),
    "a namespace in containers": (
        {"a": [SimpleNamespace(factor=1.0)]},
        lambda kept: kept["a"][0].factor,
        lambda kept: setattr(kept["a"][0], "factor", 3.0),
    ),
    "nested containers": (
        {"a": {"b": [{"c": 1.0}]}},
        lambda kept: kept["a"]["b"][0]["c"],
        lambda kept: kept["a"]["b"][0].update(c=3.0),
    ),
    "a numpy array": (
        numpy.ones((4, 5)),
        lambda kept: kept[3, 2],
        lambda kept: kept.__setitem__((3, 2), 3.0),
    ),
    "an array of objects": (
        numpy.array([[1.0], "a"], dtype=object),
        lambda kept: kept[0][0],
        lambda kept: kept[0].__setitem__(0, 3.0),
    ),
    "an array in a list": (
        [numpy.ones(3)],
        lambda kept: kept[0][1],
        lambda kept: kept[0].__setitem__(1, 3.0),
    ),
    "a tensor in a list of lists": (
        [[torch.ones(3)]],
        lambda kept: kept[0][0][1],
        lambda kept: kept[0][0].__setitem__(1, 3.0),
    ),
    "an object": (
        Plain(),
        lambda kept: kept.factor,
        lambda kept: setattr(kept, "factor", 3.0),
    ),
    "an object that is called": (
        Plain(),
        lambda kept: kept(),
        lambda kept: setattr(kept, "factor", 3.0),
    ),
    "an object with slots": (
        Slotted(),
        lambda kept: kept.factor,
        lambda kept: setattr(kept, "factor", 3.0),
    ),
    "a function's surroundings": (
        enclosing(1.0),
        lambda kept: kept(),
        lambda kept: kept(3.0),
    ),
    "a partial's arguments": (
        partial(max, [1.0], key=abs),
        lambda kept: kept(),
        lambda kept: kept.args[0].__setitem__(0, 3.0),
    ),
}


@pytest.mark.parametrize("where", KEPT)
def test_a_number_is_seen_to_change_wherever_a_module_keeps_it(hf, where):
    kept, read, change = (copy.deepcopy(KEPT[where][0]), *KEPT[where][1:])
    if where == "a function's surroundings":
        kept = enclosing(1.0)  # a copy of a function is the function
    hf.model.layers[0].mlp = Scaled(hf.model.layers[0].mlp, kept, read).eval()
    model = LanguageModel(hf)
    last(model)
    before, skipped = last(model)
    assert skipped == 3
    change(kept)
    after, skipped = last(model)
    assert skipped == 0
    assert torch.equal(after, by_hook(hf, hf.model.layers[-1]))
    assert not torch.equal(after, before)


FUNCTIONS = {
    "in torch.nn.functional": (nn.functional, "silu", lambda x, inplace=False: x * 2),
    "called by a library": (
        nn.functional,
        "scaled_dot_product_attention",
        lambda query, key, value, **_: query * 0.5,
    ),
    "in torch": (torch, "rsqrt", torch.abs),
    "a method": (torch.Tensor, "pow", lambda x, _: x.abs() + 1),
    "a function of the model's file": (
        modeling_llama,
        "apply_rotary_pos_emb",
        lambda q, k, *_, **__: (q * 2, k),
    ),
}


@pytest.mark.parametrize("which", FUNCTIONS)
def test_a_function_that_is_replaced_is_seen(hf, model, monkeypatch, which):
    last(model)
    before, skipped = last(model)
    assert skipped == 3
    place, name, mine = FUNCTIONS[which]
    with monkeypatch.context() as patched:
        patched.setattr(place, name, mine)
        after, skipped = last(model)
        assert skipped == 0
        assert torch.equal(after, by_hook(hf, hf.model.layers[-1]))
        assert not torch.equal(after, before)
    again, _ = last(model)
    assert torch.equal(again, before)


def test_nothing_is_remembered_in_training(hf, model):
    last(model)
    hf.train()
    assert last(model)[1] == last(model)[1] == 0


@pytest.mark.parametrize("mode", [DoubledFunctions, DoubledOperators])
def test_a_mode_of_the_users_sees_every_block(hf, model, mode):
    plain, _ = last(model)
    with mode():
        within, skipped = last(model)
        expected = by_hook(hf, hf.model.layers[-1])
    assert skipped == 0
    assert torch.equal(within, expected)
    assert not torch.equal(within, plain)
    after, skipped = last(model)
    assert skipped == 3  # what was computed under the mode is not remembered
    assert torch.equal(after, plain)


def test_operations_and_skips_leave_what_is_remembered(hf, model):
    last(model)
    with model.trace(IDS) as tracer:
        pattern = model.layers[-1].attn.pattern
    assert tracer.report.blocks_skipped == 2
    with model.trace(IDS):
        model.layers[1].skip(model.layers[1].input)
        skipped = model.layers[-1].output
    hidden, blocks = last(model)
    assert blocks == 3
    assert torch.equal(hidden, by_hook(hf, hf.model.layers[-1]))
    assert not torch.equal(hidden, skipped)
    assert pattern.shape == (1, 4, 6, 6)


def test_a_default_device_is_no_reason_to_run_everything(model):
    last(model)
    with torch.device("cpu"):
        assert last(model)[1] == 3


def test_autocast_is_part_of_the_key(hf, model):
    last(model)
    with torch.autocast("cpu", torch.bfloat16):
        within, skipped = last(model)
        assert skipped == 0
        assert torch.equal(within, by_hook(hf, hf.model.layers[-1]))
    assert last(model)[1] == 3


def test_arguments_of_the_forward_are_part_of_the_key(hf, model):
    last(model)
    positions = torch.arange(6)[None] + 3
    moved, skipped = last(model, position_ids=positions)
    assert skipped == 0
    assert torch.equal(moved, by_hook(hf, hf.model.layers[-1], position_ids=positions))
    masked, skipped = last(model, attention_mask=torch.tensor([[0, 0, 1, 1, 1, 1]]))
    assert skipped == 0
    assert not torch.equal(masked, moved)


def test_an_adapter_that_is_switched_off_is_off(tiny):
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(target_modules=["q_proj", "down_proj"], init_lora_weights=False)
    adapted = get_peft_model(tiny("llama"), config).eval()
    model, block = LanguageModel(adapted), adapted.base_model.model.model.layers[-1]
    for context in (contextlib.nullcontext, adapted.disable_adapter, contextlib.nullcontext):
        with context():
            hidden, _ = last(model)
            assert torch.equal(hidden, by_hook(adapted, block))


def test_the_budget_bounds_what_is_held_and_the_least_recently_used_goes_first(hf, model):
    size = 6 * 32 * 4  # bytes of one block's output; a touch leaves its block's and the one before
    other = IDS + 1
    model.resume.budget = 3 * size
    last(model)
    assert model.resume.nbytes == 2 * size
    last(model, other)
    assert model.resume.nbytes == 3 * size
    assert last(model, other)[1] == last(model)[1] == 3  # the last block's are enough
    model.resume.budget = size
    assert len(model.resume) == 1
    assert last(model)[1] == 3
    assert last(model, other)[1] == 0
    model.resume.budget = 0
    assert (len(model.resume), last(model)[1], last(model)[1]) == (0, 0, 0)


def test_it_is_cleared_and_switched_off(hf, model):
    expected = by_hook(hf, hf.model.layers[-1])
    last(model)
    assert last(model)[1] == 3
    model.resume.clear()
    assert (len(model.resume), last(model)[1]) == (0, 0)
    model.resume.enabled = False
    off, skipped = last(model)
    assert skipped == 0
    assert torch.equal(off, expected)
    model.resume.enabled = True
    assert last(model)[1] == 3
    assert last(model, resume=False)[1] == 0
    assert hook_count(hf) == 0


class Shares(nn.Module):
    """A block that reads what the first one left in a dict that all are given."""

    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)

    def forward(self, hidden, shared=None):
        first = shared.setdefault("first", self.map(hidden))
        return hidden + self.map(first)


class Sharing(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Linear(3, 4)
        self.layers = nn.ModuleList(Shares() for _ in range(3))

    def forward(self, x):
        shared, hidden = {}, self.embed(x)
        for layer in self.layers:
            hidden = layer(hidden, shared=shared)
        return hidden


def test_blocks_that_leave_something_for_later_ones_are_run():
    torch.manual_seed(0)
    root, x = Sharing().eval(), torch.ones(1, 5, 3)
    model = Model(root)
    with model.trace(x):
        model.layers[1].output.save()
    with model.trace(x):
        behind = model.layers[2].map.output
    with torch.no_grad():
        seen = []
        with hooked(root.layers[2].map, lambda out: seen.append(out.clone())):
            root(x)
    assert torch.equal(behind, seen[0])

    def change(position):
        model.layers[1].output[:, position] *= 2
        return model.layers[2].output

    def alone(position):
        with model.trace(x, resume=False):
            return change(position).value

    for mine, position in zip(
        model.sweep(x, change, range(3), progress=False), range(3), strict=True
    ):
        torch.testing.assert_close(mine, alone(position))


def test_after_a_change_of_a_library_class_the_blocks_run_anew(hf, model, monkeypatch):
    last(model)
    monkeypatch.setattr(type(hf.model.layers[0].mlp), "forward", lambda self, x: x * 2)
    hidden, skipped = last(model)
    assert skipped == 0
    assert torch.equal(hidden, by_hook(hf, hf.model.layers[-1]))


def test_another_attention_under_the_same_name_is_another(hf, model):
    from transformers import AttentionInterface
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    AttentionInterface.register("mine", sdpa_attention_forward)
    hf.set_attn_implementation("mine")
    for factor in (1, 2, 3, 4):  # functions that may come to stand at the same address
        AttentionInterface.register(
            "mine",
            lambda *args, factor=factor, **kwargs: (
                sdpa_attention_forward(*args, **kwargs)[0] * factor,
                None,
            ),
        )
        hidden, skipped = last(model)
        assert skipped == 0
        assert torch.equal(hidden, by_hook(hf, hf.model.layers[-1]))
    assert last(model)[1] > 0


def steer(x):
    return x * strength


strength = 2.0


class Mapped(nn.Module):
    def __init__(self):
        super().__init__()
        self.map = nn.Linear(4, 4)


class Steered(Mapped):
    def forward(self, hidden):
        return steer(self.map(hidden))


class SteeredByALibrarysDecorator(Mapped):
    @torch.no_grad()
    def forward(self, hidden):
        return steer(self.map(hidden))


class SteeredByTwo(Mapped):
    @torch.no_grad()
    @torch.autocast("cpu", enabled=False)
    def forward(self, hidden):
        return steer(self.map(hidden))


def steering(forward):
    return lambda self, hidden: steer(forward(self, hidden))


class SteeredByADecorator(Mapped):
    @steering
    def forward(self, hidden):
        return self.map(hidden)


class SteeredInAComprehension(Mapped):
    def forward(self, hidden):
        return torch.stack([steer(row) for row in self.map(hidden)])


class SteeredByAStaticMethod(Mapped):
    @staticmethod
    def change(hidden):
        return steer(hidden)

    def forward(self, hidden):
        return self.change(self.map(hidden))


class SteeredByAClassMethod(Mapped):
    @classmethod
    def change(cls, hidden):
        return steer(hidden)

    def forward(self, hidden):
        return self.change(self.map(hidden))


class SteeredByAProperty(Mapped):
    @property
    def steered(self):
        return steer

    def forward(self, hidden):
        return self.steered(self.map(hidden))


class SteeredByAFunctionOfAModule(Mapped):
    def forward(self, hidden):
        return here.steer(self.map(hidden))


here = sys.modules[__name__]
STEERED = Mapped.__subclasses__()


def double(x):
    return x * 2


REDEFINED = {
    "a constant": lambda patch: patch.setitem(globals(), "strength", 3.0),
    "a function": lambda patch: patch.setitem(globals(), "steer", double),
    "a function's code": lambda patch: patch.setattr(steer, "__code__", double.__code__),
}


@pytest.mark.parametrize("block", STEERED, ids=lambda cls: cls.__name__)
@pytest.mark.parametrize("change", REDEFINED)
def test_what_a_forward_calls_by_name_may_be_defined_anew(change, block, monkeypatch):
    torch.manual_seed(0)
    root = nn.ModuleDict({"layers": nn.ModuleList(block() for _ in range(3))}).eval()
    root.forward = lambda x: root["layers"][2](root["layers"][1](root["layers"][0](x)))
    model, x = Model(root), torch.ones(1, 5, 4)

    def last_of(resume):
        with model.trace(x, resume=resume) as tracer:
            hidden = model.layers[-1].output
        return hidden.value, tracer.report.blocks_skipped

    last_of(resume=True)
    assert last_of(resume=True)[1] == 3
    REDEFINED[change](monkeypatch)
    hidden, skipped = last_of(resume=True)
    assert skipped == 0
    assert torch.equal(hidden, last_of(resume=False)[0])
