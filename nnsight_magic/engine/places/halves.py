"""What the halves of a block add to the residual stream, and where: found in what a block computes.

From a block's output one goes back through additions to its input: each of them adds to the
stream what a half has made. What is added is the operand itself, behind whatever norm or
multiplier a model puts there (Gemma-2, OLMo-2, Granite), and so a write to it changes what is
added and nothing else. A block whose output is no such sum has no such values: post-norm blocks
(BERT) normalise the sum.

That it is so is checked on numbers: the input and all that is added make up the output.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TypeGuard

import torch
from torch import nn

from nnsight_magic.engine.places.flow import Event, Flow, Numbered
from nnsight_magic.engine.places.standard_names import BLOCK_NAMES, part_of_block
from nnsight_magic.engine.sites.site import Operation

# Of the largest number of a block's output; in less than single precision, of its own rounding.
_TOLERANCE = 1e-4


_SEVERAL = "what it gives is added to the residual stream at several places"


@dataclass(frozen=True)
class Spot:
    """Where a value stands.

    Attributes:
        path: the module, by its real dotted path.
        call: which of its calls in a forward.
        operation: an operation in it, or `None`.
        kind: `"output"`, `"input"` or `"inputs"`.
        item: where in what stands there, a path of keys.
        flat: whether prompts and tokens are one axis there.
    """

    path: str
    call: int
    operation: Operation | None
    kind: str
    item: tuple = ()
    flat: bool = False


Found = Spot | str  # or why there is no such place


@dataclass
class Halves:
    """What was found out about one block.

    Attributes:
        middle: the residual stream between the two halves.
        added: what modules of the block add to the stream, by path.
    """

    middle: Found
    added: dict[str, Found] = field(default_factory=dict)


@dataclass(frozen=True)
class Addition:
    """One addition to the residual stream.

    Attributes:
        event: the operation.
        at: where what is added stands in its `(args, kwargs)`.
        added: what is added, by number.
        gives: the stream behind it.
    """

    event: Event
    at: tuple
    added: int
    gives: int


class BlockStudy:
    """Finds the places in the flow of one block."""

    def __init__(self, path: str, block: nn.Module, flow: Flow):
        self.path, self.block, self.flow = path, block, flow
        whole = flow.events[-1]
        self.stream = first_state(whole.reads, flow)
        self.output = first_state(whole.gives, flow)
        self.calls: dict[str, Event] = {}
        self.givers: dict[int, list[Event]] = defaultdict(list)
        for event in flow.events[:-1]:
            if event.operation is None:
                self.calls.setdefault(event.path, event)
                for _, number in event.gives:
                    self.givers[number].append(event)
        self.additions = self._additions()
        self.stops = {each.gives for each in self.additions}
        self.stops.add(self.stream)

    def halves(self) -> Halves:
        """The middle, and what each part of the block adds."""
        found = Halves(self._middle())
        for path in self._candidates():
            found.added[path] = self._added(path)
        return found

    # ── the sum ──────────────────────────────────────────────────────────────────────────

    def _additions(self) -> tuple[Addition, ...]:
        """The additions from the block's input to its output; none if it is no such sum."""
        if self.stream < 0 or self.output < 0:
            return ()
        found = self._way_back(self.output, {})
        return found if found and self._adds_up(found) else ()

    def _way_back(self, number: int, known: dict) -> tuple[Addition, ...] | None:
        number = self._until_stream(number)
        if number == self.stream:
            return ()
        if number not in known:
            known[number] = None  # while it is being looked for
            known[number] = self._before(number, known)
        return known[number]

    def _until_stream(self, number: int) -> int:
        while number != self.stream and number in self.flow.same:
            number = self.flow.same[number]
        return number

    def _before(self, number: int, known: dict) -> tuple[Addition, ...] | None:
        event = self.flow.maker.get(number)
        if not _is_addition(event):
            return None
        first, second = (self._way_back(operand, known) for _, operand in event.reads)
        if (first is None) == (second is None):
            return None
        at, added = event.reads[0 if first is None else 1]
        return (*(first or second or ()), Addition(event, at, added, number))

    def _adds_up(self, additions: tuple[Addition, ...]) -> bool:
        tensors = self.flow.tensors
        output = tensors[self.output].double()
        total = tensors[self.stream].double().reshape(output.shape)
        for each in additions:
            total = total + tensors[each.added].double().reshape(output.shape)
        largest = output.abs().max()
        rounding = 8 * torch.finfo(tensors[self.output].dtype).eps
        return bool((total - output).abs().max() <= max(_TOLERANCE, rounding) * largest)

    # ── the places ───────────────────────────────────────────────────────────────────────

    def _middle(self) -> Found:
        additions = self.additions
        if not additions:
            return self._no_sum()
        if len(additions) > 2:
            return (
                f"a block adds to the residual stream {len(additions)} times, so there are "
                f"{len(additions) - 1} places between its parts"
            )
        if len(additions) == 2:
            first, second = additions
            if first.gives in self.flow.behind(second.added, self.stops):
                return self._spot_of_stream(first)
        if len(additions) == 2 or all(self._part(name) for name in BLOCK_NAMES):
            return (
                "attention and MLP run side by side: both take the stream before the block, and "
                "what both add comes to it at once"
            )
        return "a block adds to the residual stream once, so nothing stands in between"

    def _no_sum(self) -> str:
        return (
            "what a block gives is not what it is given plus what its parts add: the sum is "
            "normalised, or computed in a way that does not show"
        )

    def _added(self, path: str) -> Found:
        event = self.calls.get(path)
        if event is None:
            return "it did not run"
        if not self.additions:
            return self._no_sum()
        given = first_state(event.gives, self.flow)
        if given < 0:
            return "it gives no hidden states"
        if given in self.stops:  # BLOOM's attention adds the stream itself
            reached = [a for a in self.additions if f"{a.event.path}.".startswith(f"{path}.")]
            return self._spot_of_operand(reached[0]) if len(reached) == 1 else _SEVERAL
        behind = [self.flow.behind(each.added, self.stops) for each in self.additions]
        reached = [a for a, b in zip(self.additions, behind, strict=True) if given in b]
        if len(reached) != 1:
            return _SEVERAL if reached else "what it gives is not added to the residual stream"
        operand = self._alone(reached[0], given)
        if self.flow.behind(operand.added, self.stops | {given}) & self.stops - {given}:
            return "what is added is made of other parts of the block too"
        return self._spot_of_operand(operand)

    def _alone(self, addition: Addition, given: int) -> Addition:
        """The part of what is added that comes from a module, where parts are summed up before."""
        number = addition.added
        while number != given:
            if number in self.flow.same:
                number = self.flow.same[number]
                continue
            event = self.flow.maker.get(number)
            if not _is_addition(event):
                break
            behind = [self.flow.behind(operand, self.stops) for _, operand in event.reads]
            mine = [given in each for each in behind]
            if sum(mine) != 1 or not all(each & self.stops for each in behind):
                break
            at, operand = event.reads[mine.index(True)]
            addition = Addition(event, at, operand, number)
            number = operand
        return addition

    def _spot_of_operand(self, operand: Addition) -> Spot:
        """Where what is added is touched: as what a module gives, if nothing else uses that."""
        flow, reader, number = self.flow, operand.event, operand.added
        shape = flow.tensors[number].shape
        while flow.readers[number] == [reader] and flow.tensors[number].shape == shape:
            givers = [e for e in self.givers[number] if e.order < operand.event.order]
            if givers:
                return self._of_module(givers[-1], number)
            if number not in flow.same:
                break
            reader, number = flow.maker[number], flow.same[number]
        event = operand.event
        flat = self.is_flat(operand.added)
        return Spot(event.path, event.call, event.operation, "inputs", operand.at, flat)

    def _spot_of_stream(self, addition: Addition) -> Spot:
        number, event = addition.gives, addition.event
        first_reader = min((e.order for e in self.flow.readers[number]), default=0)
        givers = [e for e in self.givers[number] if e.order < first_reader]
        if givers:
            return self._of_module(givers[-1], number)
        return Spot(event.path, event.call, event.operation, "output", (), self.is_flat(number))

    def _of_module(self, event: Event, number: int) -> Spot:
        at = next(at for at, given in event.gives if given == number)
        return Spot(event.path, event.call, None, "output", at, self.is_flat(number))

    def is_flat(self, number: int) -> bool:
        """Whether prompts and tokens are one axis of a tensor."""
        shape, stream = self.flow.tensors[number].shape, self.flow.tensors[self.stream].shape
        return len(shape) == len(stream) - 1 and shape[0] == stream[0] * stream[1]

    def _candidates(self) -> Iterator[str]:
        """The modules that may be a half of the block: its children, T5's two levels deeper.

        A half has matrices; norms have none.
        """
        parts = [self._part(name) for name in BLOCK_NAMES]
        for name, child in self.block._modules.items():
            parts.append(name)
            for i, each in child._modules.items() if isinstance(child, nn.ModuleList) else ():
                parts += [f"{name}.{i}.{inner}" for inner in each._modules]
        for part in dict.fromkeys(part for part in parts if part):
            if any(map(_is_matrix, self.block.get_submodule(part).modules())):
                yield f"{self.path}.{part}"

    def _part(self, name: str) -> str | None:
        return part_of_block(self.block, name)


def _is_matrix(module: nn.Module) -> bool:
    own = module._parameters.values()
    return hasattr(module, "in_features") or any(p is not None and p.ndim > 1 for p in own)


def _is_addition(event: Event | None) -> TypeGuard[Event]:
    """Whether an operation gives the sum of two tensors."""
    if event is None or event.operation is None:
        return False
    return event.operation.name in ("add", "add_") and event.plain and len(event.reads) == 2


def first_state(numbered: Numbered, flow: Flow) -> int:
    """The first tensor of hidden states among what a module takes or gives, -1 for none."""
    for _, number in numbered:
        tensor = flow.tensors[number]
        if tensor.is_floating_point() and tensor.ndim > 1:
            return number
    return -1
