"""The torch operations of one call of a module's forward, as they are issued.

A torch function mode sees every operation of its thread. One belongs to the module if it was
issued by the module's own forward, or by functions that this calls (an attention function, the
application of rotary embeddings). What a submodule does when it is called belongs to the
submodule. The frames on the stack tell: between the operation and the watched forward there must
be no call of a module.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from types import CodeType, FrameType
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from nnsight_magic.engine.insides import torch_insides
from nnsight_magic.engine.running.dispatch import is_dispatched
from nnsight_magic.engine.running.fused import FUSED, by_heads, in_steps, put_by_heads
from nnsight_magic.engine.running.head_counts import head_count
from nnsight_magic.engine.running.multiplied import multiplied
from nnsight_magic.engine.running.norm_scale import FUSED_NORMS, is_reciprocal_root, scaled
from nnsight_magic.engine.sites.site import (
    BOTH,
    K_ROT,
    PATTERN,
    Q_ROT,
    SCALE,
    SCORES,
    Operation,
)
from nnsight_magic.engine.values.containers import first_argument
from nnsight_magic.engine.values.writes import mutates, same_bits

Arrive = Callable[[Operation, str, Any], Any]

_TORCH = os.path.dirname(os.path.abspath(torch.__file__)) + os.sep

# Questions about a tensor, which torch dispatches like operations.
_QUESTIONS = frozenset(
    f"__{name}__"
    for name in (
        "len", "bool", "int", "float", "complex", "index", "hash", "contains", "repr", "format",
        "array", "iter", "reduce_ex", "reduce", "deepcopy", "dir", "set", "delete", "setstate",
    )
) | {
    "size", "dim", "ndimension", "numel", "nelement", "stride", "storage_offset", "element_size",
    "data_ptr", "item", "tolist", "numpy", "has_names", "untyped_storage", "storage", "backward",
    "register_hook", "retain_grad", "requires_grad_", "allclose", "equal", "can_cast",
    "promote_types", "result_type", "finfo", "iinfo",
}  # fmt: skip
_PROPERTIES = frozenset({"T", "mT", "H", "mH", "real", "imag", "data"})  # that are tensors
_REFLECTED = frozenset(
    {"radd", "rsub", "rmul", "rdiv", "rtruediv", "rfloordiv", "rmod", "rpow", "rmatmul"}
)
_names: dict[Any, str | None] = {}


def operation_name(func: Any) -> str | None:
    """The name that a torch function goes by here, `None` for one that is no operation.

    All spellings of an operation share a name: `F.softmax(x, -1)` and `x.softmax(-1)` are
    "softmax", `a + b` is "add", `1 - x` is "sub", `x[0]` is "getitem", `x += 1` is "add_".

    >>> operation_name(torch.nn.functional.softmax), operation_name(torch.Tensor.__rsub__)
    ('softmax', 'sub')
    >>> operation_name(torch.Tensor.size) is None
    True
    """
    try:
        return _names[func]
    except (KeyError, TypeError):
        pass
    name = _named(func)
    # A property's getter is made anew each time, and may be held for ever by being a key here.
    if getattr(func, "__name__", "") != "__get__":
        _names[func] = name
    return name


def _named(func: Any) -> str | None:
    name = getattr(func, "__name__", None)
    if name is None:
        return None
    if name == "__get__":
        attribute = getattr(getattr(func, "__self__", None), "__name__", None)
        return attribute if attribute in _PROPERTIES else None
    if name in _QUESTIONS or name.startswith(("is_", "get_")):
        return None
    if name.startswith("__") and name.endswith("__"):
        inner = name[2:-2]
        if inner in _REFLECTED:
            inner = inner[1:]
        elif mutates(func) and inner != "setitem":
            inner = inner[1:] + "_"
        return {"truediv": "div", "invert": "bitwise_not"}.get(inner, inner)
    return None if name.startswith("_") else name


@dataclass(frozen=True, slots=True)
class Issued:
    """One operation as it was issued: its name and number, and the line that it is on."""

    operation: Operation
    code: CodeType
    line: int


@dataclass(slots=True)
class Listing:
    """The operations of one call of a module's forward, in order."""

    issued: list[Issued] = field(default_factory=list)
    complete: bool = False

    def counts(self) -> Counter[str]:
        """How often each operation was issued, by name, in the order of their first one."""
        return Counter(each.operation.name for each in self.issued)


def _nothing(*operations: Operation) -> bool:
    return False


