"""Provokes errors of torch in suspended forwards, at random depths of the stack on either side.

`python -m tests.engine.provoke 1000` ends with the exit status 0 and says how many rose, if each
was an ordinary exception, with torch's own text, on the line that asked for it. It is a program of
its own because what it tries is whether the process lives. `TEST_DEVICE=cuda` puts the model onto
a device.
"""

from __future__ import annotations

import functools
import os
import random
import re
import sys
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

from nnsight_magic import LanguageModel
from tests import tiny as tiny_models
from tests.hooks import hook_count

DEVICE = os.environ.get("TEST_DEVICE", "cpu")
IDS = torch.tensor([[5, 6, 7, 8]], device=DEVICE)
X = torch.linspace(-1, 1, 8, device=DEVICE).view(2, 4)
TOO_MUCH = 2**50  # bytes

ERRORS: dict[str, Callable[[torch.Tensor], Any]] = {
    "index": lambda x: x.cpu()[:, torch.tensor([99])],  # on CUDA it would spoil the whole context
    "shape": lambda x: x @ x.new_ones(3, 3),
    "view": lambda x: x.view(7),
    "memory": lambda x: torch.empty(TOO_MUCH, dtype=torch.uint8, device=x.device),
    "kind": lambda x: nn.functional.embedding(x, x.reshape(2, -1)),
    "check": lambda x: torch._assert_async(x) if x.is_cpu else x.view(11),
    "backward": lambda x: Fails.apply(x.detach().requires_grad_()).sum().backward(),
}


class Fails(torch.autograd.Function):
    """Its gradient cannot be had."""

    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 1

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> torch.Tensor:
        return grad.view(13)


