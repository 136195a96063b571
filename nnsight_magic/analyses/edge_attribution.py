"""Attribution of edges: what one part says to another one alone, for all pairs by one gradient.

Writers add to the residual stream: the embedding, every head (z W_O), every MLP. Readers take from
it, each by a norm of its own: the queries, keys and values of every head, every MLP, and the
logits. Patching an edge gives one reader the stream with the writer's clean write in place of its
corrupt one (`path_patch`); to first order the metric moves by

    edge = (w_clean - w_corrupt) · ∂metric/∂(the reader's own copy of the stream)

and one backward pass has what is needed for all of them: the gradient at a reader's vectors, drawn
back through its projection and its norm. Syed et al. 2023, arXiv:2310.10348, "attribution patching
outperforms automated circuit discovery"; Nanda 2023, "Attribution patching".

Since a writer reaches the metric by way of readers alone, its edges sum to its own score. That the
readers make up the whole gradient is checked in every run, block by block, and so is that the heads
make up what their attention adds.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from nnsight_magic.analyses.exact_check import CHECKED, check_count, some_of, told
from nnsight_magic.analyses.head_writes import apart, check_heads, head_writes, residual_factor
from nnsight_magic.analyses.metric import Answer, Measured, Metric, metric_of
from nnsight_magic.analyses.pair import Pair, pair_of
from nnsight_magic.analyses.paths import path_patch
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.recipe import RECIPE
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.analyses.rules import Rule, check_method, followed
from nnsight_magic.analyses.site_run import gradients_at, last_logits, with_forced, with_gradient
from nnsight_magic.errors import WrongValueError

METHODS = ("norm", "grad")
# The order in which attention makes them; where q and k have norms it differs.
ORDERS = ("qkv", "vqk")


def attribute_edges(
    model: Any,
    clean: Any,
    corrupt: Any,
    answer: Answer | Measured,
    versus: Answer | None = None,
    *,
    method: Rule = "norm",
    check: int = CHECKED,
    seed: int = 0,
    progress: bool = True,
) -> Result:
    """Estimate what `path_patch` gives for every writer and every reader.

    Args:
        model: a `LanguageModel` whose blocks add to a residual stream, and whose heads write z W_O.
        clean, corrupt: texts or ids, with as many tokens.
        answer, versus: as in `patch`.
        method: how the backward pass goes: `"norm"` (scales of norms are constants) or `"grad"`.
        check: how many of the largest edges, and as many at random, are patched exactly; 0: none.
        seed: of the random ones.
        progress: show a bar if that takes longer than a second.

    Returns:
        How far the metric would move from the corrupt run, axes `writer` (`embed`, `9.6`, `9.mlp`)
        and `reader` (`23.4.q`, `23.mlp`, `logits`), named as in a path. A key-value head goes by
        the first of its query heads. NaN where a reader does not come behind a writer. With
        `check`, `attrs["correlation"]` is Pearson's between estimate and exact effect at the
        checked edges, and `attrs["exact"]` lists them: `[[writer, reader, estimate, exact], …]`.

    Raises:
        BadInputError: there is no such method, or the prompts have different lengths.
        NnsightError: the architecture has no such parts, a head's write there is not z W_O alone,
            or a block reads the stream in another way too.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> edges = analyses.attribute_edges(
    ...     model, "Mary and John left, so John told", "John and Mary left, so Mary told",
    ...     " Mary", " John", check=0)
    >>> dict(edges.sizes)
    {'writer': 301, 'reader': 481}
    """
    check_method(method, METHODS)
    check_count(check)
    metric = metric_of(model, answer, versus)
    pair = pair_of(model, clean, corrupt)
    there, reference = _writes(model, pair.source, metric)
    run = _backward(model, pair, metric, method)
    writers, readers = _writer_names(there), [n for block in run.readers for n in block.names]
    scores = _scores(there, run, len(writers), len(readers), model.module.dtype)
    attrs = {
        **model_words(model, corrupt if isinstance(corrupt, str) else pair.target.tolist()),
        "from": clean if isinstance(clean, str) else str(pair.source.tolist()),
        "metric": metric.words,
        "method": method,
        "baseline": run.baseline,
        "change": 1,
        "reference": reference,
        "empty": "no path",
        RECIPE: json.dumps(
            {
                "no": "an edge is a path, and no write of a cell goes along one alone; "
                f"analyses.path_patch runs it: {writers[0]}:{readers[-1]}"
            }
        ),
    }
    if check:
        attrs |= _checked(
            model, pair, (answer, versus), writers, readers, scores, check, seed, progress
        )
    close = f", r = {attrs['correlation']:.2f} with exact" if "correlation" in attrs else ""
    attrs["title"] = f"change of the {metric.words}, attributed to edges ({method}{close})"
    return with_axes(scores, [Along("writer", writers), Along("reader", readers)], "edges", attrs)


@dataclass(frozen=True)
class _Block:
    """What a block writes, float32.

    Attributes:
        heads: `(heads, tokens, hidden)`.
        mlp: `(tokens, hidden)`.
        attention: `(tokens, hidden)`, what its heads and a bias make up together.
    """

    heads: torch.Tensor
    mlp: torch.Tensor
    attention: torch.Tensor


@dataclass(frozen=True)
class _Writes:
    """What is written in a run: the embedding `(tokens, hidden)`, and by each block."""

    embed: torch.Tensor
    blocks: list[_Block]


@dataclass(frozen=True)
class _Readers:
    """What a block reads, or what the logits do.

    Attributes:
        names: of the readers.
        gradients: `(readers, tokens, hidden)`, the metric's at each one's copy of the stream.
        own_heads: how many of the last readers have the block's own heads before them.
    """

    names: list[str]
    gradients: torch.Tensor
    own_heads: int = 0


@dataclass(frozen=True)
class _Run:
    """The corrupt run, and the way back."""

    writes: _Writes
    readers: list[_Readers]
    baseline: float


def _writes(model: Any, ids: torch.Tensor, metric: Metric) -> tuple[_Writes, float]:
    """What a run writes, and its metric."""
    blocks = []
    with model.trace(with_forced(ids, metric), **last_logits(model, metric)):
        embed = model.layers[0].resid_pre[0].value.float()
        for block in model.layers:
            heads, attention = head_writes(model, block)
            blocks.append(_Block(heads, block.mlp.added[0].value.float(), attention))
        logits = model.logits.value
    return _Writes(embed, blocks), float(metric(logits).detach()[0])


def _backward(model: Any, pair: Pair, metric: Metric, rule: Rule) -> _Run:
    """The corrupt run with its gradients, by the rule.

    Raises:
        WrongValueError: something else than the readers reads the stream.
    """
    for order in ORDERS:
        found = _backward_in(order, model, pair, metric, rule)
        if found is not None:
            return found
    raise WrongValueError(
        "The queries, keys and values of this model cannot be read in one forward, so there is no "
        "gradient at all of them."
    )


def _backward_in(order: str, model: Any, pair: Pair, metric: Metric, rule: Rule) -> _Run | None:
    """The same; `None` where attention makes queries, keys and values in another order."""
    blocks = list(model.layers)
    ids, options = with_forced(pair.target, metric), last_logits(model, metric)
    with followed(model, rule), model.trace(ids, grad=True, **options) as tracer:
        tracer.expect((half, "added") for block in blocks for half in (block.attn, block.mlp))
        seen = [_seen(block, order) for block in blocks]
        behind = with_gradient(blocks[-1].resid_post)
        measured = metric(model.logits)[0]
        if tracer.report.forwards > 1:
            return None  # something was read by a second forward, to which no gradient leads
        values = [value for each in seen for value in each.values().values()]
        *found, final = gradients_at(measured, [*values, behind], keep=True)
        each = iter(found)
        grads = [{name: next(each) for name in block.values()} for block in seen]
        readers = [_readers(k, *each) for k, each in enumerate(zip(seen, grads, strict=True))]
        writes = _Writes(seen[0].before[0].detach().float(), [each.writes(model) for each in seen])
    ends = [each["before"] for each in grads[1:]] + [final]
    for layer, (found, own, after) in enumerate(zip(readers, grads, ends, strict=True)):
        _check_readers(model, layer, found, own, after)
    readers.append(_Readers(["logits"], final[0].float()[None]))
    return _Run(writes, readers, float(measured.detach()))


def _seen(block: Any, order: str) -> _Seen:
    """The values of a block, in the order in which it makes them."""
    before = with_gradient(block.resid_pre)
    made = {name: with_gradient(getattr(block.attn, name)) for name in order}
    heads = block.attn.result.value.detach()
    attention, mlp = (with_gradient(half.added) for half in (block.attn, block.mlp))
    return _Seen(before, {name: made[name] for name in "qkv"}, heads, attention, mlp)


@dataclass(frozen=True)
class _Seen:
    """The values of a block whose gradients are wanted, each `(1, tokens, …)`."""

    before: Any
    vectors: dict[str, Any]
    heads: torch.Tensor
    attention: Any
    mlp: Any

    def writes(self, model: Any) -> _Block:
        """What the block writes."""
        heads = self.heads[0].float().transpose(0, 1) * residual_factor(model)
        mlp, attention = (each[0].detach().float() for each in (self.mlp, self.attention))
        return _Block(heads, mlp, attention)

    def values(self) -> dict[str, Any]:
        """Those of which the metric's gradient is wanted, by name."""
        halves = {"before": self.before, "attention": self.attention, "mlp": self.mlp}
        return halves | self.vectors


