"""Several runs in one trace: `with tracer.invoke(prompt):`.

Each invoke is a forward of its own, run as far as its block needs, in the order in which they
stand: so what was read in one can be written in the next. An `invoke()` without a prompt runs
all prompts given so far as one padded batch, with what was written in their own invokes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.sites.site import Site
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.containers import entries, is_container
from nnsight_magic.engine.values.words import describe
from nnsight_magic.errors import BadInputError, WrongValueError


@dataclass(frozen=True)
class Invoke:
    """One invoke that has ended.

    Attributes:
        prompts: the text that it ran on, `None` where it was given something else.
        written: what it wrote.
        of_all_prompts: it ran on the prompts of those before it.
    """

    prompts: list[str] | None
    written: dict[Site, list[Change]]
    of_all_prompts: bool


class Invokes:
    """The invokes of one trace: their prompts, and what each of them wrote."""

    def __init__(self) -> None:
        self._ended: list[Invoke] = []

    def add(self, invoke: Invoke) -> None:
        """An invoke has ended; its writes are kept for one over the whole batch."""
        self._ended.append(invoke)

    def prompts(self) -> list[Any]:
        """What the invokes so far ran on: text where it was given, else token ids."""
        own = [invoke for invoke in self._ended if not invoke.of_all_prompts]
        if not own:
            raise BadInputError(
                "invoke() without a prompt runs the prompts of the invokes before it as one batch, "
                "and there is none before it.\nGive it a prompt: with tracer.invoke(prompt)."
            )
        texts = [invoke.prompts for invoke in own if invoke.prompts is not None]
        if len(texts) < len(own):
            raise BadInputError(
                "invoke() without a prompt needs the invokes before it to be given text, so that "
                "they can be padded into one batch."
            )
        return [prompt for text in texts for prompt in text]

    def writes(self, mask: torch.Tensor | None) -> dict[Site, list[Change]]:
        """The writes of all invokes, each on its own rows of the batch."""
        merged: dict[Site, list[Change]] = {}
        first = 0
        for invoke in self._ended:
            assert invoke.prompts is not None, "else they are in no batch: see `prompts`"
            count = len(invoke.prompts)
            if invoke.of_all_prompts:
                rows = slice(0, count)  # those that there were by then
            else:
                rows = slice(first, first + count)
                first += count
            for site, changes in invoke.written.items():
                for path, new in _tensors(changes):
                    merged.setdefault(site, []).append((path, _on_rows(new, rows, mask)))
        return merged


def _tensors(changes: Iterable[Change]) -> Iterator[Change]:
    """What was written, tensor by tensor: those of a written container one after another."""
    for path, new in changes:
        if isinstance(new, torch.Tensor):
            yield path, new
        elif is_container(new):
            yield from _tensors(((*path, key), item) for key, item in entries(new))


def _on_rows(new: torch.Tensor, rows: slice, mask: torch.Tensor | None):
    """Put `new`, `(rows, tokens, …)` of a batch of its own, into these rows of a larger one."""

    def change(old: torch.Tensor) -> torch.Tensor:
        where = _place(new, old, rows, mask)
        if where is None:
            raise WrongValueError(
                "What an earlier invoke wrote has no rows of the whole batch.\n"
                f"Expected: a tensor with one row a prompt, as {describe(old)}.\n"
                f"Found: {describe(new)}.\n"
                "Write to it in the invoke() over the whole batch, or to another value."
            )
        merged = old.clone()
        merged[where] = new
        return merged

    return change


def _place(
    new: torch.Tensor, old: torch.Tensor, rows: slice, mask: torch.Tensor | None
) -> tuple[slice, ...] | None:
    """Where `new` belongs in the batch's tensor: its rows and, in a dimension of tokens, its own.

    A generation adds tokens to the prompts', hence the difference in length that both may have.
    """
    if new.ndim != old.ndim or not new.ndim or new.shape[0] != rows.stop - rows.start:
        return None
    if old.shape[0] < rows.stop or (mask is not None and old.shape[0] != mask.shape[0]):
        return None
    where = [rows]
    for mine, whole in zip(new.shape[1:], old.shape[1:], strict=True):
        first = 0
        if mine != whole:
            if mask is None:
                return None
            columns = mask[rows].any(0).nonzero()[:, 0]
            first = int(columns[0])
            if whole - mine != mask.shape[1] - len(columns):
                return None
        where.append(slice(first, first + mine))
    return tuple(where)
