"""What a thread carries besides its stack, kept apart for the two sides of a switch.

Grad mode, inference mode and autocast belong to the thread, not to the greenlet. A forward
that is suspended inside `torch.no_grad()` must not leave the user's code without gradients,
and the user's `torch.inference_mode()` block must not reach into the forward. So each side
takes its own state along.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

_DEVICES = ("cpu", "cuda")


class ThreadState(NamedTuple):
    """The torch state of a thread at one moment."""

    grad: bool
    inference: bool
    autocast: tuple[tuple[bool, torch.dtype], ...] | None

    @classmethod
    def capture(cls) -> ThreadState:
        autocast = _autocast_now() if torch._C._is_any_autocast_enabled() else None
        return cls(torch.is_grad_enabled(), torch.is_inference_mode_enabled(), autocast)

    def restore(self, now: ThreadState) -> None:
        """Set grad mode and autocast, which are `now` otherwise; see `inference_guard`."""
        torch._C._set_grad_enabled(self.grad)
        if now.autocast != self.autocast:
            off = [(False, dtype) for _, dtype in _autocast_now()]
            for device, (enabled, dtype) in zip(_DEVICES, self.autocast or off, strict=True):
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)

    def inference_guard(self):
        """A context that has this state's inference mode, and restores the present one."""
        return torch.inference_mode(self.inference)


def _autocast_now() -> tuple[tuple[bool, torch.dtype], ...]:
    return tuple((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES)
