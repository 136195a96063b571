"""Path patching: what one head, or MLP, says to another one alone.

The sender's clean minus corrupt write is added to the receiver's own copy of the residual stream,
before its norm. What lies between stays as in the corrupt run; what lies behind the receiver runs
on. So the effect is that of the direct path between both (Wang et al. 2022, arXiv:2211.00593;
Goldowsky-Dill et al. 2023, arXiv:2304.05969).

A path is written `9.6:23.4.q`: head 6 of block 9 to the queries of head 4 of block 23. Senders are
`embed`, `9.6` (a head), `9.attn`, `9.mlp`; receivers `23.4.q`, `23.4.k`, `23.4.v`, `23.mlp`,
`logits`. Keys and values belong to a key-value head, so `23.4.k` is that of query head 4, and all
query heads of its group change with it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.analyses.metric import Answer, Measured, Metric, metric_of
from nnsight_magic.analyses.pair import Pair, pair_of
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.analyses.site_run import last_logits, with_forced
from nnsight_magic.errors import BadInputError, NoSuchModuleError

_HEAD = re.compile(r"(\d+)\.(\d+)(?:\.([qkv]))?")
_HALF = re.compile(r"(\d+)\.(attn|mlp)")
FIRST, LAST = "embed", "logits"


@dataclass(frozen=True)
class End:
    """One end of a path.

    Attributes:
        text: as it was written.
        layer: the block; -1 of the embedding, one more than the last of the logits.
        part: `embed`, `head`, `attn`, `mlp`, `q`, `k`, `v` or `logits`.
        head: the query head, where there is one.
    """

    text: str
    layer: int
    part: str
    head: int | None = None


def path_patch(
    model: Any,
    clean: Any,
    corrupt: Any,
    paths: Sequence[str] | str,
    answer: Answer | Measured,
    versus: Answer | None = None,
    *,
    progress: bool = True,
) -> Result:
    """Patch paths between parts, one at a time.

    Args:
        model: a `LanguageModel` whose blocks add to a residual stream.
        clean, corrupt: texts or ids, with as many tokens.
        paths: `"9.6:23.4.q"`, or several.
        answer, versus: as in `patch`.
        progress: show a bar if it takes longer than a second.

    Returns:
        How far the metric moves for each path, axis `path`; `attrs` as those of `patch`.

    Raises:
        BadInputError: no such path, or a receiver that lies before its sender.
        NnsightError: the architecture has no such part, or a head's write there is not z W_O alone.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> clean, corrupt = "Mary and John left, so John told", "John and Mary left, so Mary told"
    >>> analyses.path_patch(model, clean, corrupt, ["9.6:logits"], " Mary", " John").dims
    ('path',)
    """
    metric = metric_of(model, answer, versus)
    pair = pair_of(model, clean, corrupt)
    texts = [paths] if isinstance(paths, str) else list(paths)
    if not texts:
        raise BadInputError('There is no path; give one: "9.6:23.4.q".')
    ends = [path_of(model, text) for text in texts]
    writes, reference = _writes(model, pair.source, metric, [sender for sender, _ in ends])
    corrupt_writes, baseline = _writes(model, pair.target, metric, [sender for sender, _ in ends])
    changes = {text: write - corrupt_writes[text] for text, write in writes.items()}
    received = _received(model, pair, metric, ends, changes)

    def at(number: int) -> float:
        _put(model, ends[number][1], received[number])
        return float(metric(model.logits.value)[0])

    options = last_logits(model, metric)
    ids = with_forced(pair.target, metric)
    found = model.sweep(ids, at, range(len(ends)), progress=progress, **options)
    attrs = {
        **model_words(model, corrupt if isinstance(corrupt, str) else pair.target.tolist()),
        "from": clean if isinstance(clean, str) else str(pair.source.tolist()),
        "metric": metric.words,
        "title": f"change of the {metric.words}, by path",
        "baseline": baseline,
        "change": 1,
        "reference": reference,
    }
    return with_axes(torch.tensor(found) - baseline, [Along("path", texts)], "patched", attrs)


def path_of(model: Any, text: str) -> tuple[End, End]:
    """Sender and receiver of a path.

    Raises:
        BadInputError: it is none, or goes backwards.
    """
    parts = text.replace(" ", "").split(":")
    if len(parts) != 2:
        raise BadInputError(f"A path has a sender and a receiver, 9.6:23.4.q; found {text!r}.")
    sender, receiver = (_end(model, part) for part in parts)
    if sender.part not in (FIRST, "head", "attn", "mlp"):
        raise BadInputError(
            f"{sender.text!r} sends nothing; senders are embed, 9.6, 9.attn, 9.mlp."
        )
    if receiver.part not in ("q", "k", "v", "mlp", LAST):
        raise BadInputError(
            f"{receiver.text!r} is no receiver; receivers are 23.4.q, 23.4.k, 23.4.v, 23.mlp and "
            "logits."
        )
    same_block = receiver.layer == sender.layer and receiver.part == "mlp" and sender.part != "mlp"
    if receiver.layer <= sender.layer and not same_block:
        raise BadInputError(
            f"{receiver.text} comes no later than {sender.text}, so nothing of it arrives there."
        )
    return sender, receiver


def _end(model: Any, text: str) -> End:
    count = len(model.layers)
    if text == FIRST:
        return End(text, -1, FIRST)
    if text == LAST:
        return End(text, count, LAST)
    half, head = _HALF.fullmatch(text), _HEAD.fullmatch(text)
    if half is not None:
        found = End(text, int(half[1]), half[2])
    elif head is not None:
        found = End(text, int(head[1]), head[3] or "head", int(head[2]))
    else:
        raise BadInputError(
            f"{text!r} is no end of a path; write 9.6 (a head), 23.4.q, 9.attn, 9.mlp, embed or "
            "logits."
        )
    if found.layer >= count:
        raise BadInputError(
            f"There is no block {found.layer}: there are {count}, 0 to {count - 1}."
        )
    if found.head is not None:
        heads = len(model.layers[found.layer].attn.heads)
        if found.head >= heads:
            raise BadInputError(
                f"There is no head {found.head}: there are {heads}, 0 to {heads - 1}."
            )
    return found


def _writes(
    model: Any, ids: torch.Tensor, metric: Metric, senders: Sequence[End]
) -> tuple[dict[str, torch.Tensor], float]:
    """What each sender adds to the residual stream, `(1, tokens, hidden)`, and the metric."""
    found: dict[str, torch.Tensor] = {}
    with model.trace(with_forced(ids, metric)):
        for sender in sorted(set(senders), key=lambda end: (end.layer, end.part == "mlp")):
            if sender.part == FIRST:
                write = model.layers[0].resid_pre
            elif sender.part == "head":
                write = model.layers[sender.layer].attn.heads[sender.head].result
            else:
                write = getattr(model.layers[sender.layer], sender.part).added
            found[sender.text] = write.value
        logits = model.logits.value
    return found, float(metric(logits)[0])


def _received(
    model: Any,
    pair: Pair,
    metric: Metric,
    ends: Sequence[tuple[End, End]],
    changes: dict[str, torch.Tensor],
) -> list[torch.Tensor]:
    """What each receiver computes from its own copy of the residual stream, the change in it."""

    def at(number: int) -> torch.Tensor:
        sender, receiver = ends[number]
        change = changes[sender.text]
        if receiver.part == LAST:
            return change
        block = model.layers[receiver.layer]
        if receiver.part == "mlp":
            _residual_of_mlp(block, change)
            return block.mlp.added.value
        block.resid_pre = block.resid_pre + change
        vectors = getattr(block.attn, receiver.part)
        return vectors[:, :, _own_head(block, receiver, vectors)].value

    return model.sweep(with_forced(pair.target, metric), at, range(len(ends)), progress=False)


def _residual_of_mlp(block: Any, change: torch.Tensor) -> None:
    """Adds to what the MLP reads: the stream behind the attention, or before both where they run
    side by side."""
    try:
        block.resid_mid = block.resid_mid + change
    except NoSuchModuleError:
        block.resid_pre = block.resid_pre + change


def _put(model: Any, receiver: End, new: torch.Tensor) -> None:
    """Gives the receiver what it would have computed."""
    if receiver.part == LAST:
        block = model.layers[-1]
        block.resid_post = block.resid_post + new
        return
    block = model.layers[receiver.layer]
    if receiver.part == "mlp":
        block.mlp.added = new
        return
    vectors = getattr(block.attn, receiver.part)
    vectors[:, :, _own_head(block, receiver, vectors)] = new


def _own_head(block: Any, receiver: End, vectors: torch.Tensor) -> int:
    """The number of a receiver's head; keys and values have one for each group of queries."""
    assert receiver.head is not None
    return receiver.head * vectors.shape[2] // len(block.attn.heads)
