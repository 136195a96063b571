"""Block outputs remembered from earlier forwards, so that a later one can start further on.

A forward on inputs and weights that were run before gives the same block outputs, to the bit.
What stands here is keyed by everything that can change them; where that cannot be told (foreign
hooks, torch modes of the user's, training mode, arguments that cannot be compared) nothing is
remembered.

Weights are told apart by identity, memory address and version counter. Writes through `.data`
leave the counter alone, so a sample of each tensor's numbers is compared as well. A write
through `.data` to a few single numbers can escape it: call `model.resume.clear()` after such.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Hashable
from typing import Any

import torch
from torch import nn
from torch.utils._device import DeviceContext

from nnsight_magic.engine.fingerprint import Fingerprint
from nnsight_magic.engine.settings import settings
from nnsight_magic.engine.value import own_copy

DEFAULT_BUDGET = 256 * 2**20  # bytes
_SAMPLED = 16  # numbers of each weight


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
        self._outputs: OrderedDict[tuple[Hashable, int], torch.Tensor] = OrderedDict()
        self._fingerprint: Fingerprint | None = None
        self._state: tuple | None = None
        self._sample: _Sample | None = None

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
        self._outputs.clear()
        self._fingerprint = self._state = self._sample = None

    def key(
        self, root: nn.Module, args: tuple, kwargs: dict[str, Any], ours: type
    ) -> Hashable | None:
        """What the block outputs of this call depend on; `None` if they cannot be remembered."""
        if not self.enabled or self._budget <= 0:
            return None
        return self.conditions(root, args, kwargs, ours)

    def conditions(
        self, root: nn.Module, args: tuple, kwargs: dict[str, Any], ours: type
    ) -> Hashable | None:
        """What the outcome of this call depends on besides the model, whose state is noted.

        `None` where that cannot be told. Another state than the one before forgets everything.
        """
        if _modes_of_others():
            return None
        if self._fingerprint is None or self._fingerprint.root is not root:
            self._fingerprint = Fingerprint(root)
        state = self._fingerprint.take(ours)
        arguments = _arguments(args, kwargs)
        if state is None or arguments is None:
            return None
        if state != self._state:
            self.clear()
            self._state = state
        return (arguments, settings())

    def state(self, root: nn.Module) -> Hashable:
        """The state noted last, for those who remember by it; with the weights' sample as it is."""
        if self._sample is None:
            self._sample = _Sample(root)
        return hash(self._state), self._sample.digest()

    def best(self, key: Hashable, before: int, after: int) -> tuple[int, torch.Tensor] | None:
        """The last remembered output of a block in `range(after, before)`."""
        for index in range(before - 1, after - 1, -1):
            found = self._outputs.get((key, index))
            if found is not None:
                if self._sample is None or not self._sample.holds():
                    self.clear()
                    return None
                self._outputs.move_to_end((key, index))
                return index, found
        return None

    def remember(self, key: Hashable, index: int, output: torch.Tensor, root: nn.Module) -> None:
        """Keep a copy of what block `index` gave."""
        size = _size(output)
        if size > self._budget or self._state is None:
            return
        if self._sample is None:
            self._sample = _Sample(root)
        self._outputs[key, index] = own_copy(output)
        self._outputs.move_to_end((key, index))
        self._shrink()

    def knows(self, key: Hashable, index: int) -> bool:
        return (key, index) in self._outputs

    def _shrink(self) -> None:
        held = self.nbytes
        while self._outputs and held > self._budget:
            _, oldest = self._outputs.popitem(last=False)
            held -= _size(oldest)


class _Sample:
    """Some numbers of every weight, to notice writes that leave no other trace."""

    def __init__(self, root: nn.Module):
        groups: dict[tuple, list[torch.Tensor]] = {}
        for tensor in [*root.parameters(), *root.buffers()]:
            if tensor.numel() and tensor.is_contiguous() and tensor.device.type != "meta":
                flat = tensor.detach().view(-1)
                view = flat[:: max(1, flat.numel() // _SAMPLED)]
                groups.setdefault((tensor.dtype, tensor.device), []).append(view)
        self._views = list(groups.values())
        self._then = self._now()

    def _now(self) -> list[torch.Tensor]:
        return [torch.cat(views) for views in self._views]

    def digest(self) -> int:
        """What tells these numbers from others."""
        return hash(tuple(n.view(torch.uint8).cpu().numpy().tobytes() for n in self._now()))

    def holds(self) -> bool:
        """Whether the numbers are still the same."""
        return all(map(torch.equal, self._now(), self._then))


def _size(tensor: torch.Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def _modes_of_others() -> bool:
    """Whether torch functions are being intercepted, by anything but a default device."""
    if torch._C._len_torch_dispatch_stack():
        return True
    depth = torch._C._len_torch_function_stack()
    return any(
        not isinstance(torch._C._get_function_stack_at(i), DeviceContext) for i in range(depth)
    )


def _arguments(args: tuple, kwargs: dict[str, Any]) -> Hashable | None:
    """The arguments by value; `None` if one of them cannot be compared."""
    parts: list[Hashable] = []
    for name, value in [*enumerate(args), *sorted(kwargs.items())]:
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
