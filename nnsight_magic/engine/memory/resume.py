"""Block outputs remembered from earlier forwards, so that a later one can start further on.

A forward on inputs and weights that were run before gives the same block outputs, to the bit.
What stands here is keyed by everything that can change them; where that cannot be told (foreign
hooks, torch modes of the user's, training mode, arguments that cannot be compared) nothing is
remembered.

Weights are told apart by identity, memory address and version counter. Writes through `.data`
leave the counter alone, so some numbers of each are compared as well, see `weights`: what can
escape that is a write to a few single numbers; call `model.resume.clear()` after such.

The user's code runs between the touches of one trace, and may change the model there: before a
forward goes on, what it is about to run is looked at again.
"""

from __future__ import annotations

import hashlib
import logging
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any, NamedTuple

import torch
from torch import nn

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.memory.fingerprint import Fingerprint, Obstacle
from nnsight_magic.engine.memory.settings import settings
from nnsight_magic.engine.memory.weights import Weights
from nnsight_magic.engine.places.standard_names import find_names
from nnsight_magic.engine.values.value import own_copy

_log = logging.getLogger(__name__)

DEFAULT_BUDGET = 256 * 2**20  # bytes


class Key(NamedTuple):
    """What a forward's block outputs depend on, besides the model."""

    age: int  # of the memory: another one for another state of the model
    arguments: Hashable
    settings: Hashable
    autocast: Hashable


class Resume:
    """The remembered block outputs of one model: `model.resume`.

    Attributes:
        enabled: switch it off to run every forward from its start.
        budget: bytes that may be held, on the tensors' own device; the least recently used go
            first.
    """

    def __init__(self, budget: int = DEFAULT_BUDGET):
        self.enabled = True
        self._budget = budget
        self._outputs: OrderedDict[tuple[Key, int], torch.Tensor] = OrderedDict()
        self._fingerprint: Fingerprint | None = None
        self._state: tuple | None = None
        self._weights: Weights | None = None
        self._age = 0  # how often everything was forgotten

    @property
    def budget(self) -> int:
        return self._budget

    @budget.setter
    def budget(self, size: int) -> None:
        self._budget = size
        self._shrink()

    @property
    def nbytes(self) -> int:
        """Bytes held now."""
        return sum(_size(tensor) for tensor in self._outputs.values())

    def __len__(self) -> int:
        return len(self._outputs)

    def __repr__(self) -> str:
        state = "" if self.enabled else ", off"
        return f"Resume({len(self)} block outputs, {self.nbytes} of {self.budget} bytes{state})"

    def clear(self) -> None:
        """Forget everything."""
        self._forget()
        self._fingerprint = self._state = None

    def key(self, root: nn.Module, args: tuple, kwargs: dict[str, Any], forward: Any) -> Key | None:
        """What the block outputs of a forward depend on that is about to begin.

        `None` if they cannot be remembered.
        """
        if not self.enabled or self._budget <= 0:
            return None
        return self.conditions(root, args, kwargs, type(forward), forward.autocast)

    def conditions(
        self,
        root: nn.Module,
        args: tuple,
        kwargs: dict[str, Any],
        ours: type,
        autocast: Hashable = None,
    ) -> Key | None:
        """What the outcome of this call depends on besides the model, whose state is noted.

        `None` where that is not known. Another state than the one before forgets everything.
        """
        if torch_insides.any_mode_of_others():
            return _nothing("functions of torch are intercepted by a mode of other code")
        if self._fingerprint is None or self._fingerprint.root is not root:
            self._fingerprint = Fingerprint(root, find_names(root).layers)
        state = self._fingerprint.take(ours)
        if isinstance(state, Obstacle):
            return _nothing(state)
        arguments, its_settings = _arguments(args, kwargs), settings()
        if arguments is None:
            return _nothing(_incomparable(args, kwargs))
        if its_settings is None:
            return _nothing("a setting of torch that changes numbers cannot be read")
        if state != self._state:
            self._forget()
            self._state = state
        return Key(self._age, arguments, its_settings, autocast)

    def same(
        self,
        key: Key,
        args: tuple,
        kwargs: dict[str, Any],
        forward: Any,
        blocks: range,
        code: bool,
    ) -> bool:
        """Whether `key`, under which a forward began, still holds as far as these blocks.

        The user's code runs between two touches, and may have changed anything meanwhile.

        Args:
            code: look at the code of the blocks' classes too.
        """
        fingerprint, state = self._fingerprint, self._state
        if key.age != self._age or fingerprint is None or state is None:
            return False
        if torch_insides.any_dispatch_mode():
            return False
        if key.settings != settings() or key.arguments != _arguments(args, kwargs):
            return False
        then = (state[0], *state[blocks.start + 1 : blocks.stop + 1])
        return fingerprint.still(then, type(forward), blocks, code)

    def weights_hold(self, blocks: range, start: bool) -> bool:
        """Whether the weights of these blocks are those known; if not, everything is forgotten.

        At the start of a forward also those outside of all blocks, which are used before them.
        """
        if self._fingerprint is None:
            return False  # nothing is known
        if self._weights is None:
            self._weights = Weights(self._fingerprint.modules)
        if self._weights.hold([0] * start + [block + 1 for block in blocks]):
            return True
        self._forget()
        return False

    def state(self) -> Hashable:
        """The state noted last, for those who remember by it; with the weights as they are.

        Raises:
            LookupError: none was noted since the start, or since `clear`.
        """
        fingerprint, state = self._fingerprint, self._state
        if fingerprint is None or state is None:
            raise LookupError("no state was noted")
        weights = self._weights = self._weights or Weights(fingerprint.modules)
        numbers = (each for part in range(len(state)) for each in weights.now(part))
        return hash(state), hash(tuple(n.cpu().numpy().tobytes() for n in numbers))

    def best(self, key: Key, before: int, after: int) -> tuple[int, torch.Tensor] | None:
        """The last remembered output of a block in `range(after, before)`."""
        for index in range(before - 1, after - 1, -1):
            found = self._outputs.get((key, index))
            if found is not None:
                self._outputs.move_to_end((key, index))
                _log.debug("resumed behind block %d", index)
                return index, found
        return None

    def remember(self, key: Key, index: int, output: torch.Tensor) -> None:
        """Keep a copy of what block `index` gave."""
        size = _size(output)
        if size > self._budget or key.age != self._age:
            _log.debug("block %d is not remembered: too large, or the model has changed", index)
            return
        _log.debug("remembered block %d, %d bytes", index, size)
        self._outputs[key, index] = own_copy(output)
        self._outputs.move_to_end((key, index))
        self._shrink()

    def _forget(self) -> None:
        if self._outputs:
            _log.debug("forgot %d block outputs", len(self._outputs))
        self._age += 1
        self._outputs.clear()
        self._weights = None

    def _shrink(self) -> None:
        held = self.nbytes
        while self._outputs and held > self._budget:
            _, oldest = self._outputs.popitem(last=False)
            held -= _size(oldest)


