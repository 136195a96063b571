"""`tracer.cache(...)`: keep what many modules give, without naming each in the block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nnsight_magic.engine.places.own_names import of_user
from nnsight_magic.engine.values.containers import entries, first_argument, is_container, rebuild
from nnsight_magic.engine.values.value import as_value, own_copy
from nnsight_magic.errors import NotCachedError


class Entry:
    """What one module gave and was given.

    `output`, `input` and `inputs` are the value of its one call, or a list over the calls if there
    were several (the steps of a generation). `entry[k]` is call `k` alone, `len(entry)` their
    number.
    """

    def __init__(self, outputs: Iterable[Any] = (), given: Iterable[Any] = ()):
        self.outputs, self.given = list(outputs), list(given)

    @property
    def output(self) -> Any:
        """What the module returned."""
        return _one_or_all(self.outputs)

    @property
    def inputs(self) -> Any:
        """All arguments, `(args, kwargs)`."""
        return _one_or_all(self.given)

    @property
    def input(self) -> Any:
        """The first argument."""
        return _one_or_all([first_argument(args, kwargs) for args, kwargs in self.given])

    def __len__(self) -> int:
        return max(len(self.outputs), len(self.given))

    def __getitem__(self, call: int) -> Entry:
        at = range(len(self))[call]
        return Entry(self.outputs[at : at + 1], self.given[at : at + 1])

    def save(self) -> Entry:
        """Give it back; it is there after the block anyway."""
        return self

    def __repr__(self) -> str:
        return f"Entry(output={self.output!r}, inputs={self.inputs!r})"


def _one_or_all(values: list[Any]) -> Any:
    return values[0] if len(values) == 1 else (values or None)


@dataclass(repr=False)
class Cache(Mapping):
    """Values by module path, filled while the forward runs.

    `cache["model.layers.3.mlp"].output` and `cache["layers[3].mlp"].output` are the same, and a
    handle may be in the brackets too; `cache.model.layers[3].mlp.output` walks the tree, and a
    path may begin with a `model.` for the whole. Over a generation each value is a list, one item a
    step; `cache[module][k]` is one of them.
    """

    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    detach: bool = True
    _model: Any = None
    _entries: dict[str, Entry] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, module: Any) -> Entry:
        path = getattr(module, "path", module)
        whole = f"model.{path}" if isinstance(path, str) else ""
        for each in (path, whole.removeprefix("model.model").lstrip(".")):
            entry = self._entries.get(self._names.get(each, each))
            if entry is not None:
                return entry
        raise NotCachedError(
            f"The cache has no {path!r}.\nIt has {', '.join(map(repr, list(self)[:8]))}"
            f"{', …' * (len(self) > 8)}."
        )

    def __getattr__(self, name: str) -> Any:
        # `cache.model.transformer.h[0].output`: the tree, with what is kept at its places.
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(_InCache(self, self._model), name)

    def save(self) -> Cache:
        """Give it back; it is there after the block anyway."""
        return self

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __repr__(self) -> str:
        return f"Cache({len(self)} modules: {', '.join(list(self)[:6])}{', …' * (len(self) > 6)})"

    def keep(self, path: str, name: str, kind: str, value: Any) -> None:
        """Add a copy of one value."""
        self._names[name] = path
        entry = self._entries.setdefault(path, Entry())
        (entry.outputs if kind == "output" else entry.given).append(self._copy(value))

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            copy = own_copy(value.detach() if self.detach else value)
            dtype = self.dtype if copy.is_floating_point() else None
            return as_value(copy.to(device=self.device, dtype=dtype))
        if is_container(value):
            return rebuild(value, {key: self._copy(item) for key, item in entries(value)})
        return value


class _InCache:
    """A module of the tree, as `cache.model.layers[3]` reaches it."""

    def __init__(self, cache: Cache, handle: Any):
        self._cache, self._handle = cache, handle

    def __getattr__(self, name: str) -> Any:
        if name in ("output", "input", "inputs", "save"):
            return getattr(self._cache[self._handle], name)
        if name == "model" and "model" not in self._handle.children():
            return self
        found = of_user(self._handle, name)
        return _InCache(self._cache, found) if hasattr(found, "ancestors") else found

    def __getitem__(self, index: Any) -> Any:
        if isinstance(self._handle.module, torch.nn.ModuleList | torch.nn.Sequential):
            return _InCache(self._cache, self._handle[index])
        return self._cache[self._handle][index]

    def __len__(self) -> int:
        return len(self._cache[self._handle])


def modules_of(model: Any, wanted: Iterable[Any] | None) -> list[Any]:
    """Handles of the wanted modules (handles, paths, names), of every module for `None`."""
    if wanted is None:
        return [model._handles.at(path) for path, _ in model._root.named_modules()]
    return [model[each] if isinstance(each, str) else each for each in wanted]
