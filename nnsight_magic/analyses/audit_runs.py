"""The runs of an audit: the model without any write, with each put back, and with one more each.

The writes of a block are carried out in the order in which the model comes past them. What the
k-th does is the difference between the run with the first k and that with the first k - 1: so a
value that the block computed from an earlier write is right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.engine.sites.site import Site
from nnsight_magic.engine.tracing.token_texts import PromptRow
from nnsight_magic.engine.tracing.written import Written
from nnsight_magic.engine.values.changes import Change
from nnsight_magic.engine.values.containers import copy_tree, entries, is_container
from nnsight_magic.engine.values.laid_out import layout_of
from nnsight_magic.engine.values.writes import same_bits

CHUNK = 1 << 24  # logits that are compared at once


@dataclass
class Replayed:
    """One change, carried out again.

    Attributes:
        written: what was written at its site.
        path: where in what stands there.
        new: what was put there.
        old: what stood there, the earlier writes carried out.
    """

    written: Written
    path: tuple
    new: Any
    old: Any = None


@dataclass(frozen=True)
class Said:
    """What the model gave at the end of a run.

    Attributes:
        values: its logits, else the first tensor of numbers that it returned.
        columns: of each prompt where its tokens are on axis 1; `None` where that is not tokens.
        word: what they are called.
    """

    values: torch.Tensor
    columns: tuple[range, ...] | None
    word: str = "logits"


@dataclass(frozen=True)
class Runs:
    """What an audit has run.

    Attributes:
        changes: in the order in which the model comes past them.
        said: without any write, then with the first, the first two, …, with all.
        put_back: with what stands there written in the place of each.
        again: the untouched model once more, where `put_back` gave other numbers; else `None`.
        behind: by site, what flows on there in the run with all writes.
    """

    changes: tuple[Replayed, ...]
    said: tuple[Said, ...]
    put_back: Said
    again: Said | None
    behind: dict[Site, Any]


def runs_of(tracer: Any, rows: Sequence[PromptRow]) -> Runs:
    """Runs the model of a block that has ended, once for each write and twice besides."""
    written = tracer.written()
    changes, last, behind = _with_all(tracer, written, rows)
    clean = said(tracer.run_again({})[0], rows)
    back = said(tracer.run_again(_back(written))[0], rows)
    again = None
    if not same_bits(clean.values, back.values):
        again = said(tracer.run_again({})[0], rows)
    found = [clean]
    for count in range(1, len(changes)):
        first: dict[Site, list[Change]] = {}
        for each in changes[:count]:
            first.setdefault(each.written.site, []).append((each.path, each.new))
        found.append(said(tracer.run_again(first)[0], rows))
    return Runs(tuple(changes), (*found, last), back, again, behind)


def _with_all(
    tracer: Any, written: Sequence[Written], rows: Sequence[PromptRow]
) -> tuple[list[Replayed], Said, dict[Site, Any]]:
    """The run with all writes: their order, and what stood there before each."""
    order: list[Replayed] = []

    def watched(one: Replayed) -> Any:
        def carry_out(old: Any) -> Any:
            one.old = copy_tree(old)
            order.append(one)
            return one.new

        return carry_out

    all_of_them = {
        each.site: [(path, watched(Replayed(each, path, new))) for path, new in each.changes]
        for each in written
    }
    result, behind = tracer.run_again(all_of_them)
    return order, said(result, rows), behind


def _back(written: Sequence[Written]) -> dict[Site, list[Change]]:
    """Writes of what stands there: whole, and where a part was written, that part too."""
    return {
        each.site: [(path, _putting_back(each)) for path, _ in each.changes] for each in written
    }


def _putting_back(written: Written) -> Any:
    layouts = [layout for touch in written.touches for layout in touch.layouts]

    def put_back(old: Any) -> Any:
        if not isinstance(old, torch.Tensor):
            return copy_tree(old)
        for layout in layouts:
            old = layout.put(old, layout.take(old).clone())
        return old.clone()

    return put_back


def said(result: Any, rows: Sequence[PromptRow]) -> Said:
    """What a run gave, as far as an audit looks at it."""
    logits = getattr(result, "logits", None)
    if not isinstance(logits, torch.Tensor):
        first = next(_numbers(result), None)
        return Said(torch.zeros(0) if first is None else first.detach(), None, "output")
    return Said(logits.detach(), _columns(logits, rows))


def _numbers(value: Any) -> Any:
    """The tensors of numbers in what a model gives."""
    if isinstance(value, torch.Tensor):
        if value.is_floating_point():
            yield value
    elif is_container(value):
        for _, item in entries(value):
            yield from _numbers(item)


def _columns(logits: torch.Tensor, rows: Sequence[PromptRow]) -> tuple[range, ...] | None:
    """Where the tokens of each prompt are in the logits, which may be of the last ones alone."""
    if not rows or logits.ndim != 3 or len(logits) != len(rows):
        return None
    left_out = rows[0].width - logits.shape[1]
    if left_out < 0:
        return None
    return tuple(range(max(0, row.start - left_out), row.stop - left_out) for row in rows)


def tensors_of(old: Any, new: Any) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Pairs of tensors, what stood there and what was put there, also in containers."""
    if isinstance(new, torch.Tensor) and isinstance(old, torch.Tensor):
        return [(old, new)]
    if is_container(new) and is_container(old):
        there = dict(entries(old))
        return [
            pair
            for key, item in entries(new)
            if key in there
            for pair in tensors_of(there[key], item)
        ]
    return []


def stands(runs: Runs, change: Replayed) -> bool:
    """Whether what flows on in the run with all writes is what was written last."""
    value: Any = runs.behind.get(change.written.site)
    for key in change.path:
        assert layout_of((key,)) is None, "a change of a part is one of the whole"
        value = value[key]
    pairs = tensors_of(value, change.new)
    return all(one.shape == two.shape and same_bits(one, two) for one, two in pairs)


def divergence(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """KL(before ‖ after) of the predictions, in nats.

    Args:
        before, after: logits `(tokens, vocabulary)`.

    Returns:
        `(tokens,)`, float32.
    """
    most = max(1, CHUNK // before.shape[-1])
    found = []
    for one, two in zip(before.split(most), after.split(most), strict=True):
        p, q = one.float().log_softmax(-1), two.float().log_softmax(-1)
        terms = p.exp() * (p - q)
        # What is impossible in both runs adds nothing: 0 · (−∞ − −∞).
        both = (p == float("-inf")) & (q == float("-inf"))
        found.append(torch.where(both, torch.zeros_like(terms), terms).sum(-1).clamp_min(0))
    return torch.cat(found).cpu()