def _readers(layer: int, seen: _Seen, grads: dict[str, torch.Tensor]) -> _Readers:
    """The readers of a block: each one's gradient, drawn back to its own copy of the stream."""
    names, found = [], []
    count = seen.vectors["q"].shape[2]
    for name, vectors in seen.vectors.items():
        for head in range(vectors.shape[2]):
            alone = torch.zeros_like(grads[name])
            alone[:, :, head] = grads[name][:, :, head]
            found.append(_drawn_back(vectors, seen.before, alone))
            names.append(f"{layer}.{head * count // vectors.shape[2]}.{name}")
    back = _drawn_back(seen.mlp, seen.attention, grads["mlp"])
    behind_heads = back is not None
    found.append(back if behind_heads else _drawn_back(seen.mlp, seen.before, grads["mlp"]))
    names.append(f"{layer}.mlp")
    whole = torch.zeros_like(seen.before[0].detach()).float()
    gradients = torch.stack([whole if each is None else each[0].float() for each in found])
    return _Readers(names, gradients, own_heads=int(behind_heads))


def _drawn_back(value: Any, to: Any, gradient: torch.Tensor) -> torch.Tensor | None:
    """The gradient at `to` by way of a value alone; `None` where it does not depend on it."""
    (found,) = torch.autograd.grad(value, to, gradient, retain_graph=True, allow_unused=True)
    return None if found is None else found.detach()


