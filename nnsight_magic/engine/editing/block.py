"""What outputs and inputs are in an edit block, where they have no value yet.

They can be indexed and written to. `x = x * 2` is known as well as `x *= 2` is, so both are taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.errors import EditError

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Placed


class Computed:
    """What arithmetic with a slot leaves behind, until it is assigned.

    Attributes:
        operation: `"add"` or `"scale"`.
        value: the number or tensor.
        of: the slot that it has to be assigned to.
    """

    def __init__(self, operation: str, value: Any, of: Slot):
        self.operation, self.value, self.of = operation, value, of

    def check(self, handle: Placed, kind: str, index: tuple) -> None:
        """Refuse to be assigned to another place than the one that it was computed from.

        Raises:
            EditError: it is another one.
        """
        if not self.of.is_at(handle, kind, index):
            raise self.of.no_value("written elsewhere")

    def __getattr__(self, name: str) -> Any:
        raise self.of.no_value(name)


class Slot:
    """An output or input in an edit block: it can be indexed and written, and has no value."""

    def __init__(self, recorder: Any, handle: Placed, kind: str, index: tuple = ()):
        self._recorder, self._handle, self._kind, self._index = recorder, handle, kind, index

    def __getitem__(self, index: Any) -> Slot:
        return Slot(self._recorder, self._handle, self._kind, (*self._index, index))

    def __setitem__(self, index: Any, new: Any) -> None:
        self._recorder.note(self._handle, self._kind, (*self._index, index), new)

    def __add__(self, value: Any) -> Computed:
        return self._changed("add", value)

    def __sub__(self, value: Any) -> Computed:
        return self._changed("add", value, lambda value: -value)

    def __mul__(self, value: Any) -> Computed:
        return self._changed("scale", value)

    def __truediv__(self, value: Any) -> Computed:
        return self._changed("scale", value, lambda value: 1 / value)

    __radd__ = __iadd__ = __add__
    __rmul__ = __imul__ = __mul__
    __isub__, __itruediv__ = __sub__, __truediv__

    def _changed(
        self, operation: str, value: Any, of: Callable[[Any], Any] = lambda value: value
    ) -> Computed:
        if isinstance(value, Slot | Computed):
            raise self.no_value(operation)
        change = Computed(operation, of(value), self)
        self._recorder.changes.append(change)
        return change

    def is_at(self, handle: Placed, kind: str, index: tuple) -> bool:
        """Whether this is the place of that index, at whose end `[:]` changes nothing."""
        mine = (self._handle.path, self._handle.call, self._kind)
        return mine == (handle.path, handle.call, kind) and _same(self._index, index)

    def __getattr__(self, name: str) -> Any:
        raise self.no_value(name)

    @classmethod
    def __torch_function__(cls, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        place = next((each for each in args if isinstance(each, Slot)), None)
        if place is None:
            return NotImplemented
        if function in _REFLECTED and place is args[1]:  # `vector + place`
            return _REFLECTED[function](place, args[0])
        raise place.no_value(function.__name__)

    def no_value(self, name: str) -> EditError:
        """That nothing else can be done with it."""
        where = self._handle._called or f"{self._handle.name}.{self._kind}"
        return EditError(
            f"{where} has no value in an edit block ({name}): no forward "
            "runs there.\nAn edit is a write of known numbers: =, +=, -=, *= or /=. What depends "
            "on the model's values belongs into a trace."
        )


_REFLECTED = {torch.Tensor.__add__: Slot.__radd__, torch.Tensor.__mul__: Slot.__rmul__}
_REFLECTED |= {torch.Tensor.add: Slot.__radd__, torch.Tensor.mul: Slot.__rmul__}


def _same(one: tuple, other: tuple) -> bool:
    one, other = _without_whole(one), _without_whole(other)
    if any(isinstance(each, torch.Tensor | tuple | list) for each in (*one, *other)):
        return str(one) == str(other)
    return one == other


def _without_whole(index: tuple) -> tuple:
    while index and (index[-1] is ... or index[-1:] == (slice(None),)):
        index = index[:-1]
    return index


def _refusing(name: str) -> Callable[..., None]:
    def refuse(place: Slot | Computed, *others: Any) -> None:
        place = place.of if isinstance(place, Computed) else place
        raise place.no_value(name)

    return refuse


# Python looks these up in the class, past `__getattr__`.
_BOTH = ("add", "sub", "mul", "truediv", "matmul", "pow", "mod", "floordiv")
_OTHERS = ("neg", "abs", "bool", "float", "int", "len", "iter", "lt", "gt", "le", "ge")
for _name in (*_BOTH, *(f"r{each}" for each in _BOTH), *_OTHERS):
    for _kind in (Slot, Computed):
        if f"__{_name}__" not in vars(_kind):
            setattr(_kind, f"__{_name}__", _refusing(_name))
