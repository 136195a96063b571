"""What a thread carries besides its stack, kept apart for the two sides of a switch.

Grad mode, inference mode, autocast and the stack of torch function modes belong to the thread,
not to the greenlet. A forward that is suspended inside `torch.no_grad()` must not leave the
user's code without gradients, and the user's `torch.inference_mode()` block must not reach into
the forward. So each side takes its own state along.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch.overrides import TorchFunctionMode

_DEVICES = ("cpu", "cuda")


class ThreadState(NamedTuple):
    """The torch state of a thread at one moment."""

    grad: bool
    inference: bool
    autocast: tuple[tuple[bool, torch.dtype], ...] | None
    modes: tuple[TorchFunctionMode, ...]

    @classmethod
    def capture(cls) -> ThreadState:
        autocast = _autocast_now() if torch._C._is_any_autocast_enabled() else None
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        return cls(grad, inference, autocast, _modes_now())

    def restore(self, now: ThreadState) -> None:
        """Set all but inference mode, for which see `inference_guard`; `now` is what holds."""
        torch._C._set_grad_enabled(self.grad)
        if now.autocast != self.autocast:
            off = [(False, dtype) for _, dtype in _autocast_now()]
            for device, (enabled, dtype) in zip(_DEVICES, self.autocast or off, strict=True):
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)
        if now.modes != self.modes:
            for _ in now.modes:
                torch._C._pop_torch_function_stack()
            for mode in self.modes:
                torch._C._push_on_torch_function_stack(mode)

    def inference_guard(self):
        """A context that has this state's inference mode, and restores the present one."""
        return torch.inference_mode(self.inference)


def _autocast_now() -> tuple[tuple[bool, torch.dtype], ...]:
    return tuple((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES)


def _modes_now() -> tuple[TorchFunctionMode, ...]:
    """The stack of torch function modes, the outermost first."""
    depth = torch._C._len_torch_function_stack()
    return tuple(torch._C._get_function_stack_at(i) for i in range(depth)) if depth else ()
