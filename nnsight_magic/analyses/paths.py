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

from nnsight_magic.analyses.head_writes import check_heads, head_writes
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

    @property
    def name(self) -> str:
        """What it is called, however it was written: `09.6` is 9.6."""
        if self.part in (FIRST, LAST):
            return self.part
        parts = [self.layer, self.head, self.part]
        return ".".join(str(each) for each in parts if each is not None and each != "head")


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
    _check_heads(model, ends, changes)
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
    """What senders add to the residual stream, `(tokens, hidden)`, by name, and the metric."""
    found: dict[str, torch.Tensor] = {}
    # All heads of a block are read where one is, to see that they make up what it adds.
    wanted = {(end.layer, end.part) for end in senders}
    with model.trace(with_forced(ids, metric)):
        if (-1, FIRST) in wanted:
            found[FIRST] = model.layers[0].resid_pre.value[0]
        for layer, block in enumerate(model.layers):
            if (layer, "head") in wanted:
                heads, found[f"{layer}.attn"] = head_writes(model, block)
                found |= {f"{layer}.{head}": write for head, write in enumerate(heads)}
            elif (layer, "attn") in wanted:
                found[f"{layer}.attn"] = block.attn.added.value[0]
            if (layer, "mlp") in wanted:
                found[f"{layer}.mlp"] = block.mlp.added.value[0]
        logits = model.logits.value
    return found, float(metric(logits).detach()[0])


def _check_heads(
    model: Any, ends: Sequence[tuple[End, End]], changes: dict[str, torch.Tensor]
) -> None:
    """A head's write is what it says only where the heads make up what their attention adds."""
    for layer in {sender.layer for sender, _ in ends if sender.part == "head"}:
        count = len(model.layers[layer].attn.heads)
        heads = torch.stack([changes[f"{layer}.{head}"] for head in range(count)])
        check_heads(layer, heads, changes[f"{layer}.attn"], model.module.dtype)


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
        change = changes[sender.name].to(model.module.dtype)
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