class OperationMode(TorchFunctionMode):
    """Numbers the operations of one call and shows what goes in and out of each.

    Args:
        arrive: is given `(operation, "input", (args, kwargs))` and `(operation, "output",
            result)`, and gives what flows on.
        listing: filled with the operations.
        wanted: tells whether one of some operations is asked for that are computed only then.
        module, root: the module whose forward it is, and the model.
    """

    def __init__(
        self,
        arrive: Arrive,
        listing: Listing,
        module: nn.Module,
        root: nn.Module,
        wanted: Callable[..., bool] = _nothing,
    ):
        super().__init__()
        self._module, self._root = module, root
        self._arrive, self._listing, self._wanted = arrive, listing, wanted
        self._counts: dict[str, int] = {}
        self._forward: FrameType | None = None
        self.dispatched: Any = None  # what is being called, if it is one of `torch.ops`
        self._has_multiplied = self._has_scaled = False

    def run(self, forward: Callable, args: tuple, kwargs: dict[str, Any]) -> Any:
        """Run the watched forward."""
        self._forward = sys._getframe()
        try:
            result = forward(*args, **kwargs)
        finally:
            self._forward = self.dispatched = None
        if not isinstance(result, torch.Tensor) or not self._wanted(BOTH):
            return result
        return self._arrive(BOTH, "output", (first_argument(args, kwargs), result))[1]

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = operation_name(func)
        place = None if name is None else self._place(sys._getframe(1))
        if name is None or place is None:
            return func(*args, **kwargs)
        operation = self._issue(name, place)
        self.dispatched = func if is_dispatched(func) else None
        softmax = self._issue("softmax", place) if name == FUSED else None
        del place  # it would keep the model's tensors alive while the user holds this frame
        given = (args, kwargs)
        args, kwargs = self._arrive(operation, "input", given)
        if kwargs is not given[1] or args is not given[0]:
            args, kwargs = _in_the_same_tensors(func, given, args, kwargs)
        args, kwargs = self._show_products(name, args, kwargs)
        if operation == ("softmax", 0):
            args, kwargs = self._show_scores((args, kwargs))
        if softmax is not None and self._wanted(softmax, *_named_of(softmax)):
            heads = head_count(self._module, self._root)
            result = in_steps(func, args, kwargs, partial(self._show_softmax, softmax), heads)
        else:
            result = func(*args, **kwargs)
        if name in FUSED_NORMS or is_reciprocal_root(name, args):
            result = self._show_scale(name, args, kwargs, result)
        target = _written_by(func, args, kwargs)
        if target is None:
            return self._show_softmax(operation, "output", result)
        new = self._arrive(operation, "output", target)
        if new is not target:
            target.copy_(new)
        return result

    def _show_softmax(self, operation: Operation, kind: str, value: Any) -> Any:
        """As `arrive`; the output of the first softmax is shown as a pattern as well."""
        value = self._arrive(operation, kind, value)
        if not _named_of(operation):
            return value
        if kind == "input":
            return self._show_scores(value)
        if self._wanted(PATTERN):
            pattern = by_heads(self._module, self._root, value)
            new = self._show(PATTERN, pattern)
            if new is not pattern:
                value = put_by_heads(value, pattern, new)
        return value

    def _show_scores(self, given: tuple[tuple, dict]) -> tuple[tuple, dict]:
        """What goes into the first softmax, with its scores shown by head."""
        args, kwargs = given
        if not args or not self._wanted(SCORES):
            return given
        scores = by_heads(self._module, self._root, args[0])
        new = self._show(SCORES, scores)
        if new is scores:
            return given
        return (put_by_heads(args[0], scores, new), *args[1:]), kwargs

    def _show_products(self, name: str, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
        """An operation's arguments; the first queries and keys among them are shown."""
        found = None if self._has_multiplied else multiplied(name, args, kwargs)
        if found is None:
            return args, kwargs
        self._has_multiplied = True
        if not self._wanted(Q_ROT, K_ROT):
            return args, kwargs
        query, key = self._show(Q_ROT, found.query), self._show(K_ROT, found.key)
        if query is found.query and key is found.key:
            return args, kwargs
        return found.put(query, key)

    def _show_scale(self, name: str, args: tuple, kwargs: dict, result: Any) -> Any:
        """What a norm gives, or its reciprocal root, with what it multiplies by shown."""
        if self._has_scaled or not self._wanted(SCALE):
            return result
        self._has_scaled = True
        if name in FUSED_NORMS:
            return scaled(name, args, kwargs, result, partial(self._show, SCALE))
        return self._show(SCALE, result)

    def _show(self, named: Operation, value: torch.Tensor) -> torch.Tensor:
        """What is to flow on in place of a value with a name; itself where it was not changed."""
        new = self._arrive(named, "output", value)
        if new is value or new.requires_grad or value.requires_grad:
            return new  # the same numbers with another graph, or with none, are a change
        return value if same_bits(value, new) else new

    def _issue(self, name: str, place: FrameType) -> Operation:
        """The next operation of this name, noted."""
        index = self._counts.get(name, 0)
        self._counts[name] = index + 1
        operation = Operation(name, index)
        self._listing.issued.append(Issued(operation, place.f_code, place.f_lineno))
        return operation

    def _place(self, frame: FrameType | None) -> FrameType | None:
        """The line that issued an operation; `None` if it is not the watched forward's own."""
        place = last = None
        while frame is not None and frame is not self._forward:
            if frame.f_code is torch_insides.call_of_a_module and not self._made_here(frame):
                return None
            if place is None and not frame.f_code.co_filename.startswith(_TORCH):
                place = frame
            last, frame = frame, frame.f_back
        return None if frame is None else place or last

    def _made_here(self, call: FrameType) -> bool:
        """Whether a module of torch is called that the forward made: `nn.Softmax(dim=-1)(x)`."""
        called: Any = call.f_locals.get("self")
        if called._parameters or not type(called).__module__.startswith("torch.nn."):
            return False
        return not any(
            called is inner for tree in (self._module, self._root) for inner in tree.modules()
        )


def _named_of(operation: Operation) -> tuple[Operation, ...]:
    return (SCORES, PATTERN) if operation == ("softmax", 0) else ()


def _written_by(func: Any, args: tuple, kwargs: dict[str, Any]) -> torch.Tensor | None:
    """The tensor that an operation writes into, if it does: others hold that tensor too."""
    out = kwargs.get("out")
    if isinstance(out, torch.Tensor):
        return out
    writes = mutates(func) or kwargs.get("inplace") is True
    return args[0] if writes and args and isinstance(args[0], torch.Tensor) else None


def _in_the_same_tensors(func: Any, given: tuple, args: tuple, kwargs: dict) -> tuple[tuple, dict]:
    """The user's arguments, where an operation writes into its first one: into that very one."""
    target = _written_by(func, *given)
    if target is None or not args or target is not given[0][0] or args[0] is target:
        return args, kwargs
    target.copy_(args[0])
    return (target, *args[1:]), kwargs
