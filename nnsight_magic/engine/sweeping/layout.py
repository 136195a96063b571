"""How the variants of a sweep share one forward: as rows of a batch, or packed in one row.

`Rows` puts the variants one under the other, each with all its tokens. `Packed` is for causal
decoders: what is written at a position changes no token before it, so a variant needs its tokens
from there on alone. Those of all variants stand one behind another in a row; each attends to the
keys and values that the clean run left for the tokens before, and to its own. What a variant
reads is put together from the clean value and its own part.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch

from nnsight_magic.engine.insides import transformers_insides
from nnsight_magic.engine.insides.transformers_insides import Keys
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.containers import entries, is_container, rebuild


class NotTokenwise(Exception):
    """A value that has no part for each token, or no row for each prompt: it cannot be shared."""


class Rows:
    """`count` variants, each with `rows` rows of the batch."""

    def __init__(self, rows: int, count: int):
        self.rows, self.count = rows, count

    def arguments(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The model's arguments, for all variants."""
        return tuple(map(self.spread, args)), {k: self.spread(v) for k, v in kwargs.items()}

    def spread(self, value: Any) -> Any:
        """A clean tensor `(rows, …)`, once for every variant."""
        if isinstance(value, torch.Tensor) and value.ndim and value.shape[0] == self.rows:
            return value.repeat(self.count, *[1] * (value.ndim - 1))
        return value

    def part(self, raw: Any, number: int, clean: Callable[[], Any] | None = None) -> Any:
        """What variant `number` sees of a value of the batch.

        Raises:
            NotTokenwise: the value has no rows that are the prompts', and `clean`, the same
                value of the clean run, tells that not all variants have it in common.
        """
        if isinstance(raw, torch.Tensor):
            if raw.ndim and raw.shape[0] == self.rows * self.count:
                return raw[self._slice(number)]
            # Routers see all tokens in one row, some attentions all heads: where a variant's
            # part lies in there cannot be told.
            if clean is not None and raw.ndim and raw.shape[0] > 1 and not _equal(raw, clean()):
                raise NotTokenwise
            return raw
        if is_container(raw):
            items = {}
            for key, item in entries(raw):
                theirs = None if clean is None else partial(_item, clean, key)
                items[key] = self.part(item, number, theirs)
            return rebuild(raw, items)
        return raw

    def carries(self, given: Any, changes: list[Change], number: int) -> bool:
        """Whether writes of variant `number` to the value `given` to it can be carried out."""
        return True

    def put(self, tensor: Any, changes: list[tuple[int, Any]]) -> torch.Tensor:
        """A copy of a tensor of the batch, with what variants wrote to theirs.

        Raises:
            NotTokenwise: it has no rows that are the prompts'.
        """
        if not isinstance(tensor, torch.Tensor) or not tensor.ndim:
            raise NotTokenwise
        slot = (self.rows, *tensor.shape[1:])
        if tensor.shape[0] != self.rows * self.count or any(n.shape != slot for _, n in changes):
            raise NotTokenwise
        merged = tensor.clone()
        for number, new in changes:
            merged[self._slice(number)] = new
        return merged

    def _slice(self, number: int) -> slice:
        return slice(number * self.rows, (number + 1) * self.rows)


