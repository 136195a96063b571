"""Random programs of reads and writes at operations and modules, against plain arithmetic."""

from __future__ import annotations

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from torch import nn

from nnsight_magic.engine.model.model import Model
from nnsight_magic.errors import AlreadyRanError
from tests.hooks import hook_count

BLOCKS = 3
X = torch.tensor([[0.3, -0.7, 1.1]])


class Part(nn.Module):
    def forward(self, x):
        return torch.sin(x) * 2


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.part = Part()

    def forward(self, x):
        middle = x + 0.5
        y = middle * self.part(middle)
        y = outside(y)
        return y + x


def outside(y):
    return torch.tanh(y)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.units = nn.ModuleList(Block() for _ in range(BLOCKS))

    def forward(self, x):
        x = x * 3
        for block in self.units:
            x = block(x)
        return x - 1


# Every site in the order in which the forward comes to it, as written on the wrapped model.
def _sites() -> list[str]:
    sites = ["ops.mul.input", "ops.mul.output"]
    for index in range(BLOCKS):
        block = f"units[{index}]"
        inside = [
            "input", "ops.add[0].input", "ops.add[0].output", "part.input", "part.ops.sin.input",
            "part.ops.sin.output", "part.ops.mul.input", "part.ops.mul.output", "part.output",
            "ops.mul.input", "ops.mul.output", "ops.tanh.input", "ops.tanh.output",
            "ops.add[1].input", "ops.add[1].output", "output",
        ]  # fmt: skip
        sites += [f"{block}.{site}" for site in inside]
    return [*sites, "ops.sub.input", "ops.sub.output", "output"]


SITES = _sites()


def reference(changes: dict[str, list[float]], asked: str) -> torch.Tensor:
    """The value at a site, computed by hand, each change multiplying what stands at its site."""
    seen = {}

    def at(site, value):
        for factor in changes.get(site, ()):
            value = value * factor
        seen[site] = value
        return value

    x = at("ops.mul.output", at("ops.mul.input", X) * 3)
    for index in range(BLOCKS):
        b = f"units[{index}]."
        x = at(b + "input", x)
        middle = at(b + "ops.add[0].output", at(b + "ops.add[0].input", x) + 0.5)
        inner = at(b + "part.ops.sin.input", at(b + "part.input", middle))
        inner = at(b + "part.ops.sin.output", torch.sin(inner))
        inner = at(b + "part.ops.mul.output", at(b + "part.ops.mul.input", inner) * 2)
        inner = at(b + "part.output", inner)
        y = at(b + "ops.mul.output", at(b + "ops.mul.input", middle) * inner)
        y = at(b + "ops.tanh.output", torch.tanh(at(b + "ops.tanh.input", y)))
        x = at(b + "output", at(b + "ops.add[1].output", at(b + "ops.add[1].input", y) + x))
    at("output", at("ops.sub.output", at("ops.sub.input", x) - 1))
    return seen[asked]


def find(model, site: str):
    """The handle of a site, and the name of the value there."""
    path, _, kind = site.rpartition(".")
    return (eval(f"model.{path}", {"model": model}) if path else model), kind


actions = st.lists(
    st.tuples(st.sampled_from(SITES), st.sampled_from(["read", "whole", "in place"])),
    min_size=1,
    max_size=7,
)


@settings(max_examples=400, deadline=None)
@given(program=actions)
@example(  # a hook of a forward that has ended is called by a module that stood still meanwhile
    program=[
        ("units[2].ops.add[0].input", "read"),
        ("ops.mul.output", "read"),
        ("units[2].part.output", "read"),
        ("ops.mul.input", "read"),
    ]
)
@example(  # a write where a second forward stands, which the first has left behind unseen
    program=[
        ("units[1].part.input", "read"),
        ("ops.mul.input", "read"),
        ("units[1].ops.mul.input", "whole"),
    ]
)
@example(  # what was read by way of a third forward still counts for the second
    program=[
        ("units[0].ops.add[0].input", "read"),
        ("units[0].input", "read"),
        ("ops.sub.input", "read"),
        ("units[0].ops.add[0].input", "whole"),
    ]
)
@example(  # a write at an operation that the second forward, inside its module, cannot see
    program=[
        ("units[0].part.ops.sin.input", "read"),
        ("units[0].part.input", "read"),
        ("units[0].ops.mul.input", "whole"),
        ("units[1].input", "read"),
        ("units[0].output", "read"),
    ]
)
def test_random_programs_are_what_the_arithmetic_says(program):
    net = Net()
    model = Model(net)
    changes: dict[str, list[float]] = {}
    latest = -1  # the furthest site that was handed out or written
    with model.trace(X):
        for number, (site, action) in enumerate(program):
            handle, kind = find(model, site)
            place = SITES.index(site)
            factor = 1.5 + number
            if action == "read":
                value = getattr(handle, kind)
                assert torch.equal(value, reference(changes, site)), site
            elif place < latest:
                with pytest.raises(AlreadyRanError):
                    setattr(handle, kind, 0)
            elif action == "whole":
                setattr(handle, kind, getattr(handle, kind) * factor)
                changes.setdefault(site, []).append(factor)
            else:
                value = getattr(handle, kind)
                value *= factor
                changes.setdefault(site, []).append(factor)
            latest = max(latest, place)
        result = model.output
        assert torch.equal(result, reference(changes, "output"))
    assert hook_count(net) == 0
    assert not any("forward" in vars(module) for module in net.modules())
    assert torch._C._len_torch_function_stack() == 0
