"""`tracer.cache(...)`: keep what many modules give, without naming each in the block."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from nnsight_magic.engine.value import entries, is_container, own_copy, rebuild


@dataclass
class Entry:
    """What one module gave and was given; a list over the calls if there were several."""

    output: Any = None
    inputs: Any = None

    @property
    def input(self) -> Any:
        """The first argument."""
        given = self.inputs[0] if isinstance(self.inputs, list) else self.inputs
        args, kwargs = given
        return args[0] if args else next(iter(kwargs.values()))


@dataclass
class Cache(Mapping):
    """Values by module path, filled while the forward runs.

    `cache["model.layers.3.mlp"].output` and `cache["layers[3].mlp"].output` are the same, and a
    handle may stand in the brackets too. Over a generation each value is a list, one item a step.
    """

    device: torch.device | str | None = None
    dtype: torch.dtype | None = None
    _entries: dict[str, Entry] = field(default_factory=dict)
    _names: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, module: Any) -> Entry:
        path = getattr(module, "path", module)
        return self._entries[self._names.get(path, path)]

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
        attribute = "output" if kind == "output" else "inputs"
        value, before = self._copy(value), getattr(entry, attribute)
        if isinstance(before, list):
            before.append(value)
        else:
            setattr(entry, attribute, value if before is None else [before, value])

    def _copy(self, value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            copy = own_copy(value.detach())
            dtype = self.dtype if copy.is_floating_point() else None
            return copy.to(device=self.device, dtype=dtype)
        if is_container(value):
            return rebuild(value, {key: self._copy(item) for key, item in entries(value)})
        return value


def modules_of(model: Any, wanted: Iterable[Any] | None) -> list[Any]:
    """Handles of the wanted modules (handles, paths, names), of every module for `None`."""
    if wanted is None:
        return [model._handle(path) for path, _ in model._root.named_modules()]
    return [model[each] if isinstance(each, str) else each for each in wanted]