def _check_readers(
    model: Any, layer: int, readers: _Readers, own: dict[str, torch.Tensor], after: torch.Tensor
) -> None:
    """The block's readers and what stays in the stream make up the gradient before it.

    Args:
        own: gradients at the block's values.
        after: the gradient behind the block.

    Raises:
        WrongValueError: they do not.
    """
    whole = after[0].float() + readers.gradients.sum(0)
    middle = after[0].float() + (readers.gradients[-1] if readers.own_heads else 0)
    both = ((whole, own["before"]), (middle, own["attention"]), (after[0].float(), own["mlp"]))
    for found, expected in both:
        if apart(found, expected[0].float(), model.module.dtype):
            raise WrongValueError(
                f"What layers[{layer}] reads of the residual stream is more than its queries, keys "
                "and values and its MLP: a writer's edges would not sum to its score."
            )


def _writer_names(writes: _Writes) -> list[str]:
    heads = [len(block.heads) for block in writes.blocks]
    return ["embed"] + [
        name
        for layer, count in enumerate(heads)
        for name in (*(f"{layer}.{head}" for head in range(count)), f"{layer}.mlp")
    ]


def _scores(there: _Writes, run: _Run, writers: int, readers: int, dtype: Any) -> torch.Tensor:
    """Every writer's change times every reader's gradient, `(writers, readers)`; NaN: no path."""
    changes = [(there.embed - run.writes.embed)[None]]
    scores = torch.full((writers, readers), torch.nan)
    start = 0
    for layer, block in enumerate(run.readers):
        end = start + len(block.names)
        known = torch.cat(changes).flatten(1)
        scores[: len(known), start:end] = (known @ block.gradients.flatten(1).T).cpu()
        if layer < len(there.blocks):
            one, other = there.blocks[layer], run.writes.blocks[layer]
            heads = one.heads - other.heads
            check_heads(layer, heads, one.attention - other.attention, dtype)
            own = block.gradients[len(block.names) - block.own_heads :].flatten(1)
            place = slice(len(known), len(known) + len(heads))
            scores[place, end - block.own_heads : end] = (heads.flatten(1) @ own.T).cpu()
            changes += [heads, (one.mlp - other.mlp)[None]]
        start = end
    return scores


def _checked(
    model: Any,
    pair: Pair,
    answers: tuple[Any, Any],
    writers: Sequence[str],
    readers: Sequence[str],
    scores: torch.Tensor,
    count: int,
    seed: int,
    progress: bool,
) -> dict[str, Any]:
    """Some edges patched exactly: the largest ones, and others at random."""
    edges = [tuple(each) for each in (~scores.isnan()).nonzero().tolist()]
    some = some_of(edges, scores, count, seed)
    named = [(writers[one], readers[other]) for one, other in some]
    paths = [f"{one}:{other}" for one, other in named]
    found = path_patch(model, pair.source, pair.target, paths, *answers, progress=progress)
    return told(named, [float(scores[edge]) for edge in some], found.values.tolist())