def _nothing(reason: str) -> None:
    """Tell why nothing is remembered."""
    _log.debug("nothing is remembered: %s", reason)


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _arguments(args: tuple, kwargs: dict[str, Any]) -> Hashable | None:
    """The arguments by value; `None` if one of them cannot be compared, as `_incomparable` says."""
    parts: list[Hashable] = []
    for name, value in _named(args, kwargs):
        if isinstance(value, torch.Tensor):
            if value.requires_grad:
                return None
            data = value.detach().to("cpu", copy=False).contiguous().flatten().view(torch.uint8)
            digest = hashlib.blake2b(data.numpy().tobytes(), digest_size=16).digest()
            parts.append((name, tuple(value.shape), value.dtype, value.device, digest))
        elif value is None or isinstance(value, str | int | float | bool):
            parts.append((name, value))
        else:
            return None
    return tuple(parts)


def _incomparable(args: tuple, kwargs: dict[str, Any]) -> str:
    """The first of the arguments that is not known by its value, and what it is."""
    for name, value in _named(args, kwargs):
        if _arguments((value,), {}) is None:
            shown = f"argument {name + 1}" if isinstance(name, int) else f"the argument {name!r}"
            if isinstance(value, torch.Tensor):
                return f"{shown} is a tensor that requires a gradient"
            return f"{shown} cannot be compared, a {type(value).__name__}"
    return "an argument cannot be compared"


def _named(args: tuple, kwargs: dict[str, Any]) -> list[tuple[int | str, Any]]:
    return [*enumerate(args), *sorted(kwargs.items())]
