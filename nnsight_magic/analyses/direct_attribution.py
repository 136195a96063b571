"""Direct logit attribution: what each part of the residual stream adds to the answer's logit.

The residual stream at the last position is a sum: the embedding, and what each attention and each
MLP added. With the final norm's statistics frozen at the run's own, the way to a logit is linear,
so the logit (or a difference of two) is a sum too, of one number for each part:

    u = s · w ⊙ (W_U[answer] - W_U[versus])        s: 1/σ of the run; LayerNorm: u without its mean
    part = added · u                                a head: z_h W_O,h · u
    logit difference = sum of the parts + bias of the norm + bias of the unembedding

Elhage et al. 2021, transformer-circuits.pub/2021/framework; nostalgebraist 2020, "interpreting GPT:
the logit lens"; Wang et al. 2022, arXiv:2211.00593. It is direct: what a part does by way of later
parts is theirs here. With a softcap the logits before the cap are taken apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from nnsight_magic.analyses.head_writes import residual_factor
from nnsight_magic.analyses.metric import Answer, metric_of, one_token
from nnsight_magic.analyses.pair import ids_of_prompt, texts_of
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.readout import FrozenNorm, Unembedding, frozen_norm, unembedding
from nnsight_magic.analyses.recipe import RECIPE, recipe
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.errors import BadInputError, NoSuchModuleError, WrongValueError

TOLERANCE = 1e-4


@dataclass(frozen=True)
class Parts:
    """What adds up to the residual stream at one position, `(hidden,)` each.

    Attributes:
        names: `embed`, `attn 0`, `mlp 0`, …; `rest 0` is what a block adds beside these: a Mamba's
            mixer, OPT's MLP, which is no module of its own.
        vectors: as many, `(parts, hidden)`, float32.
        heads: by block, `(heads, hidden)`; empty where they were not asked for.
    """

    names: list[str]
    vectors: torch.Tensor
    heads: list[torch.Tensor]


def dla(
    model: Any,
    prompt: Any,
    answer: Answer,
    versus: Answer | None = None,
    *,
    by: Literal["part", "head"] = "part",
    position: int = -1,
) -> Result:
    """What each part adds to the answer's logit, or to a difference of two logits.

    Args:
        model: a `LanguageModel` whose blocks add to a residual stream.
        prompt: a text or ids.
        answer, versus: one token each.
        by: `"part"`: embedding, attention and MLP of each block, what a block adds besides, biases;
            `"head"`: each head.
        position: whose prediction; the last by default.

    Returns:
        Axis `part`, or `layer` and `head`, in logits. Of the parts the sum is the logit (the
        difference): `attrs["logit"]`. Of the heads `attrs["rest"]` is what is no head's.

    Raises:
        BadInputError: there is no such position.
        TokenTextError: an answer is no token, or several.
        NnsightError: the model's logits are not such a sum; the message says where it ends.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> parts = analyses.dla(model, "The Eiffel Tower is in the city of", " Paris", " Rome")
    >>> bool(abs(float(parts.sum()) - parts.attrs["logit"]) < 1e-2)
    True
    """
    if by not in ("part", "head"):
        raise BadInputError(f'by is "part" or "head"; found {by!r}.')
    tokens = [one_token(model, answer, "direct logit attribution")]
    if versus is not None:
        tokens.append(one_token(model, versus, "direct logit attribution"))
    ids = ids_of_prompt(model, prompt)
    count = ids.shape[1]
    if not -count <= position < count:
        raise BadInputError(f"There is no position {position}: the prompt has {count} tokens.")
    position %= count
    parts, norm, out, logits = _run(model, ids, position, heads=by == "head")
    direction = out.row(tokens[0])
    rest = out.bias_of(tokens[0])
    if versus is not None:
        direction = direction - out.row(tokens[1])
        rest -= out.bias_of(tokens[1])
    bias_of_norm = float(norm.shape.bias @ direction)
    u = norm.pull_back(direction)
    values = parts.vectors @ u
    logit = float(values.sum()) + bias_of_norm + rest
    _check_sum(out, tokens, logit, logits)
    words = [repr(each) for each in texts_of(model, torch.tensor([tokens]))]
    of = f"logit of {words[0]}" if versus is None else f"logit difference {words[0]} - {words[1]}"
    attrs = {
        **model_words(model, prompt),
        "metric": of + (" before the softcap" if out.cap else ""),
        "position": position,
        "logit": logit,
        RECIPE: recipe(
            "dla",
            model,
            {"main": ids},
            metric_of(model, tokens[0], None if versus is None else tokens[1]),
            position=position,
            cap=out.cap,
            ids=tokens,
            factor=residual_factor(model),
            halves=_halves(parts.names),
        ),
    }
    if by == "head":
        return _by_head(parts, u, logit, attrs)
    names = [*parts.names, "norm bias", "unembedding bias"]
    values = torch.cat([values, values.new_tensor([bias_of_norm, rest])])
    attrs["title"] = f"direct attribution: {attrs['metric']}"
    return with_axes(values, [Along("part", names)], "dla", attrs)


def _halves(names: list[str]) -> dict[str, list[str]]:
    """For each block that adds something besides, which of its halves are parts of their own."""
    rests = [name.split()[1] for name in names if name.startswith("rest ")]
    return {
        layer: [half for half in ("attn", "mlp") if f"{half} {layer}" in names] for layer in rests
    }


def _by_head(parts: Parts, u: torch.Tensor, logit: float, attrs: dict[str, Any]) -> Result:
    values = torch.stack([heads @ u for heads in parts.heads])
    attrs["rest"] = logit - float(values.sum())
    attrs["title"] = f"direct attribution by head: {attrs['metric']}"
    layers, heads = (list(range(size)) for size in values.shape)
    return with_axes(values, [Along("layer", layers), Along("head", heads)], "dla", attrs)


@dataclass(frozen=True)
class _Seen:
    """What one forward gave at the position."""

    before: torch.Tensor  # (hidden,), what the final norm was given
    after: torch.Tensor  # (hidden,), what it gave
    hidden: torch.Tensor  # (hidden,), what the unembedding was given
    logits: torch.Tensor  # (vocabulary,)


def _run(
    model: Any, ids: torch.Tensor, position: int, *, heads: bool
) -> tuple[Parts, FrozenNorm, Unembedding, torch.Tensor]:
    """One forward: the parts, the way to the logits, and the logits at the position."""
    if model.module.config.is_encoder_decoder:
        raise BadInputError(
            "Direct logit attribution is of models that are a decoder alone; this one has an "
            "encoder too, whose tokens the prompt's are."
        )
    names, vectors, by_head, stream = ["embed"], [], [], []
    # Two positions tell a bias, which is the same at both, from what a head writes.
    at = [position, (position - 1) % ids.shape[1]]
    with model.trace(ids):
        vectors.append(model.layers[0].resid_pre[0, at].value)
        for k, block in enumerate(model.layers):
            if heads:
                by_head.append(_results(block, at))
            for half in ("attn", "mlp"):
                try:
                    added = getattr(block, half).added
                except NoSuchModuleError:
                    continue  # it is in the block's rest
                names.append(f"{half} {k}")
                vectors.append(added[0, at].value)
            stream.append(block.resid_post[0, at].value)
        seen = _Seen(
            model.norm.input[0, position].value,
            model.norm.output[0, position].value,
            model.unembed.input[0, position].value,
            model.logits[0, position].value,
        )
    _add_rests(names, vectors, stream)
    return _taken_apart(model, names, vectors, by_head, seen)


def _add_rests(names: list[str], vectors: list, stream: list[torch.Tensor]) -> None:
    """What each block adds besides, where that is more than rounding.

    Args:
        stream: the residual stream behind each block.
    """
    before = vectors[0]
    for k, behind in enumerate(stream):
        known = [i for i, name in enumerate(names) if name in (f"attn {k}", f"mlp {k}")]
        halves = sum((vectors[i].float() for i in known), torch.zeros_like(before.float()))
        rest = behind.float() - before.float() - halves
        tolerance = max(TOLERANCE, 8 * torch.finfo(behind.dtype).eps)
        if rest.abs().max() > tolerance * behind.float().abs().max():
            at = 1 + max(known, default=_place_of(names, k) - 1)
            names.insert(at, f"rest {k}")
            vectors.insert(at, rest)
        before = behind


def _place_of(names: list[str], layer: int) -> int:
    """Where the parts of a block begin: behind those of the blocks before it."""
    return next(
        (i for i, name in enumerate(names) if i and int(name.split()[1]) >= layer), len(names)
    )


def _results(block: Any, at: list[int]) -> torch.Tensor:
    """What the heads of a block write at these positions, `(positions, heads, hidden)`."""
    return block.attn.result[0, at].value.float()


def _taken_apart(
    model: Any, names: list[str], vectors: list, by_head: list, seen: _Seen
) -> tuple[Parts, FrozenNorm, Unembedding, torch.Tensor]:
    """Holds the sum against the model's own numbers, and the way behind it too."""
    stacked = torch.stack([each.float() for each in vectors])
    _check(stacked[:, 0].sum(0), seen.before, "The embedding and what attention and MLPs add give")
    if not torch.equal(seen.after, seen.hidden):
        raise WrongValueError(
            f"Between the final norm ({model.norm.path}) and the unembedding "
            f"({model.unembed.path}) this model does something else, so the way to its logits is "
            "not known."
        )
    heads = [
        _scaled(results, stacked[names.index(f"attn {k}")], k, model)
        for k, results in enumerate(by_head)
    ]
    norm = frozen_norm(model.norm.module, seen.before, seen.after)
    cap = getattr(model.module.config.get_text_config(), "final_logit_softcapping", None)
    out = unembedding(model.unembed.module, seen.hidden, seen.logits, cap)
    return Parts(names, stacked[:, 0], heads), norm, out, seen.logits


