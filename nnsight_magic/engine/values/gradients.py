"""Gradients of a trace's values: `loss.backward()`, and `with loss.backward():`.

The plain call is torch's own. As a block it is the same backward pass, whose gradients can be read
in the block and written there: what is written flows on to whatever lies before it, as if the
gradient had been so from the start. For that the pass is run once more, from the same leaves.
"""

from __future__ import annotations

import dis
import sys
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

import torch

from nnsight_magic.engine.sites.caller import PACKAGE
from nnsight_magic.engine.values.plainly import TENSOR, first_line, plainly
from nnsight_magic.engine.values.words import describe
from nnsight_magic.errors import GraphError, WrongValueError

_TORCH = torch.__file__.rpartition("__init__")[0]
NOT_RECORDED = (
    "The trace that it comes from recorded no graph: its block asks for no gradients (backward, "
    "grad), nor is what it bound asked for them.\nUse model.trace(…, grad=True)."
)


# Asked to carry out a backward pass where several runs share one: whether that was done.
shared_backward: ContextVar[Callable[..., bool] | None] = ContextVar("shared", default=None)
# The `with loss.backward():` that is running.
_block: ContextVar[Backward | None] = ContextVar("backward_block", default=None)


def go_backward(func: Any, args: tuple, kwargs: dict, handed_out: type) -> Any:
    """Carry out `backward` or `autograd.grad`; `with loss.backward():` gives a block.

    Args:
        handed_out: the class of tensors that a user reads from a forward.
    """
    entered = func is torch.Tensor.backward and _is_entered(_calling_frame())
    ask = shared_backward.get()
    if ask is not None and ask(args, kwargs, plain=func is torch.Tensor.backward and not entered):
        return None
    if entered:
        return Backward(args, kwargs, handed_out)
    return _differentiate(func, args, kwargs)


def gradient_of(source: torch.Tensor) -> torch.Tensor | None:
    """The gradient of a tensor that flowed on; in a block of `backward`, in that pass."""
    block = _block.get()
    return value_grad(source) if block is None else block.read(source)


def in_block() -> bool:
    """Whether a block of `backward` is being run, in which gradients may be written into."""
    return _block.get() is not None


def write_gradient(source: torch.Tensor, gradient: Any, where: str) -> None:
    """`value.grad = gradient`; in a block of `backward` it flows on to what lies before."""
    block = _block.get()
    if block is None:
        plainly(TENSOR.grad.__set__, source, gradient)
    else:
        block.write(source, gradient, where)


class Backward:
    """`with loss.backward():` the gradients of one backward pass, to read and to write.

    >>> import torch
    >>> from nnsight_magic import Model
    >>> model = Model(torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.ReLU()))
    >>> with model.trace(torch.ones(1, 3)):
    ...     hidden = model[0].output
    ...     with model.output.sum().backward():
    ...         gradient = hidden.grad.save()
    >>> gradient.shape
    torch.Size([1, 4])
    """

    def __init__(self, args: tuple, kwargs: dict, handed_out: type):
        self._handed_out = handed_out
        self._args: Any = args
        self._kwargs: Any = {**kwargs, "retain_graph": True}
        self._read: list[tuple[torch.Tensor, torch.Tensor, int]] = []
        self._instead: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}
        self._new = False  # written since the pass was run last
        self._token: Any = None

    def __enter__(self) -> Backward:
        self._leaves = [(leaf, _copy_of_grad(leaf)) for leaf in _leaves(self._args[0])]
        self._run()
        self._token = _block.set(self)
        return self

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        _block.reset(self._token)
        if kind is None:
            self._settle()
        self._read.clear()
        self._leaves.clear()
        self._args = self._kwargs = self._token = None

    def read(self, source: torch.Tensor) -> torch.Tensor | None:
        """The gradient of one tensor in this pass; a copy, which may be written into."""
        self._settle()
        found = plainly(TENSOR.grad.__get__, source) if _keeps_grad(source) else None
        if found is None and source.requires_grad:
            found = self._alone(source)
        if found is None:
            return None
        found = _copy(found)
        self._read.append((source, found, found._version))
        return found

    def write(self, source: torch.Tensor, gradient: Any, where: str) -> None:
        """Let `gradient` flow on in place of the tensor's own."""
        if isinstance(gradient, int | float):
            gradient = plainly(torch.full_like, source, gradient)
        if not isinstance(gradient, torch.Tensor) or gradient.shape != source.shape:
            raise WrongValueError(
                f"The gradient of {where} is {describe(source)}.\nFound: {describe(gradient)}."
            )
        self._settle()
        self._instead[id(source)] = (source, _copy(gradient).to(source))
        self._new = True

    def _settle(self) -> None:
        """Run the pass once more if a gradient was changed since."""
        for source, found, version in self._read:
            if found._version != version:
                self._instead[id(source)] = (source, _copy(found))
                self._new = True
        if self._new:
            self._read.clear()
            self._run()

    def _run(self) -> None:
        self._new = False
        before = {id(value): (value, value_grad(value)) for value in _live()}
        for value, _ in before.values():
            plainly(TENSOR.grad.__set__, value, None)
        for leaf, grad in self._leaves:
            alone = isinstance(
                leaf, self._handed_out
            )  # read in the block: of this pass, not of all so far
            again = None if grad is None or alone else grad.clone()
            plainly(TENSOR.grad.__set__, leaf, again)
        with _Hooks(self._instead):
            _differentiate(torch.Tensor.backward, self._args, self._kwargs)
        for value, grad in before.values():
            if value_grad(value) is None:  # of another trace
                plainly(TENSOR.grad.__set__, value, grad)

    def _alone(self, source: torch.Tensor) -> torch.Tensor | None:
        loss, *given = self._args
        outputs = given[0] if given else self._kwargs.get("gradient")
        with _Hooks(self._instead):
            return plainly(
                torch.autograd.grad, loss, source, outputs, retain_graph=True, allow_unused=True
            )[0]


