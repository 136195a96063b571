"""Parts of a value that have a layout of their own: the queries in `c_attn.output`, by head.

Such a part is no item of the value, so its key in a path is no index but a `Layout`: it shows the
part, and puts a changed part back in its place. What is written through it becomes a change of
the value that it lies in, so nothing else has to know of layouts.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from nnsight_magic.errors import WrongValueError


@dataclass(frozen=True)
class Layout:
    """A key in a path that is a part laid out anew.

    Attributes:
        called: the part as the user writes it, `"layers[3].attn.q"`.
        tokens: the axes of the part that go over tokens.
    """

    called: str = field(compare=False)
    tokens: tuple[int, ...] = field(default=(1,), kw_only=True)

    def take(self, raw: Any) -> torch.Tensor:
        """The part of `raw`, which may share its memory.

        Raises:
            WrongValueError: `raw` is laid out in no way that is known.
        """
        raise NotImplementedError

    def put(self, raw: Any, new: torch.Tensor) -> Any:
        """A value like `raw` with `new` as this part; `raw` itself stays as it is."""
        raise NotImplementedError

    def refuse(self, raw: Any, expected: str) -> WrongValueError:
        """That a value is not laid out as it was thought to be."""
        found = tuple(raw.shape) if isinstance(raw, torch.Tensor) else type(raw).__name__
        return WrongValueError(
            f"{self.called} is not to be found in what stands there.\n"
            f"Expected: {expected}. Found: {found}.\nUse the module's own output or input."
        )


@dataclass(frozen=True)
class Columns(Layout):
    """Heads in the columns of `(batch, tokens, columns)`, as `(batch, tokens, heads, size)`.

    The columns are `groups` equal stretches. In each stand, from its column `start` on, the
    `per` heads of the group one behind another: `GPTNeoX` has a group for each head, which holds
    its query, key and value; GPT-2 has one group, with all queries, then all keys, then all values.

    >>> import torch
    >>> fused = torch.arange(12).view(1, 1, 12)  # two heads of two: qq kk vv qq kk vv
    >>> keys = Columns("k", groups=2, start=2, per=1, size=2)
    >>> keys.take(fused)
    tensor([[[[2, 3],
              [8, 9]]]])
    >>> keys.put(fused, torch.zeros(1, 1, 2, 2, dtype=torch.long))
    tensor([[[ 0,  1,  0,  0,  4,  5,  6,  7,  0,  0, 10, 11]]])
    """

    groups: int = field(kw_only=True)
    start: int = field(kw_only=True)
    per: int = field(kw_only=True)
    size: int = field(kw_only=True)

    def take(self, raw: torch.Tensor) -> torch.Tensor:
        known = isinstance(raw, torch.Tensor) and (raw.ndim == 3 or raw.shape[1:-2] == (1,))
        if not known or raw.shape[-1] % self.groups:
            raise self.refuse(raw, "(batch, tokens, columns of all heads)")
        return self._columns(raw).unflatten(-1, (self.per, self.size)).flatten(-3, -2)

    def put(self, raw: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        # A contiguous copy, so that its groups are a view.
        changed = raw.clone(memory_format=torch.contiguous_format)
        self._columns(changed)[...] = new.unflatten(-2, (self.groups, self.per)).flatten(-2)
        return changed

    def _columns(self, raw: torch.Tensor) -> torch.Tensor:
        if raw.ndim == 4:  # DeepSeek's, which holds a place for heads
            raw = raw.squeeze(1)
        groups = raw.unflatten(-1, (self.groups, raw.shape[-1] // self.groups))
        return groups[..., self.start : self.start + self.per * self.size]


@dataclass(frozen=True)
class ByHead(Layout):
    """Heads that are told apart already, or stand side by side: what a norm of q or k gives.

    Architectures do it before or behind the swap of tokens and heads: `(batch, tokens, heads *
    size)`, `(batch, tokens, heads, size)` or `(batch, heads, tokens, size)`.

    Attributes:
        swapped: heads come first, where the shape does not tell: there are as many as tokens.
            `None` asks the strides, which tell unless the norm made a new tensor.
    """

    heads: int = field(kw_only=True)
    swapped: bool | None = field(default=None, kw_only=True)

    def take(self, raw: torch.Tensor) -> torch.Tensor:
        if isinstance(raw, torch.Tensor):
            if raw.ndim == 3 and raw.shape[-1] % self.heads == 0:
                return raw.unflatten(-1, (self.heads, -1))
            if raw.ndim == 4 and self.heads in raw.shape[1:3]:
                return raw.transpose(1, 2) if self._is_swapped(raw) else raw
        raise self.refuse(raw, f"(batch, tokens, {self.heads} heads, size)")

    def put(self, raw: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        if raw.ndim == 3:
            return new.flatten(-2)
        return new.transpose(1, 2) if self._is_swapped(raw) else new

    def _is_swapped(self, raw: torch.Tensor) -> bool:
        first, second = raw.shape[1:3]
        if first != second:
            return first == self.heads
        return raw.stride(1) < raw.stride(2) if self.swapped is None else self.swapped


@dataclass(frozen=True)
class Rotated(Layout):
    """Queries or keys as attention multiplies them, `(batch, heads, tokens, size)`, tokens first.

    Attributes:
        heads: how many there are of their own: keys may have been repeated for the queries.
        in_turn: they were repeated one after another, all of them again and again (JetMoe).
    """

    heads: int = field(kw_only=True)
    in_turn: bool = field(default=False, kw_only=True)

    def take(self, raw: torch.Tensor) -> torch.Tensor:
        whole = self._unpacked(raw)
        if whole.shape[1] % self.heads:
            raise self.refuse(raw, f"(batch, {self.heads} heads, tokens, size)")
        by_token = whole.transpose(1, 2)
        times = by_token.shape[2] // self.heads
        return by_token[:, :, : self.heads] if self.in_turn else by_token[:, :, ::times]

    def put(self, raw: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
        times = self._unpacked(raw).shape[1] // self.heads
        by_head = new.transpose(1, 2)
        if self.in_turn:
            return by_head.repeat(1, times, 1, 1)
        return by_head.repeat_interleave(times, 1).reshape(raw.shape)

    def _unpacked(self, raw: torch.Tensor) -> torch.Tensor:
        """The one query of a generation's step may be packed by the heads of keys."""
        shape = raw.shape
        if shape[1] < self.heads and shape[1] * shape[2] == self.heads:
            return raw.reshape(shape[0], self.heads, 1, shape[3])
        return raw


def item(value: Any, key: Any) -> Any:
    """What stands in `value` at one key of a path."""
    return key.take(value) if isinstance(key, Layout) else value[key]


def layout_of(path: tuple) -> Layout | None:
    """The layout at the end of a path, if the path names a part that has one."""
    return path[-1] if path and isinstance(path[-1], Layout) else None
