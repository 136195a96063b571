"""What the axes of a tensor of a cell mean, and the words at their places.

Refused rather than guessed: where it cannot be told whose tokens a place belongs to, it has none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from nnsight_magic.errors import BadInputError
from nnsight_magic.language.tokens import Spelled
from nnsight_magic.results.record import PromptResult, RunRecord, SavedVariable
from nnsight_magic.views.data.roles import PADDING, infer_axes

Rows = list[list[str]]
# Roles of the axes of values that have a name of their own, by that name.
NAMED = {
    **dict.fromkeys(("pattern", "scores"), ("batch", "head", "query", "key")),
    **dict.fromkeys(("q", "k", "v", "z", "q_rot", "k_rot"), ("batch", "token", "head", "size")),
    "result": ("batch", "token", "head", "feature"),
}


def labels_of(record: RunRecord, saved: SavedVariable) -> dict[str, Any]:
    """`axes`, `tokens` and `vocabulary` of a saved tensor, as `TensorView` takes them.

    The first axis of a tensor that a generation stacked is its steps; that of a list its items,
    which are blocks where there are as many.
    """
    before = []
    if saved.stepped:
        before = ["step"]
    elif saved.tensor is None:
        before = ["block" if len(saved.refs) == record.ran.blocks else "item"]
    shape = saved.shape or ()
    if saved.stepped:
        shape = shape[1:]
    model = record.model
    return labels_for(shape, saved.where, record.prompts, model.sizes, model.vocabulary, before)


def labels_for(
    shape: Sequence[int],
    where: str,
    prompts: Sequence[PromptResult],
    sizes: dict[str, int],
    vocabulary: Any = None,
    before: Sequence[str] = (),
) -> dict[str, Any]:
    """The same of any tensor of a cell; `before` are roles of axes in front of `shape`."""
    sizes = sizes | ({"batch": len(prompts)} if len(prompts) > 1 else {})
    names = NAMED.get(where.rpartition(".")[2])
    names = names if names is not None and len(names) == len(shape) else None
    axes, tokens = infer_axes(shape, names, None, sizes), None
    for rows in _candidates(prompts, where):
        try:
            axes, tokens = infer_axes(shape, names, rows, sizes), rows
            break
        except BadInputError:
            continue
    roles = [axis.role for axis in axes]
    return {
        "axes": [*before, *roles],
        "tokens": tokens,
        "vocabulary": vocabulary if "vocabulary" in roles else None,
    }


def sizes_of(model: Any) -> dict[str, int]:
    """The model's sizes by the role that an axis of such a size has."""
    config = getattr(model, "config", None)
    config = getattr(config, "text_config", config)
    names = {"head": "num_attention_heads", "feature": "hidden_size", "vocabulary": "vocab_size"}
    sizes = {role: getattr(config, name, None) for role, name in names.items()}
    return {role: size for role, size in sizes.items() if isinstance(size, int)}


def vocabulary_of(model: Any) -> Spelled | None:
    """What gives the text of a token id, where the model has a tokenizer."""
    tokenizer = getattr(model, "tokenizer", None)
    return None if tokenizer is None else Spelled(tokenizer)


def _candidates(prompts: Sequence[PromptResult], where: str) -> Iterator[Rows]:
    """The tokens that a tensor may be about, one list for each row of its batch: with all that was
    generated, without the last of it, which no forward reads, and the prompts alone."""
    named = [p for p in prompts if p.name and re.search(rf"(?<![\w.]){p.name}\.", where)]
    for kept in (None, -1, 0):
        rows = [[*_columns(each, bool(named)), *each.generated[:kept]] for each in named or prompts]
        longest = max(map(len, rows), default=0)
        rows = [row + [PADDING] * (longest - len(row)) for row in rows]
        if longest:
            yield [_merged(rows)] if named else rows


def _columns(prompt: PromptResult, alone: bool) -> list[str]:
    """The prompt's tokens: by its name alone, else as the batch holds them."""
    before, behind = (0, 0) if alone else prompt.padding
    return [PADDING] * before + list(prompt.tokens) + [PADDING] * behind


def _merged(rows: Rows) -> list[str]:
    """The tokens of several prompts at each place, one where they agree."""
    return [" | ".join(dict.fromkeys(place)) for place in zip(*rows, strict=True)]