class _Hooks:
    """While it lasts, gradients are replaced by what the user wrote."""

    def __init__(self, instead: dict[int, tuple[torch.Tensor, torch.Tensor]]):
        self._instead = list(instead.values())

    def __enter__(self) -> None:
        self._handles = [
            plainly(torch.Tensor.register_hook, source, lambda _, new=new: new.clone())
            for source, new in self._instead
        ]

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()


# Values whose gradient torch keeps, for as long as somebody has them.
_retaining: dict[int, weakref.ref] = {}


def retain_grad(value: torch.Tensor) -> None:
    """Have torch keep the gradient of a value that is no leaf."""
    value.retain_grad()
    key = id(value)
    _retaining[key] = weakref.ref(value, lambda _: _retaining.pop(key, None))


def _copy(tensor: torch.Tensor) -> torch.Tensor:
    """The numbers of a tensor, without its graph and without a class of ours."""
    with torch.inference_mode(False):
        copy = plainly(torch.Tensor.clone, plainly(torch.Tensor.detach, tensor))
    return plainly(torch.Tensor.as_subclass, copy, torch.Tensor)


def value_grad(value: torch.Tensor) -> torch.Tensor | None:
    """The tensor's own `.grad`, whatever block is running."""
    return plainly(TENSOR.grad.__get__, value)


def _live() -> list[torch.Tensor]:
    found = [reference() for reference in list(_retaining.values())]
    live = [value for value in found if value is not None]
    for value in live:
        value._fix_weakref()  # see `HandedOut.alive`
    return live


def _keeps_grad(tensor: torch.Tensor) -> bool:
    return tensor.is_leaf or tensor.retains_grad


def _copy_of_grad(leaf: torch.Tensor) -> torch.Tensor | None:
    grad = value_grad(leaf)
    return None if grad is None else grad.detach().clone()


def _leaves(loss: torch.Tensor) -> list[torch.Tensor]:
    """The tensors at which the graph of `loss` ends: weights, mostly."""
    found, seen, ahead = [], set(), [loss.grad_fn]
    while ahead:
        node = ahead.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaf = getattr(node, "variable", None)
        if leaf is not None:
            found.append(leaf)
        ahead.extend(each for each, _ in node.next_functions)
    return found


def _differentiate(func: Any, args: tuple, kwargs: dict) -> Any:
    """torch does not know of traces: say which of them recorded too little, or too much."""
    try:
        found = plainly(func, *args, **kwargs)
    except RuntimeError as error:
        if "does not require grad" in str(error):
            hint = NOT_RECORDED
        elif "through the graph a second time" in str(error):
            hint = (
                "A value that a trace read has a graph of its own, through the model, and that is "
                "gone after the first backward.\nRead it without one, model.trace(…, grad=False), "
                "or cut it off: h.detach()."
            )
        else:
            raise
        said = first_line(error)
    else:
        return found
    raise GraphError(f"{said}\n{hint}") from None


def _calling_frame() -> FrameType | None:
    """The frame that called torch."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith((PACKAGE, _TORCH)):
        frame = frame.f_back
    return frame


def _is_entered(frame: FrameType | None) -> bool:
    """Whether what the frame has just called is the subject of a `with` statement."""
    return frame is not None and frame.f_lasti in _entered(frame.f_code)


@lru_cache(maxsize=256)
def _entered(code: CodeType) -> frozenset[int]:
    """Where in a function a `with` statement enters what a call has given."""
    found = [each for each in dis.get_instructions(code) if each.opname != "CACHE"]
    names = [each.opname for each in found] + ["", ""]
    entered: set[int] = set()
    for at, each in enumerate(found):
        after = names[at + 1 : at + 3]
        if each.opname.startswith("CALL") and (
            after[0] == "BEFORE_WITH" or after == ["COPY", "LOAD_SPECIAL"]
        ):
            # While it runs, a frame is at the call or in the cache behind it.
            entered.update(range(each.offset, found[at + 1].offset))
    return frozenset(entered)