def _scaled(results: torch.Tensor, added: torch.Tensor, layer: int, model: Any) -> torch.Tensor:
    """The heads' writes at the position as they arrive in the residual stream.

    Args:
        results: `(2, heads, hidden)`, z W_O of each head at two positions.
        added: `(2, hidden)`, what the attention added there.

    Raises:
        WrongValueError: a norm behind the attention, or something else, stands in between.
    """
    factor = residual_factor(model)
    bias = added - factor * results.sum(1)
    scale = added.abs().max().clamp(min=1e-6)
    tolerance = max(TOLERANCE, 8 * torch.finfo(model.module.dtype).eps) * scale
    if (bias[0] - bias[1]).abs().max() > tolerance:
        raise WrongValueError(
            f"What the attention of layers[{layer}] adds is not the sum of its heads' writes: a "
            'norm behind it, or something else, stands in between. by="part" takes the whole of it.'
        )
    return factor * results[0]


def _check(found: torch.Tensor, expected: torch.Tensor, what: str) -> None:
    expected_ = expected.float()
    worst = float((found - expected_).abs().max() / expected_.abs().max().clamp(min=1e-6))
    if worst > max(TOLERANCE, 8 * torch.finfo(expected.dtype).eps):
        raise WrongValueError(
            f"{what} another vector than the final norm is given ({worst:.1e} of its largest "
            "number apart), so the logits cannot be split among them in this model."
        )


def _check_sum(out: Unembedding, tokens: list[int], total: float, logits: torch.Tensor) -> None:
    """The parts' sum is the model's own number."""
    given = [float(each) for each in logits[tokens].float()]
    expected = given[0] - (given[1] if len(given) > 1 else 0.0)
    found = total
    if out.cap:
        if len(tokens) > 1:
            return  # a difference before the cap has no number of the model's beside it
        found = out.cap * math.tanh(total / out.cap)
    size = max(abs(each) for each in given)
    if abs(found - expected) > max(TOLERANCE, 16 * torch.finfo(logits.dtype).eps) * max(1.0, size):
        raise WrongValueError(
            f"The parts sum to {found:.5g}, and the model's own number is {expected:.5g}: it does "
            "something else on the way to its logits."
        )
