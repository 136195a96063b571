"""The five checks of one write, in words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from nnsight_magic.analyses.audit_places import Where, name_of, token_in_words, where_changed
from nnsight_magic.analyses.audit_runs import (
    Replayed,
    Runs,
    Said,
    divergence,
    said,
    stands,
    tensors_of,
)
from nnsight_magic.analyses.audit_shown import AuditedWrite, Check
from nnsight_magic.engine.sites.site import SCORES, Site
from nnsight_magic.engine.tracing.token_texts import PromptRow
from nnsight_magic.engine.values.writes import same_bits
from nnsight_magic.near import listing
from nnsight_magic.views.data.words import number, percent

ROUNDING = 1e-5  # of the largest logit
NOTHING = "there is nothing that could: nothing changed"
NAN_REACHES = (
    "what is not a number at one token reaches earlier ones: attention multiplies it by their "
    "weight 0, and 0 · NaN is NaN"
)


def audited_write(
    tracer: Any, runs: Runs, at: int, rows: Sequence[PromptRow], called: tuple[str, int | None]
) -> AuditedWrite:
    """What was checked of one write.

    Args:
        tracer: of the trace, which still stands.
        at: the write's place among all.
        rows: the prompts in the batch.
        called: the write's name and its line.
    """
    change, before, after = runs.changes[at], runs.said[at], runs.said[at + 1]
    where, largest = _where(tracer, change, rows)
    moved = _largest(before.values, after.values)
    checks = (
        _put_back(runs, change),
        _stands(runs, change),
        _changes(change, where, largest, rows),
        _reaches(before, after, moved, rows) if where else Check("reaches", "none", NOTHING),
        _stays(tracer, before, after, where, rows),
    )
    tokens = {} if where is None else {name_of(rows[k]): at for k, at in where.tokens.items()}
    heads = () if where is None else where.heads
    return AuditedWrite(*called, checks, tokens, heads, largest, moved)


def _where(tracer: Any, change: Replayed, rows: Sequence[PromptRow]) -> tuple[Where | None, float]:
    """Where something changed, `None` for nowhere, and by how much at most.

    Of a container, where in the first of its tensors that is another one.
    """
    found, largest = None, 0.0
    for old, new in tensors_of(change.old, change.new):
        changed = _differs(old, new)
        if not bool(changed.any()):
            continue
        largest = max(largest, _largest(old, new))
        one = where_changed(tracer.model, change.written, change.path, old, changed, rows)
        found = found or one
    return found, largest


def _differs(old: torch.Tensor, new: torch.Tensor) -> torch.Tensor:
    if old.shape != new.shape:
        return torch.ones_like(new, dtype=torch.bool)
    same = (old == new) | (old.isnan() & new.isnan()) if old.is_floating_point() else old == new
    return ~same


def _largest(old: torch.Tensor, new: torch.Tensor) -> float:
    """The largest finite difference."""
    if old.shape != new.shape or not old.numel():
        return 0.0
    by = (new.float() - old.float()).abs()
    by = by[by.isfinite()]
    return float(by.max()) if by.numel() else 0.0


# ── the checks ───────────────────────────────────────────────────────────────────────────


def _put_back(runs: Runs, change: Replayed) -> Check:
    name, several, word = "put back", len(runs.changes) > 1, runs.said[0].word
    what = "every write replaced by what stands there" if several else "what stands there put back"
    if same_bits(runs.said[0].values, runs.put_back.values):
        return Check(name, "holds", f"{what}: the {word} are the same to the bit")
    by = number(_largest(runs.said[0].values, runs.put_back.values))
    if runs.again is not None and not same_bits(runs.said[0].values, runs.again.values):
        return Check(
            name,
            "none",
            f"{what}: the {word} differ by {by}, and this model does not repeat itself without "
            "writes either",
        )
    return Check(
        name,
        "fails",
        f"{what}: the {word} differ by up to {by}. The model treats a copy of this value otherwise "
        "than the value itself; it may write into it later on",
    )


def _stands(runs: Runs, change: Replayed) -> Check:
    name = "stands"
    pairs = tensors_of(change.old, change.new)
    if not stands(runs, change):
        return Check(name, "fails", "something else flows on there than what was written")
    count = sum(new.numel() for _, new in pairs)
    lost = sum(_not_finite(old, new, change) for old, new in pairs)
    if lost:
        return Check(name, "fails", f"what was written flows on; {lost:,} of it are not finite")
    size = f"{count:,} numbers, all finite" if count else "it holds no tensor"
    return Check(name, "holds", f"what was written flows on: {size}")


def _not_finite(old: torch.Tensor, new: torch.Tensor, change: Replayed) -> int:
    """How many numbers are not finite now and were before; -∞ in scores means: not looked at."""
    if not new.is_floating_point():
        return 0
    bad = ~new.isfinite()
    if change.written.site.operation == SCORES:
        bad &= new != float("-inf")
    if old.shape == new.shape:
        bad &= old.isfinite()
    return int(bad.sum())


def _changes(
    change: Replayed, where: Where | None, largest: float, rows: Sequence[PromptRow]
) -> Check:
    name = "changes"
    pairs = tensors_of(change.old, change.new)
    count = sum(int(_differs(old, new).sum()) for old, new in pairs)
    if where is None:
        return Check(name, "warns", "it changed nothing: what was written stood there before")
    whole = sum(new.numel() for _, new in pairs)
    told = [f"{count:,} of {whole:,} numbers"]
    if found := where.words(rows):
        told.append(found)
    if largest:
        told.append(f"by up to {number(largest)}{_relative(pairs)}")
    else:
        told.append("to what is not finite")
    return Check(name, "holds", ", ".join(told))


def _relative(pairs: Sequence[tuple[torch.Tensor, torch.Tensor]]) -> str:
    """How long the change is, as a part of what stood there."""
    by = length = 0.0
    for old, new in pairs:
        if old.shape == new.shape and new.is_floating_point():
            changed = _differs(old, new) & new.isfinite() & old.isfinite()
            by += float((new.float() - old.float())[changed].square().sum())
            length += float(old.float()[changed].square().sum())
    return f", {percent((by / length) ** 0.5)} of their length" if by and length else ""


def _reaches(before: Said, after: Said, moved: float, rows: Sequence[PromptRow]) -> Check:
    name, word = "reaches", before.word
    if bool(after.values.isnan().any()) and not bool(before.values.isnan().any()):
        count = int(after.values.isnan().sum())
        return Check(name, "fails", f"{count:,} numbers of the {word} are NaN now")
    if same_bits(before.values, after.values):
        return Check(name, "fails", f"the {word} are the same to the bit without it")
    scale = float(before.values.float().abs().max()) or 1.0
    if moved <= ROUNDING * scale:
        return Check(
            name, "warns", f"the {word} move by {number(moved)}, which is no more than rounding"
        )
    if before.columns is None:
        return Check(name, "holds", f"the {word} move by up to {number(moved)}")
    by = (after.values.float() - before.values.float()).abs().amax(-1)
    best = max(
        (float(by[k, column]), k, column)
        for k, columns in enumerate(before.columns)
        for column in columns
    )
    if not best[0]:
        return Check(name, "fails", "it moves logits of padding alone")
    row, columns = rows[best[1]], before.columns[best[1]]
    position = _left_out(before, rows, best[1]) + best[2] - columns.start
    of = f" of {name_of(row)}" if len(rows) > 1 else ""
    nats = float(divergence(before.values[best[1], [best[2]]], after.values[best[1], [best[2]]]))
    return Check(
        name,
        "holds",
        f"the logits move by up to {number(best[0])}, at {token_in_words(position, row)}{of}; "
        f"the prediction there by {number(nats)} nats",
    )


def _stays(
    tracer: Any, before: Said, after: Said, where: Where | None, rows: Sequence[PromptRow]
) -> Check:
    name = "stays"
    if where is None:
        return Check(name, "none", NOTHING)
    if before.columns is None:
        return Check(name, "none", "the model gives no logits for its tokens")
    if not where.by_prompt:
        return Check(name, "none", "which tokens the value belongs to is not known")
    others = [k for k in range(len(rows)) if k not in where.tokens]
    strays = [name_of(rows[k]) for k in others if _moves(before, after, k)]
    if strays:
        return Check(name, "fails", f"other prompts move: {listing(strays)}")
    held = 0
    for k, positions in where.tokens.items():
        count = positions[0] - _left_out(before, rows, k) if positions else 0
        if count > 0 and _moves(before, after, k, count):
            return _early(tracer, before, after, rows[k], k, positions[0])
        held += max(0, count)
    told = []
    if held:
        told.append(f"{held} token{'s' * (held != 1)} before the first that changed")
    if others:
        told.append(f"{len(others)} other prompt{'s' * (len(others) != 1)}")
    if not told:
        return Check(name, "none", "no token stands before, and there is no other prompt")
    return Check(name, "holds", f"{' and '.join(told)}: their logits stay")


def _left_out(said: Said, rows: Sequence[PromptRow], row: int) -> int:
    """How many of a prompt's first tokens have no logits."""
    assert said.columns is not None
    return len(rows[row].tokens) - len(said.columns[row])


