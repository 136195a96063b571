"""Where a write changed something: in which prompts, at which tokens, of which heads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.places.heads import has_heads, head_layout
from nnsight_magic.engine.sites.site import PATTERN, SCORES, Site
from nnsight_magic.engine.sweeping.axes import Axes, PromptBatch, axes_at
from nnsight_magic.engine.tracing.token_texts import PromptRow
from nnsight_magic.engine.tracing.written import Written
from nnsight_magic.errors import NnsightError
from nnsight_magic.near import listing

FEW = 3  # tokens, or heads, that are named


@dataclass(frozen=True)
class Where:
    """Where numbers are others than before.

    Attributes:
        tokens: by the prompt's number its positions, counted in the prompt itself; none where
            only padding changed, or where the value has no axis of tokens.
        by_token: whether the value has an axis of tokens that is known.
        by_prompt: whether it is known which prompt a number belongs to.
        heads: the numbers of the heads, where the value has heads.
        of_heads: how many heads it has; 0 where it has none.
    """

    tokens: dict[int, list[int]]
    by_token: bool
    by_prompt: bool
    heads: tuple[int, ...] = ()
    of_heads: int = 0

    def words(self, rows: Sequence[PromptRow]) -> str:
        """In words: `at 8 ' of', of head 3`."""
        told = [self._tokens_in_words(rows), self._heads_in_words()]
        return ", ".join(each for each in told if each)

    def _tokens_in_words(self, rows: Sequence[PromptRow]) -> str:
        if not self.by_prompt:
            return "in one value for all tokens" if rows else ""
        if not self.by_token:
            several = len(rows) > 1 and len(self.tokens) < len(rows)
            return f"in {listing(name_of(rows[k]) for k in self.tokens)}" if several else ""
        told = []
        for index, positions in self.tokens.items():
            of = f" of {name_of(rows[index])}" if len(rows) > 1 else ""
            told.append(tokens_in_words(positions, rows[index]) + of)
        return "; ".join(told) or "in padding alone"

    def _heads_in_words(self) -> str:
        if not self.of_heads or len(self.heads) == self.of_heads:
            return ""
        if len(self.heads) > FEW:
            return f"of {len(self.heads)} of {self.of_heads} heads"
        return f"of head{'s' * (len(self.heads) != 1)} {', '.join(map(str, self.heads))}"


def name_of(row: PromptRow) -> str:
    """A prompt's own name, or its number."""
    return row.name or f"prompt {row.index}"


def tokens_in_words(positions: Sequence[int], row: PromptRow) -> str:
    """Positions of a prompt in words.

    >>> row = PromptRow(0, 0, 5, ("The", " city", " of", " Paris", "."))
    >>> tokens_in_words([2], row), tokens_in_words([1, 2, 3, 4], row)
    ("at 2 ' of'", "at 4 of 5 tokens, from 1 ' city' on")
    """
    if not positions:
        return "in padding"
    if len(positions) == len(row.tokens) > 1:
        return f"at all {len(positions)} tokens"
    if len(positions) <= FEW:
        return f"at {', '.join(token_in_words(k, row) for k in positions)}"
    first = token_in_words(positions[0], row)
    return f"at {len(positions)} of {len(row.tokens)} tokens, from {first} on"


def token_in_words(position: int, row: PromptRow) -> str:
    """One position with its token."""
    return f"{position} {row.tokens[position]!r}"


def where_changed(
    model: Any,
    written: Written,
    path: tuple,
    value: torch.Tensor,
    changed: torch.Tensor,
    rows: Sequence[PromptRow],
) -> Where:
    """Where something changed, in the running trace of `model`.

    Args:
        written: what was written at the site.
        path: where in what stands there.
        value: the tensor there.
        changed: of its shape, true where a number is another one.
        rows: the prompts; none where the model is run on something else than tokens.
    """
    heads, count = _heads(model, written, changed)
    if not rows or not changed.ndim:
        return Where({}, by_token=False, by_prompt=False, heads=heads, of_heads=count)
    batch = PromptBatch(len(rows), rows[0].width)
    axes = axes_at(model, written.site, path, value, batch)
    if axes.prompts == "mixed":
        return Where({}, by_token=False, by_prompt=False, heads=heads, of_heads=count)
    if axes.prompts == "shared":
        tokens = {row.index: [] for row in rows} if bool(changed.any()) else {}
        return Where(tokens, by_token=False, by_prompt=True, heads=heads, of_heads=count)
    by_column = _by_column(changed, axes, batch)
    tokens = {}
    for row in rows:
        own = by_column[row.index]
        if bool(own.any()):
            columns = own.nonzero()[:, 0].tolist() if own.ndim else []
            inside = [k - row.start for k in columns if row.start <= k < row.stop]
            tokens[row.index] = inside
    by_token = by_column.ndim == 2
    if by_token:
        tokens = {index: found for index, found in tokens.items() if found}
    return Where(tokens, by_token, by_prompt=True, heads=heads, of_heads=count)


def _by_column(changed: torch.Tensor, axes: Axes, batch: PromptBatch) -> torch.Tensor:
    """Whether something changed, `(prompts, columns)`; `(prompts,)` without an axis of tokens."""
    own = changed.unflatten(0, (batch.prompts, -1))
    if axes.prompts == "tokens":
        return own.flatten(2).any(-1) if own.ndim > 2 else own
    if not axes.tokens:
        return own.flatten(1).any(-1)
    return own.movedim(axes.tokens[0] + 1, 1).flatten(2).any(-1)


def _heads(model: Any, written: Written, changed: torch.Tensor) -> tuple[tuple[int, ...], int]:
    """The heads that changed, and how many there are."""
    site = written.site
    by_head = None
    if site.operation in (PATTERN, SCORES):
        by_head = changed.transpose(0, 1)
    elif site.operation is None and changed.ndim == 3:
        by_head = _columns_of_heads(model, site, changed)
    if by_head is None and len(written.touches) == 1 and len(written.touches[0].layouts) == 1:
        try:
            by_head = written.touches[0].layouts[0].take(changed).movedim(2, 0)
        except (NnsightError, IndexError, RuntimeError):
            by_head = None  # a part that is no heads
    if by_head is None:
        return (), 0
    found = by_head.flatten(1).any(-1)
    return tuple(found.nonzero()[:, 0].tolist()), len(found)


def _columns_of_heads(model: Any, site: Site, changed: torch.Tensor) -> torch.Tensor | None:
    """Of what an output projection is given, `(heads, batch, tokens, size)`."""
    path = model._handles.paths().get(id(site.module))
    if site.kind != "input" or not path:
        return None
    above = path.split(".")
    for depth in range(len(above) - 1, 0, -1):
        handle = model._handles.at(".".join(above[:depth]))
        if has_heads(handle):
            projection, count, size = head_layout(handle)
            if f"{handle.path}.{projection}" == path:
                return changed.unflatten(-1, (count, size)).movedim(2, 0)
    return None
