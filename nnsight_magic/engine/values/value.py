"""What a user holds: tensors with `.save()` and `.value`.

A `Value` is the user's own copy of a tensor of the forward pass. The engine keeps the model's
tensor, hands out a copy, and looks at the copy again when the forward moves on: what the user
changed in it (through any view, by any in-place operation) flows on. So nothing has to be
recorded while the user's code runs, and nothing that was saved can change afterwards.
"""

from __future__ import annotations

import contextlib
import warnings
from typing import TYPE_CHECKING, Any, Self

import torch

from nnsight_magic.engine.values.gradients import (
    NOT_RECORDED,
    go_backward,
    gradient_of,
    in_block,
    write_gradient,
)
from nnsight_magic.engine.values.meant import child_meant
from nnsight_magic.engine.values.part_gradients import same_part, whole_of
from nnsight_magic.engine.values.plainly import TENSOR, first_line, plainly
from nnsight_magic.engine.values.words import describe
from nnsight_magic.engine.values.writes import lends, mutates, tensors_written
from nnsight_magic.errors import (
    GraphError,
    NnsightWarning,
    WrongIndexError,
    WrongKindError,
    WrongValueError,
)

if TYPE_CHECKING:
    from nnsight_magic.engine.values.origin import Handed, Origin
    from nnsight_magic.engine.values.tensor_types import TensorOfValues
else:
    TensorOfValues = torch.Tensor


class Value(TensorOfValues):
    """A tensor read from a forward pass.

    It is a `torch.Tensor` in every respect. Results of operations on it are `Value`s too, so
    that `.save()` may end any expression.

    >>> import torch
    >>> v = as_value(torch.zeros(2, 3))
    >>> (v + 1).sum().save().value
    tensor(6.)
    """

    _pause: Origin | None = None  # where it was handed out, for errors about late writes
    _source: Any = None  # the tensor whose gradient this one shows
    _saved = False
    _texts: Any = None  # what knows the prompt's tokens by their texts
    # Such as "layers[3].mlp.output"; torch has a method of this name.
    where: str | None = None  # pyright: ignore[reportIncompatibleMethodOverride]

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if SameValue in types:
            return _of_outputs(func, args, kwargs)
        if func in _BACKWARD:
            return _go_backward(func, args, kwargs)
        if mutates(func) or "out" in kwargs or kwargs.get("inplace"):
            return _mutate(func, args, kwargs)
        result = plainly(func, *args, **kwargs)
        # `plain.to(value)` gives back the user's own tensor.
        if any(result is arg for arg in args):
            return result
        if type(result) is torch.Tensor:
            own: Any = result
            own.__class__ = Value
            own._texts = next((each._texts for each in args if isinstance(each, Value)), None)
            return own
        if isinstance(result, tuple | list):
            return _as_values(result)
        if lends(func):
            return _noted_loan(args[0], result)
        return result

    def __getitem__(self, index: Any) -> Value:
        if self._texts is not None:
            index = self._texts.numbers(index, self)
        return super().__getitem__(index)

    def __setitem__(self, index: Any, new: Any) -> None:
        if self._texts is not None:
            index = self._texts.numbers(index, self)
        super().__setitem__(index, new)

    def save(self) -> Self:
        """Mark as wanted: it is listed in the result. Values stay usable after the block anyway."""
        self._saved = True
        return self

    @property
    def value(self) -> torch.Tensor:
        """The same numbers as a plain `torch.Tensor`, a copy of your own."""
        return plain(own_copy(self))

    @property
    def data(self) -> torch.Tensor:
        """The same memory without gradients; what is written into it flows on.

        torch's own `data` hides such a write from everyone.
        """
        return self.detach()

    @data.setter
    def data(self, new: torch.Tensor) -> None:
        if handed_out(self) is None or new.shape != self.shape:
            plainly(TENSOR.data.__set__, self, new)
        else:
            self.detach().copy_(new)

    @property
    def real(self) -> torch.Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The real part; torch's own setter hides the write from everyone."""
        if not self.is_complex():
            return self
        return _as_values(plainly(TENSOR.real.__get__, self))

    @real.setter
    def real(self, new: torch.Tensor | float) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.real[...] = new

    @property
    def imag(self) -> torch.Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The imaginary part of complex numbers."""
        return _as_values(plainly(TENSOR.imag.__get__, self))

    @imag.setter
    def imag(self, new: torch.Tensor | float) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        self.imag[...] = new

    @property
    def grad(self) -> torch.Tensor | None:  # pyright: ignore[reportIncompatibleVariableOverride]
        """The gradient of what was differentiated with respect to this tensor.

        Of a part of a value, such as `layers[1].output[:, -1]`, that part of the whole's.
        """
        whole = self._whole()
        if whole is not None:
            found = whole.grad
            if found is None:
                return None
            if in_block() and found.stride() != whole.stride():
                raise GraphError(
                    "What would be written into the gradient of this part could not flow on: the "
                    "gradient lies in memory otherwise than the value.\n"
                    "Take the part of the whole's gradient: h.grad[:, -1], not h[:, -1].grad."
                )
            return as_value(plainly(same_part, found, whole, self))
        found = gradient_of(self._flowing)
        if found is None:
            if self._pause is not None and not self._flowing.requires_grad:
                warnings.warn(
                    f"{self.where} has no gradient.\n{NOT_RECORDED}", NnsightWarning, stacklevel=2
                )
            return None
        return as_value(found) if type(found) is torch.Tensor else found

    @grad.setter
    def grad(self, gradient: torch.Tensor | None) -> None:  # pyright: ignore[reportIncompatibleVariableOverride]
        whole = self._whole()
        if whole is None or not isinstance(gradient, torch.Tensor | int | float):
            write_gradient(self._flowing, gradient, self.where or "this value")
            return
        if isinstance(gradient, torch.Tensor) and gradient.shape != self.shape:
            raise WrongValueError(
                f"The gradient of this part is {describe(self)}.\nFound: {describe(gradient)}."
            )
        found = whole.grad
        full = plainly(torch.zeros_like, whole) if found is None else plain(own_copy(found))
        plainly(same_part, full, whole, self)[...] = gradient
        whole.grad = full

    def _whole(self) -> Value | None:
        """The value that this is a part of, where that is what flows on."""
        whole = None if self._source is not None else whole_of(self)
        if not isinstance(whole, Value) or whole._pause is None or whole.dtype != self.dtype:
            return None
        return whole

    @property
    def _flowing(self) -> torch.Tensor:
        """The tensor that flows on, whose gradient is this one's."""
        return self if self._source is None else self._source

    def __getattr__(self, name: str) -> Any:
        said = f"'{type(self).__name__}' object has no attribute {name!r}"
        raise AttributeError(said + child_meant(self._pause, name))

    def __repr__(self, *, tensor_contents=None) -> str:
        return repr(plain(self))

    def __format__(self, spec: str) -> str:
        return format(plain(self), spec)

    def __reduce_ex__(self, protocol):
        return plain(self).__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        return plain(self).__deepcopy__(memo)


