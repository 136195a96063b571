"""What a user holds: tensors with `.save()` and `.value`, and containers one may assign into.

A `Value` is the user's own copy of a tensor of the forward pass. The engine keeps the model's
tensor, hands out a copy, and looks at the copy again when the forward moves on: what the user
changed in it (through any view, by any in-place operation) flows on. So nothing has to be
recorded while the user's code runs, and nothing that was saved can change afterwards.
"""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.values.words import describe, index_text
from nnsight_magic.engine.values.writes import lends, mutates, written
from nnsight_magic.errors import WrongIndexError, WrongKindError, WrongValueError

if TYPE_CHECKING:
    from nnsight_magic.engine.values.pause import HandedOut, Pause


# The `with loss.backward():` that is running; see `gradients`.
backward_block: ContextVar[Any] = ContextVar("backward_block", default=None)


def plainly(func: Any, *args: Any, **kwargs: Any) -> Any:
    """Call a torch function with `Value`s as the plain tensors that they are.

    In one call of C, where `with torch._C.DisableTorchFunctionSubclass()` could be left by an
    interrupt between its end and its exit, and would stay in force for the whole thread.
    """
    return torch._C._disabled_torch_function_impl(func, (), args, kwargs)


class Value(torch.Tensor):
    """A tensor read from a forward pass.

    It is a `torch.Tensor` in every respect. Results of operations on it are `Value`s too, so
    that `.save()` may stand at the end of any expression.

    >>> import torch
    >>> v = as_value(torch.zeros(2, 3))
    >>> (v + 1).sum().save().value
    tensor(6.)
    """

    _pause: Pause | None = None  # where it was handed out, for errors about late writes
    _source: torch.Tensor | None = None  # the tensor whose gradient this one shows
    _saved = False
    where: str | None = None  # such as "layers[3].mlp.output"

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if SameValue in types:
            return _of_outputs(func, args, kwargs)
        if func in _BACKWARD:
            from nnsight_magic.engine.values.gradients import go_backward  # values come first

            return go_backward(func, args, kwargs)
        if mutates(func) or "out" in kwargs or kwargs.get("inplace"):
            return _mutate(func, args, kwargs)
        result = plainly(func, *args, **kwargs)
        # `plain.to(value)` gives back the user's own tensor.
        if any(result is arg for arg in args):
            return result
        if type(result) in _HOLDING_TENSORS or isinstance(result, tuple | list):
            return _as_values(result)
        if lends(func):
            return _noted_loan(args[0], result)
        return result

    def save(self) -> Value:
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
            plainly(torch.Tensor.data.__set__, self, new)
        else:
            self.detach().copy_(new)

    @property
    def real(self) -> torch.Tensor:
        """The real part; torch's own setter hides the write from everyone."""
        if not self.is_complex():
            return self
        return _as_values(plainly(torch.Tensor.real.__get__, self))

    @real.setter
    def real(self, new: torch.Tensor | float) -> None:
        self.real[...] = new

    @property
    def imag(self) -> torch.Tensor:
        """The imaginary part of complex numbers."""
        return _as_values(plainly(torch.Tensor.imag.__get__, self))

    @imag.setter
    def imag(self, new: torch.Tensor | float) -> None:
        self.imag[...] = new

    @property
    def grad(self) -> torch.Tensor | None:
        """The gradient of what was differentiated with respect to this tensor."""
        from nnsight_magic.engine.values.gradients import gradient_of  # values come first

        return gradient_of(self)

    @grad.setter
    def grad(self, gradient: torch.Tensor | None) -> None:
        from nnsight_magic.engine.values.gradients import write_gradient

        write_gradient(self, gradient)

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

    def __radd__(self, other):
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


_HOLDING_TENSORS = (torch.Tensor, tuple, list)


def as_value(tensor: torch.Tensor, cls: type[Value] = Value) -> Value:
    """Turn a tensor that nobody else holds into a `Value`, without a copy or an alias.

    Assigning `__class__` instead of `as_subclass` keeps it the very node of the autograd graph:
    its `.grad` is its own, and views of it have it as their base.
    """
    tensor.__class__ = cls
    return tensor


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