class Packed:
    """Variants that need their tokens from `starts[number]` on.

    Args:
        tokens: of the prompt.
        starts: of each variant, below `tokens`.
        keys: what the clean run left behind in every block.
        cache_argument: the name by which the model takes them.
        kept: how many of the last positions have logits, 0 for all.
    """

    def __init__(
        self, tokens: int, starts: list[int], keys: Keys, cache_argument: str, kept: int = 0
    ):
        self.tokens, self.starts, self._keys, self._kept = tokens, starts, keys, kept
        self._cache_argument = cache_argument
        lengths = [tokens - start for start in starts]
        self._positions = torch.cat([torch.arange(start, tokens) for start in starts])
        self._variant = torch.repeat_interleave(torch.arange(len(starts)), torch.tensor(lengths))
        self._segments = {sum(lengths): _segments(lengths)}
        if kept:
            few = [min(kept, length) for length in lengths]
            self._segments[sum(few)] = _segments(few)

    def arguments(self, args: tuple, kwargs: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
        """The model's arguments: one packed row for each row of the inputs."""
        ids = kwargs["input_ids"]
        device, dtype = ids.device, self._keys[0][0].dtype
        new = {
            **kwargs,
            "input_ids": self.spread(ids),
            "position_ids": self._positions[None].to(device),
            "attention_mask": self._mask(dtype).to(device),
            self._cache_argument: self._cache(),
            "use_cache": True,
        }
        if self._kept:
            ends = [segment.stop for segment in self._segments[len(self._positions)]]
            lengths = [min(self._kept, self.tokens - start) for start in self.starts]
            kept = [range(end - length, end) for end, length in zip(ends, lengths, strict=True)]
            new["logits_to_keep"] = torch.tensor([i for each in kept for i in each], device=device)
        return args, new

    def spread(self, value: torch.Tensor) -> torch.Tensor:
        """A clean tensor `(rows, tokens, …)`: the tokens of every variant."""
        return value[:, self._positions.to(value.device)]

    def _mask(self, dtype: torch.dtype) -> torch.Tensor:
        """`(1, 1, packed tokens, remembered tokens + packed tokens)`, added to the scores."""
        start = torch.tensor(self.starts)[self._variant]
        before = torch.arange(max(self.starts))[None] < start[:, None]
        own = self._variant[:, None] == self._variant[None]
        own &= self._positions[:, None] >= self._positions[None]
        seen = torch.cat([before, own], 1)
        mask = torch.zeros(seen.shape, dtype=dtype).masked_fill(~seen, torch.finfo(dtype).min)
        return mask[None, None]

    def _cache(self) -> Any:
        cache, length = transformers_insides.new_cache(), max(self.starts)
        for block, (keys, values) in enumerate(self._keys):
            if length:
                cache.update(keys[:, :, :length], values[:, :, :length], block)
        return cache

    def part(self, raw: Any, number: int, clean: Callable[[], Any]) -> Any:
        """What variant `number` sees: the clean value up to its start, its own from there on.

        Raises:
            NotTokenwise: the value does not stand in a row of tokens.
        """
        return self._joined(clean(), raw, number)

    def _joined(self, clean: Any, raw: Any, number: int) -> Any:
        if is_container(clean):
            theirs = dict(entries(raw)) if is_container(raw) else {}
            return rebuild(
                clean,
                {k: self._joined(item, theirs.get(k), number) for k, item in entries(clean)},
            )
        if not isinstance(clean, torch.Tensor):
            return clean
        if clean.ndim < 3 and not clean.is_floating_point():
            return self._joined_numbers(clean, raw, number)
        segment = self._segment(raw, number)
        length = segment.stop - segment.start
        if clean.ndim != 3 or clean.shape[2] != raw.shape[2] or clean.shape[1] < length:
            raise NotTokenwise
        return torch.cat([clean[:, : clean.shape[1] - length], raw[:, segment]], 1)

    def _joined_numbers(self, clean: torch.Tensor, raw: Any, number: int) -> torch.Tensor:
        """Of ids, positions and the like: `(tokens,)` or `(rows, tokens)`."""
        if _equal(raw, clean):
            return clean
        if not isinstance(raw, torch.Tensor) or raw.shape[:-1] != clean.shape[:-1]:
            raise NotTokenwise
        if not clean.ndim or raw.shape[-1] not in self._segments:
            raise NotTokenwise
        segment = self._segments[raw.shape[-1]][number]
        kept = clean.shape[-1] - (segment.stop - segment.start)
        if kept < 0:
            raise NotTokenwise
        return torch.cat([clean[..., :kept], raw[..., segment]], -1)

    def _segment(self, raw: Any, number: int) -> slice:
        if not isinstance(raw, torch.Tensor) or raw.ndim != 3 or raw.shape[1] not in self._segments:
            raise NotTokenwise
        return self._segments[raw.shape[1]][number]

    def carries(self, given: Any, changes: list[Change], number: int) -> bool:
        """Whether writes leave everything before the variant's start alone."""
        lengths = {self.tokens, self._kept}
        written = [reach(value_at(given, path), new, lengths) for path, new in changes]
        return all(r is not None and r <= self.tokens - self.starts[number] for r in written)

    def put(self, tensor: Any, changes: list[tuple[int, Any]]) -> torch.Tensor:
        """A copy of a packed tensor, with what variants wrote to theirs."""
        merged = tensor.clone()
        for number, new in changes:
            if new.ndim != 3:
                continue  # it came with the container that was written, unchanged: see `reach`
            segment = self._segment(tensor, number)
            merged[:, segment] = new[:, segment.start - segment.stop :]
        return merged


def _equal(one: Any, other: Any) -> bool:
    tensors = isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    return tensors and one.dtype == other.dtype and torch.equal(one, other)


def _item(container: Callable[[], Any], key: Any) -> Any:
    return dict(entries(container())).get(key)


def _segments(lengths: list[int]) -> list[slice]:
    ends = torch.tensor(lengths).cumsum(0).tolist()
    return [slice(end - length, end) for end, length in zip(ends, lengths, strict=True)]


def reach(old: Any, new: Any, lengths: set[int]) -> int | None:
    """How many of the last tokens a write changes, `None` where something else is changed.

    Tokens stand in the second dimension of tensors `(rows, tokens, features)`, whose number of
    tokens has to be one of `lengths`.
    """
    if is_container(old) and is_container(new):
        ours, theirs = dict(entries(old)), dict(entries(new))
        if ours.keys() != theirs.keys():
            return None
        reaches = [reach(item, theirs[key], lengths) for key, item in ours.items()]
        known = [each for each in reaches if each is not None]
        return None if len(known) < len(reaches) else max(known, default=0)
    if not isinstance(old, torch.Tensor) or not isinstance(new, torch.Tensor):
        return 0 if new is old else None
    if old.shape != new.shape or old.dtype != new.dtype:
        return None
    if old.ndim != 3 or old.shape[1] not in lengths:
        return 0 if torch.equal(old, new) else None
    changed = (old != new).any(2).any(0).nonzero()
    return old.shape[1] - int(changed[0]) if len(changed) else 0


def value_at(value: Any, path: tuple) -> Any:
    """The item at a path of keys."""
    for key in path:
        value = value[key]
    return value


def merged(raw: Any, written: dict[tuple, list[tuple[int, Any]]], layout: Rows | Packed) -> Any:
    """`raw` with what variants wrote at paths of it; each tensor is copied once."""
    for path, changes in written.items():
        raw = _merged_at(raw, path, changes, layout)
    return raw


def _merged_at(raw: Any, path: tuple, changes: list[tuple[int, Any]], layout: Rows | Packed) -> Any:
    if path:
        return rebuild(raw, {path[0]: _merged_at(raw[path[0]], path[1:], changes, layout)})
    if not is_container(raw):
        return layout.put(raw, changes)
    for key, _ in entries(raw):
        part = [
            (number, new[key])
            for number, new in changes
            if key in dict(entries(new))
            and isinstance(new[key], torch.Tensor | tuple | list | dict)
        ]
        if part:
            raw = rebuild(raw, {key: _merged_at(raw[key], (), part, layout)})
    return raw


def side_by_side(prompts: Sequence[Any], rows: int) -> tuple[tuple, dict[str, Any]]:
    """The arguments of the model for variants of several prompts, one under the other.

    Args:
        prompts: with `args` and `inputs`, for each variant its own.
        rows: of each.
    """

    def joined(values: list[Any]) -> Any:
        first = values[0]
        if isinstance(first, torch.Tensor) and first.ndim and first.shape[0] == rows:
            return torch.cat(values)
        return first

    args = tuple(joined([*each]) for each in zip(*(p.args for p in prompts), strict=True))
    names = prompts[0].inputs
    return args, {name: joined([p.inputs[name] for p in prompts]) for name in names}