class BlockValue(Value):
    """The output of a decoder block: `[0]` means the hidden states `(batch, tokens, hidden)`.

    transformers' blocks returned tuples until version 5 and tensors since, and every tutorial
    writes `block.output[0]`. Here that spelling keeps its meaning in every version; any other
    index goes to the tensor. `_output` is the block's raw output, whatever its layout.
    """

    def __getitem__(self, index):
        if type(index) is not int or index != 0:
            part = super().__getitem__(index)
            if type(index) is slice and type(part) is Value and index == slice(1, None):
                part.__class__ = BlockValue  # it knows what `(new,) + it` means
            return part
        hidden = super().__getitem__(...)
        if isinstance(hidden, Value):
            hidden.__class__ = SameValue
            hidden._source, hidden.where = self._source or self, self.where
        return hidden

    def __radd__(self, other) -> Any:
        # `(new,) + block.output[1:]`, where a block returned a tuple: what it gives is `new`.
        if isinstance(other, tuple) and len(other) == 1:
            return HiddenStates(other)
        return super().__radd__(other)

    def __setitem__(self, index, new):
        super().__setitem__(... if type(index) is int and index == 0 else index, new)


class SameValue(Value):
    """`block.output[0]`: the block's output under another name, whose own `[0]` is a row of it.

    torch is given the output in its place, so that hooks, gradients and `requires_grad_` are those
    of the tensor that flows on.
    """


def _of_outputs(func: Any, args: Any, kwargs: Any) -> Any:
    names: list[SameValue] = []

    def output(value: Any) -> Any:
        if type(value) is SameValue:
            names.append(value)
            return value._source
        if type(value) in (list, tuple):
            return type(value)(output(each) for each in value)
        return value

    args, kwargs = output(args), {name: output(value) for name, value in kwargs.items()}
    result = Value.__torch_function__(func, (), args, kwargs)
    return next((name for name in names if name._source is result), result)


class HiddenStates(tuple):
    """`(hidden,)`: what is written to a block's output as a tuple, as blocks used to give it."""


def as_value(tensor: torch.Tensor, cls: type[Value] = Value) -> Value:
    """Turn a tensor that nobody else holds into a `Value`, without a copy or an alias.

    Assigning `__class__` instead of `as_subclass` keeps it the very node of the autograd graph:
    its `.grad` is its own, and views of it have it as their base.
    """
    tensor.__class__ = cls
    return tensor  # pyright: ignore[reportReturnType]