def handed_out(value: torch.Tensor) -> HandedOut | None:
    """What was handed out in the memory of `value`, whatever view or alias of it this is.

    The memory itself knows. It does not know any more when nobody holds it.
    """
    try:
        memory = plainly(torch.Tensor.untyped_storage, value)
    except (RuntimeError, NotImplementedError):  # a sparse one, or one inside torch.func
        return None
    return getattr(memory, "_handed_out", None)


def mark(value: torch.Tensor, handed: HandedOut) -> None:
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


def _mutate(func, args, kwargs) -> Any:
    """An in-place operation: what is written of what was handed out must still be able to flow."""
    targets = [each for each in written(func, args, kwargs) if isinstance(each, Value)]
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


def _explain(func, args, pause: Pause, error: Exception) -> str:
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


def first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]


class Parts:
    """A container (tuple, list, dict, model output) of a forward pass, to read and assign into.

    Indexing by position or key, attributes of model outputs, unpacking, `len`, `in`, `keys()`
    and `to_tuple()` work as on the original, and `isinstance` says of it what it says of the
    original: `out[0] if isinstance(out, tuple) else out` means what it always does. Assigning into
    it, at any depth, changes what flows on.
    """

    __slots__ = ("__weakref__", "_content", "_live", "_path", "_pause", "_saved", "where")

    def __init__(self, pause: Pause, path: tuple, where: str):
        self._pause, self._path, self.where = pause, path, where
        # Live until the forward moves on or another container is written in its place; what it
        # held then is its content from then on.
        self._live, self._content = True, None
        self._saved = False

    @property
    def __class__(self) -> type:
        return type(self._raw())

    def _raw(self) -> Any:
        return self._pause.part(self._path) if self._live else self._content

    def _keep(self) -> None:
        """Hold copies from now on, not what flows on."""
        if self._live:
            self._hold(copy_tree(self._pause.part(self._path)))

    def _hold(self, content: Any) -> None:
        self._live, self._content = False, content

    def _key(self, key: Any) -> Any:
        raw = self._raw()
        if isinstance(raw, Mapping):
            if isinstance(key, int) and key not in raw and hasattr(raw, "to_tuple"):
                return list(raw.keys())[key]
            if not isinstance(key, str):
                raise TypeError(self._no_tensor(f"takes no [{index_text(key)}]", key))
            return key
        if not isinstance(key, int):
            raise TypeError(self._no_tensor(f"takes no [{index_text(key)}]", key))
        return range(len(raw))[key]

    def _no_tensor(self, what: str, key: Any = None) -> str:
        """That this is a container, and where in it the tensor is that was meant."""
        raw = self._raw()
        held = [(key, item) for key, item in entries(raw) if isinstance(item, torch.Tensor)]
        lines = [f"{self.where} is a {describe(raw)}, not one tensor: it {what}."]
        for at, item in held[:4]:
            lines.append(f"It holds {self.where}{_at(at)}: {describe(item)}.")
        if held:
            index = "" if key is None else f"[{index_text(key)}]"
            lines.append(f"Name the item first: {self.where}{_at(held[0][0])}{index}.")
        return "\n".join(lines)

    def __getitem__(self, key: Any) -> Any:
        raw = self._raw()
        if isinstance(key, slice):
            return tuple(self[i] for i in range(len(raw))[key])
        key = self._key(key)
        raw[key]  # raises the container's own IndexError or KeyError
        if self._live:
            return self._pause.take((*self._path, key))
        return self._after(raw[key], key)

    def _after(self, item: Any, key: Any) -> Any:
        if isinstance(item, torch.Tensor):
            return as_value(own_copy(item))
        if is_container(item):
            child = Parts(self._pause, (*self._path, key), f"{self.where}[{key!r}]")
            child._hold(item)
            return child
        return item

    def __setitem__(self, key: Any, new: Any) -> None:
        if self._pause is None:
            raise TypeError(f"{self.where} is a result: nothing flows on from it.")
        if not self._live:
            self._pause.refuse_old(self.where)
        self._pause.put((*self._path, self._key(key)), new)

    def __getattr__(self, name: str) -> Any:
        raw = self._raw()
        if isinstance(raw, Mapping) and name in raw:
            return self[name]
        if not hasattr(raw, name) and hasattr(torch.Tensor, name):
            raise AttributeError(self._no_tensor(f"has no {name!r}"))
        return getattr(raw, name)

    def __setattr__(self, name: str, new: Any) -> None:
        if name in Parts.__slots__:
            object.__setattr__(self, name, new)
        else:
            self[name] = new

    def __iter__(self) -> Iterator[Any]:
        raw = self._raw()
        if isinstance(raw, Mapping):
            return iter(list(raw.keys()))
        return (self[i] for i in range(len(raw)))

    def __len__(self) -> int:
        return len(self._raw())

    def __contains__(self, item: Any) -> bool:
        return item in self._raw()

    def keys(self):
        return self._raw().keys()

    def values(self) -> list[Any]:
        return [self[key] for key in self.keys()]

    def items(self) -> list[tuple[Any, Any]]:
        return [(key, self[key]) for key in self.keys()]

    def to_tuple(self) -> tuple:
        return tuple(self.values()) if isinstance(self._raw(), Mapping) else tuple(self)

    def save(self) -> Parts:
        """Mark as wanted: it is listed in the result."""
        self._saved = True
        return self

    @property
    def value(self) -> Any:
        """A copy in the container's own type, with plain tensors."""
        return copy_tree(self._raw())

    # A copy is one of what it held, which belongs to no trace: a plain tuple, dict, model output.
    def __reduce_ex__(self, protocol: Any) -> tuple:
        return _itself, (self.value,)

    def __copy__(self) -> Any:
        return self.value

    def __deepcopy__(self, memo: dict) -> Any:
        return copy.deepcopy(self.value, memo)

    def __repr__(self) -> str:
        raw = self._raw()
        if isinstance(raw, Mapping):
            inside = ", ".join(f"{key}: {describe(item)}" for key, item in raw.items())
            return f"{type(raw).__name__}({inside})"
        return f"({', '.join(describe(item) for item in raw)})"


