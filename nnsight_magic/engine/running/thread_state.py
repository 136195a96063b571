"""What a thread carries besides its stack, kept apart for the two sides of a switch.

Grad mode, inference mode, autocast, the stack of torch function modes, the CUDA stream and what
takes the warnings of torch's C++ belong to the thread, not to the greenlet. A forward that is
suspended inside `torch.no_grad()` must not leave the user's code without gradients, the user's
`torch.inference_mode()` block must not reach into the forward, and a warning must not go to an
object on a stack that has been left, which would end the process. So each side takes its own state
along. Where the two sides are on different streams, the one that goes on waits for what the other
has launched: the program's order holds.
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import torch
from torch.overrides import TorchFunctionMode

from nnsight_magic.engine.insides import torch_insides

_DEVICES = ("cpu", "cuda", "mps", "xpu")


class ThreadState(NamedTuple):
    """The torch state of a thread at one moment."""

    grad: bool
    inference: bool
    autocast: tuple[tuple[bool, torch.dtype], ...] | None
    modes: tuple[TorchFunctionMode, ...]
    stream: torch.cuda.Stream | None = None  # where CUDA is in use
    warnings: int = torch_insides.BASE_HANDLER  # an address on the stack of this side

    @classmethod
    def capture(cls) -> ThreadState:
        autocast = _autocast_now() if torch_insides.any_autocast() else None
        grad, inference = torch.is_grad_enabled(), torch.is_inference_mode_enabled()
        stream = torch.cuda.current_stream() if torch.cuda.is_initialized() else None
        modes, warnings = torch_insides.function_modes(), torch_insides.warning_handler()
        return cls(grad, inference, autocast, modes, stream, warnings)

    def on_a_stack_of_its_own(self) -> ThreadState:
        """The same for a forward that begins: its stack has nothing yet that takes warnings."""
        return self._replace(warnings=torch_insides.BASE_HANDLER)

    def restore(self, now: ThreadState) -> None:
        """Set all but inference mode, for which see `inference_guard`; `now` is what holds."""
        torch_insides.set_grad_enabled(self.grad)
        if now.warnings != self.warnings:
            torch_insides.set_warning_handler(self.warnings)
        if now.stream != self.stream:
            _change_stream(now.stream, self.stream)
        if now.autocast != self.autocast:
            off = [(False, dtype) for _, dtype in _autocast_now()]
            for device, (enabled, dtype) in zip(_DEVICES, self.autocast or off, strict=True):
                torch.set_autocast_enabled(device, enabled)
                torch.set_autocast_dtype(device, dtype)
        if now.modes != self.modes:
            torch_insides.change_function_modes(now.modes, self.modes)

    def inference_guard(self):
        """A context that has this state's inference mode, and restores the present one."""
        return torch.inference_mode(self.inference)


class UsersGradMode:
    """The grad mode outside a trace, put back when the trace ends.

    Traces of two models may end in another order than that in which they stand in each other, as
    in coroutines that take turns: the mode is put back by the one that ends last.
    """

    _open = threading.local()

    def __init__(self) -> None:
        self._mode: bool | None = None  # while the trace lasts

    def enter(self) -> None:
        self._mode = torch.is_grad_enabled()
        vars(self._open)["modes"] = [*self._others(), self]

    def leave(self) -> None:
        """Once or twice: an exception may rise on the way."""
        mode, modes = self._mode, vars(self._open).get("modes", [])
        if mode is not None and self in modes:  # else another thread's, whose mode it never changed
            later = [each for each in modes[modes.index(self) + 1 :] if each._mode is not None]
            if later:
                later[0]._mode = mode
            else:
                torch_insides.set_grad_enabled(mode)
            vars(self._open)["modes"] = self._others()
        self._mode = None

    def _others(self) -> list[UsersGradMode]:
        """Of the traces that last, in this thread."""
        modes = vars(self._open).get("modes", [])
        return [each for each in modes if each._mode is not None and each is not self]


def _change_stream(now: torch.cuda.Stream | None, then: torch.cuda.Stream | None) -> None:
    """Go on in another stream, behind all that was launched in the present one."""
    if now is None or then is None:
        return  # CUDA was initialised by one side: both are on its default stream
    then.wait_stream(now)
    torch.cuda.set_stream(then)


def _autocast_now() -> tuple[tuple[bool, torch.dtype], ...]:
    return tuple((torch.is_autocast_enabled(d), torch.get_autocast_dtype(d)) for d in _DEVICES)
