"""Every handle of a model, by its path, and how a user writes that path."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from torch import nn

from nnsight_magic.engine.places.handle import Handle
from nnsight_magic.engine.places.own_names import hide_names
from nnsight_magic.engine.places.standard_names import BLOCK_NAMES, ROOT_NAMES, part_of_block

if TYPE_CHECKING:
    from nnsight_magic.engine.places.ports import Root


class Handles:
    """The handles of one model: made when they are first asked for, the same ever after.

    Attributes:
        attached: the modules that the user hung onto the tree, by path.
        rename: other names of the user's, from a child's name or path.
    """

    def __init__(
        self,
        model: Root,
        attached: dict[str, nn.Module],
        rename: dict[str, str | list[str]],
    ):
        self.attached, self.rename = attached, rename
        self._model = model
        self._by_path: dict[str, Handle] = {}
        self._written: dict[str, str] = {}

    def for_edited_copy(self, copy: Root) -> Handles:
        """Those of another wrapper of the same module, in which the same modules are attached."""
        return Handles(copy, self.attached, self.rename)

    def at(self, path: str) -> Handle:
        """The handle of the module at a real path, `"transformer.h.3.mlp"`."""
        handle = self._by_path.get(path)
        if handle is None:
            handle = self._by_path[path] = Handle(self._model, path)
            hide_names(handle, handle.ancestors()[-1])
        return handle

    def items(self, path: str, numbers: Iterable[int]) -> list[Handle]:
        """Those of the modules of a list, by their numbers."""
        prefix = f"{path}." if path else ""
        return [self.at(f"{prefix}{number}") for number in numbers]

    def paths(self) -> dict[int, str]:
        """The real path of every module, by its `id`; of several paths the first."""
        root = self._model._root
        return {id(module): path for path, module in reversed(list(root.named_modules()))}

    def written(self, path: str) -> str:
        """A path as a user writes it: standard names, indices in brackets; `"layers[3].mlp"`."""
        written = self._written.get(path)
        if written is None:
            written = self._written[path] = self._as_a_user_writes(path)
        return written

    def _as_a_user_writes(self, path: str) -> str:
        for name in ROOT_NAMES:
            real = self._model.names.path_of(name)
            if real is not None and (path == real or path.startswith(real + ".")):
                rest = path[len(real) :]
                if name == "layers" and rest:
                    rest = self._in_block(rest)
                return name + _bracketed(rest)
        return _bracketed(path)

    def _in_block(self, rest: str) -> str:
        index, _, inside = rest[1:].partition(".")
        block = self._model._root.get_submodule(f"{self._model.names.layers}.{index}")
        for name in BLOCK_NAMES:
            part = part_of_block(block, name)
            if part and (inside == part or inside.startswith(part + ".")):
                return f".{index}.{name}{inside[len(part) :]}"
        return rest


def _bracketed(path: str) -> str:
    """`h.3.mlp` as `h[3].mlp`."""
    return re.sub(r"\.(\d+)(?=\.|$)", r"[\1]", path)