def plain(value: torch.Tensor) -> torch.Tensor:
    """An alias of `value` that is an ordinary `torch.Tensor`."""
    if type(value) is SameValue:
        value = value._source
    if type(value) in (torch.Tensor, torch.nn.Parameter):
        return value
    return plainly(torch.Tensor.as_subclass, value, torch.Tensor)


def own_copy(tensor: torch.Tensor) -> torch.Tensor:
    """A plain copy with memory of its own, a step of the autograd graph where there is one."""
    if type(tensor) is torch.Tensor and not torch.is_inference_mode_enabled():
        return tensor.clone()
    if type(tensor) is SameValue:
        tensor = tensor._source
    if torch.is_inference_mode_enabled():
        with torch.inference_mode(False):
            copy = plainly(torch.Tensor.clone, tensor)
    else:
        copy = plainly(torch.Tensor.clone, tensor)
    return plain(copy) if isinstance(copy, Value) else copy


def handed_out(value: torch.Tensor) -> Handed | None:
    """What was handed out in the memory of `value`, whatever view or alias of it this is.

    The memory itself knows. It does not know any more when nobody holds it.
    """
    try:
        memory = plainly(torch.Tensor.untyped_storage, value)
    except (RuntimeError, NotImplementedError):  # a sparse one, or one inside torch.func
        return None
    return getattr(memory, "_handed_out", None)


def mark(value: torch.Tensor, handed: Handed) -> None:
    """Let the memory of `value` know what was handed out in it."""
    with contextlib.suppress(RuntimeError, NotImplementedError):  # a sparse one has none
        plainly(torch.Tensor.untyped_storage, value)._handed_out = handed


def _noted_loan(value: Any, borrower: Any) -> Any:
    handed = handed_out(value) if isinstance(value, Value) else None
    if handed is None or handed.pause.closed:
        return borrower
    if type(borrower).__module__ == "numpy":
        borrower = borrower.view()  # of an array, not of a tensor: only so it can be unlocked again
    handed.pause.lend(handed, value, borrower)
    return borrower


def _as_values(result: Any) -> Any:
    if type(result) is torch.Tensor:
        result.__class__ = Value
        return result
    if type(result) in (tuple, list):
        return type(result)(_as_values(item) for item in result)
    if isinstance(result, tuple):  # torch.return_types such as those of max and topk
        for item in result:
            _as_values(item)
    return result


_BACKWARD = frozenset({torch.Tensor.backward, torch.autograd.grad})


def _go_backward(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """`backward` and `autograd.grad`; what they give are values too."""
    inputs = kwargs.get("inputs")
    if isinstance(inputs, torch.Tensor):
        inputs = [inputs]
    if inputs is not None:  # torch does not ask whose they are
        outputs = [each._source if type(each) is SameValue else each for each in inputs]
        kwargs = {**kwargs, "inputs": outputs}
    found = go_backward(func, args, kwargs, handed_out=Value)
    if isinstance(found, tuple):  # of autograd.grad
        return tuple(as_value(each) if type(each) is torch.Tensor else each for each in found)
    return found


def _mutate(func, args, kwargs) -> Any:
    """An in-place operation: what is written of what was handed out must still be able to flow."""
    targets = [each for each in tensors_written(func, args, kwargs) if isinstance(each, Value)]
    pause = None
    for target in targets:
        handed = handed_out(target)
        if handed is not None:
            pause = handed.pause
            pause.check_in_place_write(handed, target)
    try:
        result = plainly(func, *args, **kwargs)
    except (RuntimeError, IndexError, TypeError) as error:
        if pause is None:
            raise
        found = error
    else:
        own = "out" in kwargs or any(result is arg for arg in args)
        return result if own else _as_values(result)
    kinds = {IndexError: WrongIndexError, TypeError: WrongKindError}
    kind = kinds.get(type(found), WrongValueError)
    raise kind(_explain(func, args, pause, found)) from None


def _explain(func, args, pause: Origin, error: Exception) -> str:
    """Say what a slice takes and what was given, where torch speaks of 'indexing results'."""
    name = pause.describe()
    lines = [f"{name} is {describe(args[0])}."] if args else []
    if func.__name__ == "__setitem__" and len(args) == 3:
        _, index, new = args
        try:
            slot = plainly(torch.Tensor.__getitem__, args[0], index)
        except (RuntimeError, IndexError, TypeError):
            lines.append(f"The index does not fit it: {first_line(error)}")
        else:
            lines.append(
                f"Expected for this part of it: {describe(slot)}, or what broadcasts to it."
            )
            lines.append(f"Found: {describe(new)}.")
    else:
        lines.append(f"In-place {func.__name__} failed: {first_line(error)}")
    return "\n".join(lines)
