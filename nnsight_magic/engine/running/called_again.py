"""Which modules their parent may call more than once: `act(b(act(a(x))))`.

A forward may stand in the midst of a parent when such a module is touched for the first time, and
its calls were not counted until then. So those are counted from the start. Of all others the code
of the parent tells that one call is all they get: counting them would cost time for nothing.
"""

from __future__ import annotations

import dis
import inspect
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from types import CodeType, FunctionType

from torch import nn

_LOADS = ("LOAD_ATTR", "LOAD_METHOD")
_HAND_ON = ("values", "items", "children", "modules", "named_children")  # modules, to be called


def called_again(parent: nn.Module) -> list[nn.Module]:
    """The modules right inside one of which it is not sure that it calls them once at most.

    Of a list inside it, which is never called itself, those that are in the list.
    """
    if isinstance(parent, nn.ModuleList):
        return []
    kind = type(parent)
    once = _once(kind, kind.forward) if _runs_its_class(parent) else frozenset()
    if once.issuperset(parent._modules) and len({*map(id, parent._modules.values())}) == len(
        parent._modules
    ):
        return []
    inside = [(name, child) for name, child in parent._modules.items() if child is not None]
    if type(parent).forward is nn.Sequential.forward:
        once = frozenset(parent._modules)
    many = Counter(id(child) for _, child in inside)  # one module may have two names
    again = [child for name, child in inside if name not in once or many[id(child)] > 1]
    return [
        each
        for child in again
        for each in (child if isinstance(child, nn.ModuleList) else (child,))
    ]


def _runs_its_class(module: nn.Module) -> bool:
    """Whether its forward is that of its class, if need be within a wrapper that says so."""
    forward = vars(module).get("forward")
    if forward is None:
        return True
    inner = inspect.unwrap(forward)
    return getattr(inner, "__func__", inner) is inspect.unwrap(type(module).forward)


@cache
def _once(kind: type[nn.Module], forward: Callable) -> frozenset[str]:
    """The names that a class's `forward` reads once, in no loop, and its other methods never.

    The function is an argument of its own: a class may be given another `forward` at any time.
    """
    forward = inspect.unwrap(forward)
    if not isinstance(forward, FunctionType):
        return frozenset()
    read = Counter(_reads(forward.__code__))
    elsewhere = {
        name
        for base in kind.__mro__
        if base not in (nn.Module, object)
        for method in vars(base).values()
        if isinstance(method, FunctionType) and inspect.unwrap(method) is not forward
        for name in _names(method.__code__)
        if method.__name__ in _names(forward.__code__)
    }
    return frozenset(name for name, times in read.items() if times == 1 and name not in elsewhere)


def _reads(code: CodeType) -> Iterator[str]:
    """The attributes that some code reads, one by one; those in a loop twice."""
    steps = [*dis.get_instructions(code)]
    loops = [
        (step.argval, step.offset)
        for step in steps
        if "JUMP" in step.opname and isinstance(step.argval, int) and step.argval < step.offset
    ]
    for step, behind in zip(steps, [*steps[1:], None], strict=True):
        if step.opname in _LOADS and not (behind and _looks_on(behind)):
            again = any(begin <= step.offset <= end for begin, end in loops)
            yield from [step.argval] * (1 + again)
    for inner in code.co_consts:
        if isinstance(inner, CodeType):  # a function or a comprehension: it may run often
            yield from 2 * [*_names(inner)]


def _looks_on(step: dis.Instruction) -> bool:
    """Whether a module is not called but asked for something: `self.wte.weight`."""
    return step.opname in _LOADS and step.argval not in _HAND_ON


def _names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from _names(inner)
