"""Modules that their parent calls more than once: `.output` is that of the first call, whatever
stands before it. What is right is what plain hooks see and do."""

from __future__ import annotations

from itertools import permutations

import pytest
import torch
from torch import nn

from nnsight_magic import Model
from nnsight_magic.engine.running.called_again import called_again
from nnsight_magic.errors import AlreadyRanError

SIZE = 4


class Parent(nn.Module):
    """Modules, some of which `forward` calls again."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = (nn.Linear(SIZE, SIZE) for _ in range(3))
        self.act = nn.Tanh()
        self.norms = nn.ModuleList(nn.LayerNorm(SIZE) for _ in range(2))


class Twice(Parent):
    def forward(self, x):
        return self.c(self.act(self.b(self.act(self.a(x)))))


class InALoop(Parent):
    def forward(self, x):
        for module in (self.a, self.b):
            x = self.act(module(x))
        return self.c(x)


class ByAMethod(Parent):
    def forward(self, x):
        return self.c(self._both(self.act(self.a(x))))

    def _both(self, x):
        return self.act(self.b(x))


class ByAFunction(Parent):
    def forward(self, x):
        again = lambda y: self.act(y)  # noqa: E731
        return self.c(again(self.b(again(self.a(x)))))


class ByName(Parent):
    def forward(self, x):
        for name in ("a", "act", "b", "act", "c"):
            x = getattr(self, name)(x)
        return x


class ListTwice(Parent):
    def forward(self, x):
        for norm in self.norms:
            x = norm(x)
        x = self.act(self.a(x))
        for norm in self.norms:
            x = norm(x)
        return self.c(self.b(x))


class UnderTwoNames(Parent):
    def __init__(self):
        super().__init__()
        self.act2 = self.act

    def forward(self, x):
        return self.c(self.act2(self.b(self.act(self.a(x)))))


class Inner(Parent):
    """The whole parent is called twice."""

    def __init__(self):
        super().__init__()
        self.twice = Twice()

    def forward(self, x):
        return self.c(self.twice(self.b(self.twice(self.a(x)))))


class InSequence(nn.Sequential):
    def __init__(self):
        act = nn.Tanh()
        super().__init__(nn.Linear(SIZE, SIZE), act, nn.Linear(SIZE, SIZE), act)


KINDS = [Twice, InALoop, ByAMethod, ByAFunction, ByName, ListTwice, UnderTwoNames, Inner]
KINDS.append(InSequence)
X = torch.linspace(-1, 1, 3 * SIZE).view(3, SIZE)


def made(kind):
    torch.manual_seed(0)
    return kind().eval()


def paths(root):
    seen = {module: path for path, module in root.named_modules() if path}
    ran = []
    hooks = [m.register_forward_hook(lambda m, *_: ran.append(m)) for m in seen]
    with torch.no_grad():
        root(X)
    for hook in hooks:
        hook.remove()
    return [seen[module] for module in dict.fromkeys(ran)]


def first_calls(root, write=None):
    """What the first call of every module takes and gives, and what comes out in the end.

    Args:
        write: the module whose first output is replaced by zeros.
    """
    seen, hooks = {}, []
    for path, module in root.named_modules():

        def keep(module, args, output, path=path):
            first = path not in seen
            if first and path == write:
                output = output * 0
            seen.setdefault(path, (args[0], output))
            return output

        hooks.append(module.register_forward_hook(keep))
    with torch.no_grad():
        root(X)
    for hook in hooks:
        hook.remove()
    return seen


def at(model, path):
    handle = model
    for part in path.split("."):
        handle = handle[int(part)] if part.isdigit() else getattr(handle, part)
    return handle


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_read_does_not_depend_on_the_lines_before(kind):
    root = made(kind)
    right, model = first_calls(root), Model(root)
    for some in permutations(paths(root), 3):
        with model.trace(X):
            kinds = ("output", "input", "output")
            read = [getattr(at(model, path), each) for path, each in zip(some, kinds, strict=True)]
            end = model.output
        for path, value, which in zip(some, read, (1, 0, 1), strict=True):
            torch.testing.assert_close(value.value, right[path][which], msg=f"{some}: {path}")
        torch.testing.assert_close(end.value, right[""][1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_write_is_in_time_or_refused(kind):
    root = made(kind)
    clean, model = first_calls(root), Model(root)
    for read, written in permutations(paths(root), 2):
        right = first_calls(root, written)
        unmoved = torch.equal(clean[read][1], right[read][1])
        try:
            with model.trace(X):
                before = at(model, read).output
                at(model, written).output *= 0
                end = model.output
        except AlreadyRanError:
            continue
        assert unmoved, f"{written} was written after {read}, which depends on it"
        torch.testing.assert_close(before.value, clean[read][1])
        torch.testing.assert_close(end.value, right[""][1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_sweep_is_a_loop(kind):
    root = made(kind)
    model = Model(root)
    for read, written in permutations(paths(root), 2):

        def change(factor, read=read, written=written):
            at(model, written).output *= factor
            _ = at(model, read).output
            return model.output

        swept = model.sweep(X, change, [0.0, 2.0], progress=False)
        for factor, value in zip([0.0, 2.0], swept, strict=True):
            with model.trace(X):
                alone = change(factor)
            torch.testing.assert_close(value, alone.value)


def test_what_is_called_once_is_not_counted():
    """Hooks cost time: the usual parents need none beyond those that are touched."""
    from tests import tiny

    for architecture in ("llama", "mixtral"):
        root = tiny.build(architecture)
        parents = [*root.model.layers, *(block.self_attn for block in root.model.layers)]
        assert [
            child for parent in [root, root.model, *parents] for child in called_again(parent)
        ] == []


def test_a_class_that_is_given_another_forward_is_looked_at_again(monkeypatch):
    class Changed(Parent):
        def forward(self, x):
            return self.c(self.act(self.a(x)))

    module, x = Changed(), torch.randn(1, SIZE)
    model = Model(module)
    assert module.act not in called_again(module)
    monkeypatch.setattr(Changed, "forward", Twice.forward)
    assert module.act in called_again(module)
    with model.trace(x):
        model.b.output.save()  # between the two calls
        first = model.act.output.save()
    assert torch.equal(first, torch.tanh(module.a(x)))
    monkeypatch.undo()
    assert module.act not in called_again(module)
