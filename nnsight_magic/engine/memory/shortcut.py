"""A forward that starts further on, from a block output that an earlier forward left behind."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from nnsight_magic.engine.memory.resume import Key, Resume
from nnsight_magic.engine.places.standard_names import blocks_at
from nnsight_magic.engine.running.block_layout import in_block_layout, learn
from nnsight_magic.engine.running.bypass import Produce, hidden_of
from nnsight_magic.engine.running.forward import Forward
from nnsight_magic.engine.values.pause import Pause
from nnsight_magic.engine.values.value import own_copy

if TYPE_CHECKING:
    from nnsight_magic.engine.places.standard_names import StandardNames
    from nnsight_magic.engine.sites.report import RunReport
    from nnsight_magic.engine.sites.site import Touch

_log = logging.getLogger(__name__)


class Shortcut:
    """Where one trace's forwards may leave out blocks that are known already.

    Before a forward runs on to a site, the blocks between its pause and the
    site are looked up in the model's memory. Nothing may have been written so far: a write
    changes everything behind it.
    """

    def __init__(
        self, memory: Resume, root: nn.Module, names: StandardNames, args: tuple, kwargs: dict
    ):
        self._memory, self._root, self._names = memory, root, names
        self._args, self._kwargs = args, kwargs
        if names.layers is None:
            raise ValueError("a model without blocks has none to leave out")
        self._layers = names.layers
        self._count = len(blocks_at(root, self._layers))

    def take(self, forward: Forward, touch: Touch, report: RunReport) -> None:
        """Leave out what is known on the way to `touch`, and have the last block recorded."""
        pause = forward.pause
        if forward.written or forward.replaced or (pause is not None and pause.written):
            return
        before, target = self._way(forward, touch)
        start = self._blocks_begun(pause) if forward.started else 0
        running = self._about_to_run(forward, touch, start)
        if not forward.started:
            self._begin(forward, running)
        key, found = forward.known_as, None
        if key is None:
            return
        if before is not None and start is not None:
            found = self._memory.best(key, target, start)
        if forward.started and not self._goes_on(forward, running, leaves_out=found is not None):
            return
        if before is None or start is None or start >= target:
            return
        blocks = blocks_at(self._root, self._layers)
        if found is not None:
            last, output = found
            for block in [*blocks][start:last]:
                bypass_once(forward, block, hidden_of)
            bypass_once(forward, blocks[last], lambda args, kwargs: own_copy(output))
            self._count_as_passed(forward, touch, report, range(start, last + 1))
            forward.left_out.update(range(start, last + 1))
        known = start if found is None else found[0] + 1
        for index in range(max(before - 1, known), target):
            forward.record(self._line(index), partial(self._remember, key, index))

    def _about_to_run(self, forward: Forward, touch: Touch, start: int | None) -> range:
        """The blocks of which a part at least comes before the touched site; more do no harm."""
        first, pause = start or 0, forward.pause
        at = None if pause is None else pause.touch
        if first and pause is not None and at is not None:
            is_behind = pause.site.kind == "output" and self._names.is_block(_path(at))
            first -= not is_behind  # it is paused inside that one
        path = _path(touch)
        if path == self._names.embed:
            return range(first, first)
        index = self._names.block_index(path)
        return range(first, self._count if index is None else index + 1)

    def _way(self, forward: Forward, touch: Touch) -> tuple[int | None, int]:
        """How many blocks have run when a site is reached; and when what is known there is.

        What a block itself gave may be known: then only what comes behind it has to run.
        """
        # An operation of a module that holds blocks may come before them or after.
        kind = touch.kind if touch.site.operation is None else "operation"
        if touch.site == forward.replacing:
            kind = "input"  # what the module itself gave elsewhere is not asked for
        path = _path(touch)
        before = self.blocks_before(path, kind)
        if before is None:
            return None, 0
        whole = kind == "output" and touch.site.call == 0 and self._is_block(path, before)
        return before, before + whole

    # A forward is known by the state of the model, the arguments and the settings under which it
    # began. Once another has been met with, it gives neither the one's values nor the other's.

    def _begin(self, forward: Forward, blocks: range) -> None:
        forward.known_as = self._key(forward)
        if forward.known_as is not None and not self._memory.weights_hold(blocks, start=True):
            forward.known_as = self._key(forward)  # by the weights as they are now
            self._memory.weights_hold(blocks, start=True)

    def _goes_on(self, forward: Forward, blocks: range, leaves_out: bool) -> bool:
        """Whether what these blocks are about to give is still what the forward is known by."""
        memory, key = self._memory, forward.known_as
        if not (
            memory.same(key, self._args, self._kwargs, forward, blocks, leaves_out)
            and memory.weights_hold(blocks, start=False)
        ):
            _log.debug("gave up on this forward: what it runs on was changed between two touches")
            forward.known_as = None
        return forward.known_as is not None

    def _key(self, forward: Forward) -> Key | None:
        return self._memory.key(self._root, self._args, self._kwargs, forward)

    def _is_block(self, path: str, index: int) -> bool:
        return path == f"{self._names.layers}.{index}"

    def _count_as_passed(
        self, forward: Forward, ahead: Touch, report: RunReport, blocks: range
    ) -> None:
        """Mark what was touched in left-out blocks as passed in this forward, but for `ahead`."""
        for touch in report.touches:
            index = self._names.block_index(_path(touch))
            if index in blocks and touch.site.call == 0 and touch.site != ahead.site:
                forward.fired.add(touch.site)

    def _remember(
        self, key: Key, index: int, raw: Any, args: tuple, kwargs: dict[str, Any]
    ) -> None:
        block = blocks_at(self._root, self._layers)[index]
        hidden = self.hidden_alone(block, raw, (*args, *kwargs.values()))
        if hidden is not None:
            self._memory.remember(key, index, hidden)

    @staticmethod
    def hidden_alone(block: nn.Module, raw: Any, given: Iterable[Any] = ()) -> torch.Tensor | None:
        """The hidden states that a block gave, if they are all that it gave.

        Whatever else it returns, the next block might be given: then it is not enough to know
        the hidden states, and the answer is `None`. So it is where the block was called with
        something to leave a message in, such as a dict of keys and values that blocks share.
        """
        if not all(map(_is_fixed, given)):
            return None
        hidden = raw
        if isinstance(raw, tuple | list):
            if not raw or any(item is not None for item in raw[1:]):
                return None
            hidden = raw[0]
        if not isinstance(hidden, torch.Tensor) or hidden.requires_grad:
            return None
        learn(block, raw)
        return hidden

    def blocks_before(self, path: str, kind: str) -> int | None:
        """How many blocks have run when a site is reached; `None` where that is not known."""
        names = self._names
        index = names.block_index(path)
        if index is not None:
            return index
        behind = path in (names.norm, names.unembed) or (
            kind == "output" and (path == "" or self._layers.startswith(path + "."))
        )
        return len(blocks_at(self._root, self._layers)) if behind else None

    def _blocks_begun(self, pause: Pause | None) -> int | None:
        if pause is None or pause.touch is None:
            return None
        path = _path(pause.touch)
        if path == self._names.embed:
            return 0
        index = self._names.block_index(path)
        return None if index is None else index + 1

    def _line(self, index: int) -> list[nn.Module]:
        ancestry = [self._root]
        for part in [*self._layers.split("."), str(index)]:
            below = ancestry[-1]._modules[part]
            assert below is not None, "the list of blocks is a module"
            ancestry.append(below)
        return ancestry


def _path(touch: Touch) -> str:
    return ".".join(touch.parts)


def _is_fixed(argument: Any) -> bool:
    """Whether a block cannot leave anything in what it is called with."""
    if isinstance(argument, tuple):
        return all(map(_is_fixed, argument))
    return argument is None or isinstance(
        argument, torch.Tensor | str | int | float | torch.dtype | torch.device | Enum
    )


def bypass_once(forward: Forward, block: nn.Module, hidden: Produce) -> None:
    """Leave out the next call of a block; one that layers share runs at its further calls."""

    def produce(args: tuple, kwargs: dict[str, Any]) -> Any:
        forward.unbypass(block)
        return in_block_layout(block, hidden(args, kwargs))

    forward.bypass(block, produce)