def _itself(content: Any) -> Any:
    return content


# So that `torch.load`, which takes nothing unknown, takes saved containers of tensors; and those
# that were saved before the engine had rooms, see `moved`.
torch.serialization.add_safe_globals([_itself, (_itself, "nnsight_magic.engine.value._itself")])


def _at(key: Any) -> str:
    return f".{key}" if isinstance(key, str) and key.isidentifier() else f"[{key!r}]"


def _refused(sign: str) -> Any:
    def refuse(parts: Parts, other: Any) -> Any:
        raise TypeError(parts._no_tensor(f"cannot be used with {sign}"))

    return refuse


# Python looks these up in the class. Without them it speaks of a type that no user has heard of.
for _name, _sign in {"add": "+", "sub": "-", "mul": "*", "truediv": "/", "matmul": "@"}.items():
    for _kind in ("", "r", "i"):
        setattr(Parts, f"__{_kind}{_name}__", _refused(_sign + "=" * (_kind == "i")))


def is_container(value: Any) -> bool:
    """Whether `value` is handed out as `Parts`: tuples, lists, dicts and model outputs."""
    return isinstance(value, tuple | list | dict)


def copy_tree(value: Any) -> Any:
    """The same structure with a copy of each tensor in it."""
    if isinstance(value, torch.Tensor):
        return own_copy(value)
    if is_container(value):
        return rebuild(value, {key: copy_tree(item) for key, item in entries(value)})
    return value


def entries(value: Any) -> list[tuple[Any, Any]]:
    """Keys and items of a container; positions are the keys of a tuple or list."""
    return list(value.items()) if isinstance(value, dict) else list(enumerate(value))


def rebuild(value: Any, changed: dict[Any, Any]) -> Any:
    """A container like `value` with some items replaced; `value` itself stays as it is."""
    if isinstance(value, dict):
        new = copy.copy(value)
        for key, item in changed.items():
            new[key] = item
        return new
    items = list(value)
    for key, item in changed.items():
        items[key] = item
    if isinstance(value, tuple) and hasattr(value, "n_sequence_fields"):  # torch.return_types
        return type(value)(items)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*items)
    return type(value)(items) if type(value) in (tuple, list) else tuple(items)
