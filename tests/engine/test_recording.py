"""Which traces record a graph: those whose block needs one, and no others in the same cell."""

import linecache

import pytest
import torch
import torch.nn.functional as F

from nnsight_magic.errors import GraphError, NnsightWarning

IDS = torch.tensor([[1, 2, 3, 4, 5]])


@pytest.fixture
def hf(tiny):
    return tiny("gpt2")


# A program, and which of its traces have a graph, in their order.
PROGRAMS = {
    "nothing": ("with m.trace(IDS):\n    h = m.layers[1].output\nn(h)", [False]),
    "in the block": (
        "with m.trace(IDS):\n    h = m.layers[1].output\n    m.logits.sum().backward()\nn(h)",
        [True],
    ),
    "grad behind the block": (
        "with m.trace(IDS):\n    h = m.layers[1].output\n    loss = m.logits.sum()\n"
        "loss.backward()\nh.grad.sum()\nn(h)",
        [True],
    ),
    "backward of what the block bound": (
        "with m.trace(IDS):\n    h = m.logits\nh.float().sum().backward()\nn(h)",
        [True],
    ),
    "of an expression": (
        "with m.trace(IDS):\n    h = m.logits\n((h - 1) ** 2)[0].sum().backward()\nn(h)",
        [True],
    ),
    "by a function of torch": (
        "with m.trace(IDS):\n    h = m.logits\nF.cross_entropy(h[0], IDS[0]).backward()\nn(h)",
        [True],
    ),
    "autograd.grad": (
        "with m.trace(IDS):\n    h = m.layers[1].output\n    loss = m.logits.sum()\n"
        "torch.autograd.grad(loss, h)\nn(h)",
        [True],
    ),
    "into a dict": (
        "acts = {}\nwith m.trace(IDS):\n    acts[0] = m.layers[1].output\n"
        "    loss = m.logits.sum()\nloss.backward()\nacts[0].grad.sum()\nn(acts[0])",
        [True],
    ),
    "a lambda in the block": (
        "with m.trace(IDS):\n    h = m.logits\n    f = lambda: h.sum().backward()\n    f()\nn(h)",
        [True],
    ),
    "a probe is trained behind it": (
        "with m.trace(IDS):\n    h = m.layers[1].output\nn(h)\n"
        "probe = torch.nn.Linear(32, 1)\nopt = torch.optim.SGD(probe.parameters(), 0.1)\n"
        "for _ in range(3):\n    opt.zero_grad()\n    loss = (probe(h) ** 2).mean()\n"
        "    loss.backward()\n    opt.step()",
        [False],
    ),
    "a probe of weights alone": (
        "with m.trace(IDS):\n    h = m.layers[1].output\nn(h)\n"
        "w = torch.zeros(32, requires_grad=True)\n"
        "for _ in range(3):\n    loss = F.mse_loss(h @ w, torch.ones(1, 5))\n    loss.backward()\n"
        "    w.grad.zero_()",
        [False],
    ),
    "states of many prompts": (
        "states = []\nfor _ in range(2):\n    with m.trace(IDS):\n"
        "        states.append(m.layers[1].output)\nn(states[0])\n"
        "probe = torch.nn.Linear(32, 1)\nprobe(torch.cat(states)).sum().backward()",
        [False],
    ),
    "two traces, the second one with gradients": (
        "with m.trace(IDS):\n    h = m.layers[1].output\nn(h)\n"
        "with m.trace(IDS):\n    g = m.layers[1].output\n    m.logits.sum().backward()\nn(g)",
        [False, True],
    ),
    "two on one line, told apart": (
        "with m.trace(IDS): h = m.layers[1].output\n"
        "with m.trace(IDS): g = m.logits; g.sum().backward()\nn(h); n(g)",
        [False, True],
    ),
    "in a function": (
        "def collect():\n    with m.trace(IDS):\n        return m.layers[1].output\n"
        "def train(x):\n    w = torch.zeros(32, requires_grad=True)\n"
        "    (x @ w).sum().backward()\n"
        "h = collect()\nn(h)\ntrain(h)",
        [False],
    ),
    "invokes of a block that asks": (
        "with m.trace() as t:\n    with t.invoke(IDS):\n        a = m.layers[1].output\n"
        "        loss = m.logits.sum()\n    loss.backward()\nn(a)",
        [True],
    ),
    "asked for": ("with m.trace(IDS, grad=True):\n    h = m.layers[1].output\nn(h)", [True]),
    "refused": (
        "with m.trace(IDS, grad=False):\n    h = m.layers[1].output\nn(h)\nx = 'backward'",
        [False],
    ),
}


@pytest.fixture(params=["source", "no source"])
def run(request, model):
    """Runs a program as a cell of a notebook is run; gives whether each value has a graph."""

    def program(text):
        found = []
        name = f"<cell {id(found)}>"
        if request.param == "source":
            linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
        namespace = {"m": model, "IDS": IDS, "torch": torch, "F": F}
        namespace["n"] = lambda value: found.append(value.requires_grad)
        try:
            exec(compile(text, name, "exec"), namespace)
        finally:
            linecache.cache.pop(name, None)
        return found

    program.has_source = request.param == "source"
    return program


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_trace_that_needs_a_graph_has_one_and_no_other(run, name):
    text, expected = PROGRAMS[name]
    if not run.has_source:
        # Only that nothing that is needed is missing: the whole function is asked.
        if "probe" in name:  # a graph that nobody needs: the second step says what to do
            with pytest.raises(GraphError, match="grad=False"):
                run(text)
            return
        assert all(has or not needs for has, needs in zip(run(text), expected, strict=True))
        return
    assert run(text) == expected


def read_elsewhere(model):
    with model.trace(IDS):
        hidden, logits = model.layers[1].output, model.logits
    return hidden, logits


def test_backward_in_another_function_gets_the_hint(model):
    _, logits = read_elsewhere(model)
    with pytest.raises(GraphError, match=r"model.trace\(…, grad=True\)"):
        logits.sum().backward()
    hidden, logits = read_elsewhere(model)
    with pytest.raises(RuntimeError, match=r"model.trace\(…, grad=True\)"):
        torch.autograd.grad(logits.sum(), hidden)


def test_a_gradient_that_is_not_there_is_told(model):
    hidden, _ = read_elsewhere(model)
    with pytest.warns(NnsightWarning, match=r"layers\[1\].output(\[0\])? has no gradient"):
        assert hidden.grad is None


def test_a_second_backward_is_told_where_the_graph_came_from(model):
    with model.trace(IDS, grad=True):
        hidden = model.layers[1].output
    w = torch.ones(32, requires_grad=True)
    (hidden @ w).sum().backward()
    with pytest.raises(GraphError, match=r"grad=False"):
        (hidden @ w).sum().backward()
    (hidden.detach() @ w).sum().backward()
    (hidden.detach() @ w).sum().backward()


def slope(model):
    torch.autograd.backward(model.logits.sum())


def test_backward_as_a_function_is_told_as_well(model):
    """Nothing in the block says that a graph is needed."""
    with pytest.raises(RuntimeError, match="does not require grad") as caught:  # noqa: SIM117
        with model.trace(IDS):
            slope(model)
    assert any("model.trace(…, grad=True)" in note for note in caught.value.__notes__)


def test_backward_as_a_function_goes_backward(model):
    with model.trace(IDS, grad=True):
        hidden = model.layers[0].output
        slope(model)
    assert hidden.grad.abs().sum() > 0