def _moves(before: Said, after: Said, row: int, count: int | None = None) -> bool:
    """Whether a prompt's logits, or those of its first tokens, move by more than rounding."""
    assert before.columns is not None
    own = list(before.columns[row])[:count]
    one, two = before.values[row, own].float(), after.values[row, own].float()
    if bool((two.isfinite() != one.isfinite()).any()):
        return True
    known = one.isfinite()
    if not bool(known.any()):
        return False
    scale = float(one[known].abs().max())
    return float((one - two)[known].abs().max()) > ROUNDING * scale


def _early(tracer: Any, before: Said, after: Said, row: PromptRow, index: int, first: int) -> Check:
    """Tokens before the first that changed move: why that may be."""
    found = f"tokens before {token_in_words(first, row)} move"
    if bool(after.values[index].isnan().any()) and not bool(before.values[index].isnan().any()):
        return Check("stays", "fails", f"{found}: {NAN_REACHES}")
    if _looks_ahead(tracer, before, row, index, first):
        words = f"{found}, as they do in this model whenever a later token is another one"
        return Check("stays", "none", words)
    return Check("stays", "fails", found)


def _looks_ahead(tracer: Any, before: Said, row: PromptRow, index: int, first: int) -> bool:
    """Whether the untouched model's logits of the first tokens depend on the last token's word."""
    path = tracer.model.names.embed
    if path is None:
        return False
    embed = tracer.model._root.get_submodule(path)

    def other_word(old: torch.Tensor) -> torch.Tensor:
        new = old.clone()
        new[index, row.stop - 1] = old[index, row.start] if row.stop - row.start > 1 else 0
        return new

    site = Site(embed, "output", 0, 0)
    again = said(tracer.run_again({site: [((), other_word)]})[0], (row,))
    columns = before.columns
    assert columns is not None
    own = list(columns[index])[:first]
    return not torch.allclose(
        before.values[index, own].float(), again.values[index, own].float(), rtol=0, atol=1e-4
    )
