"""What one call of a block computes from what: its operations and modules, in their order.

Which value is added to the residual stream, and where, is written in every architecture otherwise:
behind a norm, times a multiplier, inside the attention, in the block. So the block is run once on
a few tokens, and every operation in it is noted with the tensors that it reads and gives. A tensor
is known by the object that it is; one that is written into is another one from then on.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnsight_magic.engine.places.made_up import made_up_run
from nnsight_magic.engine.running.bypass import Bypasses
from nnsight_magic.engine.running.coroutine import current
from nnsight_magic.engine.running.operation_mode import Listing, OperationMode
from nnsight_magic.engine.sites.site import Operation

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root

# Operations that add or join: that one of their arguments comes out unchanged is chance.
_JOIN = frozenset({"add", "add_", "sub", "sub_", "cat", "stack", "lerp", "where"})
_DEPTH = 3  # of containers in which tensors are looked for


Numbered = tuple[tuple[tuple, int], ...]  # tensors by number, each with its path in a value


@dataclass(frozen=True, eq=False)
class Event:
    """An operation of a module, or a call of one, as it ran.

    Attributes:
        path: the module, by its real dotted path.
        call: which of its calls, counted from 0.
        operation: which of its operations; `None` for the call of the module itself.
        reads: the tensors that went in, each with its path in `(args, kwargs)`.
        gives: those that came out, each with its path in the result.
        order: how many events had ended before.
    """

    path: str
    call: int
    operation: Operation | None
    reads: Numbered
    gives: Numbered
    plain: bool  # without keyword arguments
    order: int
    module: nn.Module | None = None  # of a call


@dataclass
class Flow:
    """What one call of a block computed.

    Attributes:
        tensors: by number, as they were when they came up.
        events: operations and calls in the order in which they ended.
        maker: the operation that gave a tensor, or else the module.
        readers: the operations that read it.
        same: tensors that hold the very numbers of another one: views, casts, what is left of a
            dropout.
    """

    tensors: list[torch.Tensor] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    maker: dict[int, Event] = field(default_factory=dict)
    readers: dict[int, list[Event]] = field(default_factory=lambda: defaultdict(list))
    same: dict[int, int] = field(default_factory=dict)
    _now: dict[int, int] = field(default_factory=dict)

    def number(self, tensor: torch.Tensor) -> int:
        """By which a tensor is known."""
        known = self._now.get(id(tensor))
        return self._renew(tensor) if known is None else known

    def _renew(self, tensor: torch.Tensor) -> int:
        self.tensors.append(tensor)  # held, so that no other one gets its id
        self._now[id(tensor)] = len(self.tensors) - 1
        return len(self.tensors) - 1

    def end_call(
        self, path: str, call: int, reads: Numbered, result: Any, plain: bool, module: nn.Module
    ) -> None:
        """A module has given its result."""
        gives = self.found(result)
        event = Event(path, call, None, reads, gives, plain, len(self.events), module)
        self.events.append(event)
        given = {number for _, number in reads}
        for _, number in gives:
            if number not in given:
                self.maker.setdefault(number, event)

    def note(
        self, path: str, call: int, operation: Operation, given: tuple, reads: Numbered, result: Any
    ) -> None:
        """An operation has run."""
        kwargs = given[1]
        before = {id(self.tensors[number]): number for _, number in reads}
        written = operation.name.endswith("_") or operation.name == "setitem"
        written = written or kwargs.get("inplace") is True
        gives = []
        for at, tensor in _tensors(result):
            known = before.get(id(tensor))
            if known is None or written:
                gives.append((at, self._renew(tensor)))
        if not gives:
            return  # it gave back what it was given
        event = Event(path, call, operation, reads, tuple(gives), not kwargs, len(self.events))
        self.events.append(event)
        for _, number in reads:
            self.readers[number].append(event)
        for _, number in gives:
            self.maker[number] = event
        if len(gives) == 1 and operation.name not in _JOIN and not written:
            self._note_same(gives[0][1], reads)

    def _note_same(self, new: int, reads: Numbered) -> None:
        for _, number in reads:
            if _equal(self.tensors[new], self.tensors[number]):
                self.same[new] = number
                return

    def found(self, value: Any) -> Numbered:
        """The tensors in a nested value, each with its path."""
        return tuple((at, self.number(tensor)) for at, tensor in _tensors(value))

    def origin(self, number: int) -> int:
        """The tensor of which this one has the numbers."""
        while number in self.same:
            number = self.same[number]
        return number

    def behind(self, number: int, stops: set[int]) -> set[int]:
        """All that a tensor was computed from, itself included; `stops` are not looked behind."""
        found, left = set(), [number]
        while left:
            each = left.pop()
            if each in found:
                continue
            found.add(each)
            event = self.maker.get(each)
            if event is not None and each not in stops:
                left += (read for _, read in event.reads)
        return found


class _Arrivals:
    """Takes down the operations of one call of a module."""

    def __init__(self, flow: Flow, path: str, call: int):
        self._flow, self._path, self._call = flow, path, call
        self._begun: list[tuple[tuple, tuple]] = []

    def __call__(self, operation: Operation, kind: str, value: Any) -> Any:
        if kind == "input":
            self._begun.append((value, self._flow.found(value)))
        else:
            given, reads = self._begun.pop()
            self._flow.note(self._path, self._call, operation, given, reads, value)
        return value


class _Recorder:
    """Notes what the blocks compute, one after another; `done` is told of each."""

    def __init__(self, root: nn.Module, paths: list[str], done: Callable[[str, Flow], None]):
        self._root, self._done = root, done
        self._flow: Flow | None = None
        self._calls: dict[nn.Module, int] = defaultdict(int)  # in the whole forward
        self._paths: dict[str, dict[nn.Module, str]] = {}
        self._inside: dict[nn.Module, str] = {}
        for block in paths:
            named = root.get_submodule(block).named_modules()
            self._paths[block] = {
                each: f"{block}.{name}" if name else block for name, each in named
            }

    def watch(self, bypasses: Bypasses) -> None:
        """Have all modules of the blocks tell of their calls."""
        blocks = {self._root.get_submodule(block): block for block in self._paths}
        for module in dict.fromkeys(each for held in self._paths.values() for each in held):
            around = partial(self._call, module, blocks.get(module))
            bypasses.surround(current(), module, around)

    def _call(
        self, module: nn.Module, block: str | None, run: Callable, args: tuple, kwargs: dict
    ) -> Any:
        call = self._calls[module]
        self._calls[module] += 1
        if block is not None and self._flow is None and call == 0:
            self._inside, self._flow = self._paths[block], Flow()
            try:
                result = self._noted(self._flow, module, call, run, args, kwargs)
                self._done(block, self._flow)
            finally:
                self._flow = None
            return result
        if self._flow is None or module not in self._inside:
            return run(*args, **kwargs)
        return self._noted(self._flow, module, call, run, args, kwargs)

    def _noted(
        self, flow: Flow, module: nn.Module, call: int, run: Callable, args: tuple, kwargs: dict
    ) -> Any:
        path, reads = self._inside[module], flow.found((args, kwargs))
        arrive = _Arrivals(flow, path, call)
        with OperationMode(arrive, Listing(), module, self._root) as watched:
            result = watched.run(run, args, kwargs)
        flow.end_call(path, call, reads, result, not kwargs, module)
        return result


def note_flows(
    root: nn.Module, paths: list[str], run: Callable[[], Any], done: Callable[[str, Flow], None]
) -> None:
    """Let `done` see what the first call of each of these blocks computes when `run` comes by.

    A flow holds the tensors of its block, so nobody should keep it.
    """
    bypasses = Bypasses()
    devices = range(torch.cuda.device_count()) if torch.cuda.is_initialized() else ()
    try:
        _Recorder(root, paths, done).watch(bypasses)
        with torch.no_grad(), torch.random.fork_rng(devices=list(devices)):
            run()
    finally:
        bypasses.close()


def run_of(model: Root) -> Callable[[], Any] | None:
    """What runs the model once: on made-up tokens, or else on what is being traced."""
    made_up = made_up_run(model._root)
    if made_up is not None:
        return made_up
    tracer = model._turn.running()
    return None if tracer is None else tracer.model_call()


def _equal(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Whether two tensors hold the same numbers in the same order, whatever their shapes."""
    if one.numel() != other.numel() or one.numel() == 0 or not one.is_floating_point():
        return False
    if other.device != one.device or not other.is_floating_point():
        return False
    return torch.equal(one.reshape(-1).to(other.dtype), other.reshape(-1))


def _tensors(value: Any, at: tuple = ()) -> Iterator[tuple[tuple, torch.Tensor]]:
    """The tensors in a nested value, each with its path; not the weights."""
    if isinstance(value, torch.Tensor):
        if not isinstance(value, nn.Parameter):
            yield at, value
    elif len(at) < _DEPTH and isinstance(value, tuple | list):
        for key, item in enumerate(value):
            yield from _tensors(item, (*at, key))
    elif len(at) < _DEPTH and isinstance(value, Mapping):
        for key, item in value.items():
            yield from _tensors(item, (*at, key))
