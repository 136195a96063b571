"""Containers of a forward pass that one may assign into, at any depth."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from nnsight_magic.engine.values.containers import copy_tree, entries, is_container
from nnsight_magic.engine.values.meant import child_meant
from nnsight_magic.engine.values.value import as_value, own_copy
from nnsight_magic.engine.values.words import describe, index_text

if TYPE_CHECKING:
    from nnsight_magic.engine.values.origin import Origin


class Parts:
    """A container (tuple, list, dict, model output) of a forward pass, to read and assign into.

    Indexing by position or key, attributes of model outputs, unpacking, `len`, `in`, `keys()`
    and `to_tuple()` work as on the original, and `isinstance` says of it what it says of the
    original: `out[0] if isinstance(out, tuple) else out` means what it always does. Assigning into
    it, at any depth, changes what flows on.
    """

    __slots__ = ("__weakref__", "_content", "_live", "_path", "_pause", "_saved", "where")

    _pause: Any  # an `Origin`; none for what a generation gave

    def __init__(self, pause: Origin | None, path: tuple, where: str):
        self._pause, self._path, self.where = pause, path, where
        # Live until the forward moves on or another container is written in its place; what it
        # held then is its content from then on.
        self._live, self._content = True, None
        self._saved = False

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]
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
        if hasattr(raw, name):
            return getattr(raw, name)
        meant = child_meant(self._pause, name)
        if hasattr(torch.Tensor, name) and not meant:
            raise AttributeError(self._no_tensor(f"has no {name!r}"))
        raise AttributeError(f"'{type(raw).__name__}' object has no attribute {name!r}{meant}")

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