class Faulty(nn.Module):
    """Raises in the call that it is told to, and in each call catches an error."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner
        self.error: str | None = None
        self.good_calls = 0
        self.depth = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return deeper(self.depth, lambda: self.compute(x))

    def compute(self, x: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            try:
                ERRORS[random.choice(list(ERRORS))](x)
            except (RuntimeError, IndexError):  # the model catches it itself
                pass
            if self.error is not None:
                if self.good_calls == 0:
                    ERRORS[self.error](x)
                self.good_calls -= 1
        return self.inner(x)


class Flat(nn.Module):
    """As few calls as can be between the coroutine's beginning and the error.

    torch looks at 64 callers: in a deep model it does not come as far as the beginning.
    """

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4)
        self.faulty, self.last = Faulty(nn.Linear(4, 4)), nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.faulty(self.second(self.first(x))))


# ── the depth of the stack ────────────────────────────────────────────────────────────────


class ByProperty:
    def __init__(self, act: Callable[[], Any]):
        self.act = act

    @property
    def result(self) -> Any:
        return self.act()


@contextmanager
def managed():
    yield


def by_with(act):
    with managed():
        return act()


def by_replacing(act):
    results = []
    re.sub("x", lambda _: results.append(act()) or "", "x")
    return results[0]


def by_sorting(act):
    results = []
    sorted([0], key=lambda _: results.append(act()) or 0)
    return results[0]


WAYS = [
    by_with,
    by_replacing,
    by_sorting,
    lambda act: next(map(ByProperty.result.fget, [ByProperty(act)])),
    lambda act: ByProperty(act).result,
    lambda act: next(act() for _ in [0]),
    lambda act: functools.reduce(lambda _, each: each(), [act], None),
    lambda act: functools.partial(act)(),
    lambda act: max([0], key=lambda _: 0) or act(),
]


def deeper(depth: int, act: Callable[[], Any]) -> Any:
    """Call `act` below `depth` calls, each by one of the ways in which Python calls."""
    if depth == 0:
        return act()
    return random.choice(WAYS)(lambda: deeper(depth - 1, act))


def anywhere(act: Callable[[], Any]) -> Any:
    return deeper(random.choice([0, random.randrange(25)]), act)


# ── what is run ───────────────────────────────────────────────────────────────────────────


def trace(model: LanguageModel, faulty: Faulty) -> None:
    with model.trace(X, grad=random.random() < 0.5):
        if random.random() < 0.5:
            anywhere(lambda: model.first.output).mul_(0.5)
        anywhere(lambda: model.second.output)
        anywhere(lambda: model.last.output)


def trace_to_the_end(model: LanguageModel, faulty: Faulty) -> None:
    with model.trace(X, full=True):
        anywhere(lambda: model.first.output)


def invokes(model: LanguageModel, faulty: Faulty) -> None:
    with model.trace() as tracer:
        with tracer.invoke(X):
            hidden = anywhere(lambda: model.first.output)
        with tracer.invoke(X):
            model.second.output = hidden
            anywhere(lambda: model.last.output)


def sweep(model: LanguageModel, faulty: Faulty) -> None:
    def patch(row, column):
        model.first.output[row, column] = 0
        return anywhere(lambda: model.last.output)

    model.sweep(X, patch, [(0, 1), (1, 2), (1, 3)], progress=False)


def function_of_a_sweep(model: LanguageModel, faulty: Faulty) -> None:
    error, faulty.error = faulty.error, None

    def fail(row):
        hidden = anywhere(lambda: model.first.output)
        with torch.enable_grad():
            deeper(faulty.depth, lambda: ERRORS[error](hidden.value[row:]))

    model.sweep(X, fail, [0, 1], progress=False)


def backward(model: LanguageModel, faulty: Faulty) -> None:
    faulty.error = None
    with model.trace(X, grad=True):
        hidden = anywhere(lambda: model.first.output)
        anywhere(lambda: Fails.apply(hidden).sum().backward())


def generation(model: LanguageModel, faulty: Faulty) -> None:
    faulty.good_calls = random.randrange(3)
    with model.generate(IDS, max_new_tokens=5, do_sample=False, pad_token_id=0) as tracer:
        for _ in tracer.steps:
            anywhere(lambda: model.embed.output)
            anywhere(lambda: model.logits)


def block_of_a_sweep(model: LanguageModel, faulty: Faulty) -> None:
    def patch(block, position):
        model.layers[block].output[:, position] = 0
        return anywhere(lambda: model.logits[:, -1])

    model.sweep(IDS, patch, [(0, 1), (1, 2), (1, 3)], progress=False)


FLAT = [trace, trace_to_the_end, invokes, sweep, function_of_a_sweep, backward]
DEEP = [generation, block_of_a_sweep]


def text(error: BaseException) -> str:
    """What torch says in its first sentence, without the sizes and without a C++ stack trace."""
    return re.sub(r"\d+", "#", re.split(r"\. |\n|Exception raised from", str(error))[0])


def expected(name: str) -> BaseException:
    """The error in an ordinary call."""
    try:
        ERRORS[name](X)
    except (RuntimeError, IndexError) as error:
        return error
    raise AssertionError(f"{name} raises nothing")


EXPECTED = {name: expected(name) for name in ERRORS}


def provoke(model: LanguageModel, faulty: Faulty, run: Callable, name: str) -> None:
    """One error, and what has to hold of it and of the model."""
    faulty.error, faulty.good_calls = name, 0
    faulty.depth = random.choice([0, random.randrange(8)])
    with pytest.raises((RuntimeError, IndexError)) as raised:
        anywhere(lambda: run(model, faulty))
    wanted = EXPECTED["backward" if run is backward else name]
    assert raised.type is type(wanted) and text(raised.value) == text(wanted)
    assert run.__name__ in [each.name for each in raised.traceback]  # the line that asked for it
    assert hook_count(model.module) == 0
    assert not any("forward" in vars(module) for module in model.module.modules())


def main(count: int) -> None:
    random.seed(0)
    torch.manual_seed(0)
    flat, deep = Flat().to(DEVICE), tiny_models.build("gpt2").to(DEVICE)
    with torch.no_grad():
        plain = flat(X)
    deep.transformer.drop = Faulty(deep.transformer.drop)
    deep.transformer.h[1].mlp = Faulty(deep.transformer.h[1].mlp)
    deep_faults = [deep.transformer.drop, deep.transformer.h[1].mlp]
    flat_model, deep_model = LanguageModel(flat), LanguageModel(deep)
    for number in range(count):
        name = random.choice(list(ERRORS))
        if number % 5:
            provoke(flat_model, flat.faulty, random.choice(FLAT), name)
        else:
            run = random.choice(DEEP)
            faulty = deep_faults[run is block_of_a_sweep or random.randrange(2)]
            provoke(deep_model, faulty, run, name)
            faulty.error = None
    flat.faulty.error = None
    with flat_model.trace(X):
        result = flat_model.last.output
    assert torch.equal(result, plain)
    print(f"{count} errors")


if __name__ == "__main__":
    main(int(sys.argv[1]))
