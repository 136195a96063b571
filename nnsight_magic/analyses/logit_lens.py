"""The logit lens: what each block's residual stream would say if it were the last one.

nostalgebraist 2020, "interpreting GPT: the logit lens". With `h` a vector of the residual stream, a
row of the lens is `softmax(head(h))`, where `head` is everything that the model itself does behind
its last block: the final norm with the vector's own statistics, the unembedding with its bias, a
softcap, a scale of the logits. So `h` is put in the place of the last block's output, and the
logits are read: nothing of the architecture is rebuilt here, and the last row equals the model's
own logits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from nnsight_magic.analyses.lens_maps import LensMap, load_lens_map
from nnsight_magic.analyses.lens_shown import Lens, through_maps
from nnsight_magic.analyses.metric import Answer, Metric, answer_words, one_token
from nnsight_magic.analyses.prompt import model_words, notices_of, positions_of, run_on
from nnsight_magic.analyses.recipe import RECIPE, recipe_of_reading
from nnsight_magic.analyses.result import Along, Result, with_axes
from nnsight_magic.engine.running.text_config import text_config
from nnsight_magic.engine.values.value import plain
from nnsight_magic.errors import BadInputError
from nnsight_magic.language.tokens import token_texts

PARTS = ("resid", "attn", "mlp")
LOGITS = 1 << 28  # bytes of logits that stand in memory at once, float32
TOP = 5


def lens(
    model: Any,
    prompt: Any,
    answer: Answer | None = None,
    *,
    of: str = "resid",
    top: int = TOP,
    through: LensMap | str | Path | None = None,
) -> Lens:
    """What the model would predict after each token if each of its blocks were the last.

    Row 0 is the residual stream before the first block, row k + 1 the one behind block k.

    Args:
        model: a `LanguageModel`.
        prompt: one prompt: a text or token ids.
        answer: a token to follow through the rows: its text or its id.
        of: what is looked at: `"resid"`, the residual stream; `"attn"` or `"mlp"`, what that half
            of each block adds to it, alone, through the same norm and unembedding.
        top: how many of the likeliest tokens are kept for each place.
        through: maps of the rows before the last block's, which were made for this model: a tuned
            lens or a Jacobian lens, or the file of one. Rows without a map are left out.

    Raises:
        BadInputError: there is no such part, or the model gives no logits for its tokens, or the
            maps are of another model.
        TokenTextError: the answer is no token, or several.

    >>> from nnsight_magic import LanguageModel
    >>> found = lens(LanguageModel("demo"), "The Eiffel Tower is in the city of", " Paris")
    >>> int(found.rank.sel(row="29", position=8)), found.rank.sizes["row"]
    (0, 31)
    """
    if of not in PARTS:
        raise BadInputError(f"There is no lens of {of!r}; there are {', '.join(PARTS)}.")
    if through is not None and of != "resid":
        raise BadInputError(f"Maps are of the residual stream, not of what {of} adds to it.")
    maps = load_lens_map(through) if isinstance(through, str | Path) else through
    followed = None if answer is None else one_token(model, answer, "the lens")
    stream, logits, positions = read_stream(model, prompt, of)
    names = row_names(model, of)
    if maps is not None:
        maps.check(names, stream[0].shape[-1])
        kept = [k for k, name in enumerate(names[:-1]) if name in maps.matrices] + [len(names) - 1]
        stream = [maps(names[k], stream[k]) for k in kept[:-1]] + stream[-1:]
        names = [names[k] for k in kept]
    size = max(1, LOGITS // (4 * logits.numel()))
    measure = _Measure(min(top, logits.shape[-1]), followed)

    def cell_of(row: int) -> _Row:
        _write(model.layers[-1], stream[row])
        return measure(plain(model.logits)[0])

    rows = model.sweep(
        run_on(prompt), cell_of, range(len(stream)), batch_size=size, pack=False, progress=False
    )
    final = logits[0].argmax(-1)
    told = _recipe(model, run_on(prompt), followed, of, through)
    found = _assembled(model, prompt, rows, names, final, positions, followed, told)
    return found if maps is None else through_maps(found, maps, len(model.layers) + 1)


def _recipe(model: Any, ran: Any, answer: int | None, of: str, through: Any) -> dict[str, str]:
    """How a number of the lens is read again, and of what it is."""
    metric = None if answer is None else Metric("log-probability", "", (answer,))
    numbers = ["token", "probability", "entropy", *(["rank", "logprob"] if metric else [])]
    more: dict[str, Any] = {"of": of, "blocks": len(model.layers), "numbers": numbers}
    if through is not None:
        more["through"] = str(through)
        if not isinstance(through, str | Path):
            more["no"] = "its rows were read through maps that are in no file"
    return {"of": of, RECIPE: recipe_of_reading("lens", model, ran, metric, **more)}


def row_names(model: Any, of: str = "resid") -> list[str]:
    """What the rows of a lens are called: `input`, and the blocks by their number."""
    blocks = [str(k) for k in range(len(model.layers))]
    return ["input", *blocks] if of == "resid" else blocks


# -- reading and writing the residual stream ------------------------------------------------------


def read_stream(
    model: Any, prompt: Any, of: str = "resid"
) -> tuple[list[torch.Tensor], torch.Tensor, Along]:
    """The vectors of every row `(1, tokens, hidden)`, the final logits, and the positions."""
    _check_blocks(model)
    stream: list[torch.Tensor] = []
    with torch.no_grad(), model.trace(run_on(prompt)) as tracer:
        if of == "resid":
            stream.append(_hidden(model.layers[0].input))
        stream += [
            _hidden(block._output if of == "resid" else getattr(block, of).added)
            for block in model.layers
        ]
        logits = plain(model.logits)
        positions = positions_of(model, tracer, logits)
    return stream, logits, positions


def _check_blocks(model: Any) -> None:
    """Raises where the blocks are no chain of which each runs once.

    Raises:
        BadInputError: there are none, or one is called for several layers, as ALBERT's is.
    """
    if model.names.layers is None:
        raise BadInputError("This model has no list of blocks that is known, so no lens.")
    told = getattr(text_config(model._root), "num_hidden_layers", None)
    one_stack = not getattr(getattr(model._root, "config", None), "is_encoder_decoder", False)
    if one_stack and told is not None and told > len(model.layers):
        raise BadInputError(
            f"The model has {told} layers and {len(model.layers)} blocks: a block is called for "
            "several layers, and the lens looks at each block once.\n"
            "Read single calls in a trace: layers[0].calls[1].output."
        )


def _hidden(value: Any) -> torch.Tensor:
    """The residual stream in what a block takes or gives; some give a tuple of it and more."""
    return plain(value if isinstance(value, torch.Tensor) else value[0])


def _write(block: Any, hidden: torch.Tensor) -> None:
    if isinstance(block._output, torch.Tensor):
        block._output = hidden
    else:
        block._output[0] = hidden


# -- what is kept of the logits -------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """What is kept of one row's logits, each `(tokens, …)`."""

    token: torch.Tensor
    probability: torch.Tensor
    entropy: torch.Tensor
    rank: torch.Tensor | None
    logprob: torch.Tensor | None


@dataclass(frozen=True)
class _Measure:
    """Takes from logits what is kept of them."""

    top: int
    answer: int | None

    def __call__(self, logits: torch.Tensor) -> _Row:
        """Args: logits: `(tokens, vocabulary)`."""
        shares = logits.float().log_softmax(-1)
        best = shares.topk(self.top)
        entropy = torch.special.entr(shares.exp()).sum(-1)
        rank = logprob = None
        if self.answer is not None:
            own = logits[:, self.answer, None]
            rank, logprob = (logits > own).sum(-1), shares[:, self.answer].clone()
        return _Row(best.indices, best.values.exp(), entropy, rank, logprob)


def _assembled(
    model: Any,
    prompt: Any,
    rows: Sequence[_Row],
    names: Sequence[str],
    final: torch.Tensor,
    positions: Along,
    answer: int | None,
    told: Mapping[str, str],
) -> Lens:
    down = Along("row", names)
    place = Along("place", range(rows[0].token.shape[-1]))
    words = "" if answer is None else answer_words(model, answer)
    what = {"resid": "logit lens", "attn": "logit lens of attention", "mlp": "logit lens of MLPs"}
    attrs = {"title": what[told["of"]], **told, **model_words(model, prompt)}
    if words:
        attrs["answer"] = words

    def gathered(take: Callable[[_Row], Any], name: str, title: str, *more: Along) -> Result:
        stacked = torch.stack([take(row) for row in rows])
        return with_axes(stacked, [down, positions, *more], name, attrs | {"title": title})

    token = gathered(lambda row: row.token, "token", attrs["title"], place)
    found = {
        "probability": gathered(lambda row: row.probability, "probability", "probability", place),
        "entropy": gathered(lambda row: row.entropy, "entropy", "entropy in nats"),
        "settled": _settled(token, final, attrs),
    }
    if words:
        found["rank"] = gathered(lambda row: row.rank, "rank", f"rank of {words}")
        found["rank"].attrs["best"] = "least"
        found["logprob"] = gathered(
            lambda row: row.logprob, "logprob", f"log-probability of {words}"
        )
    ids = sorted({*token.values.ravel().tolist()})
    texts = dict(zip(ids, token_texts(getattr(model, "tokenizer", None), ids), strict=True))
    blocks = (str(each.path) for each in model.layers)
    modules = {str(layer): path for layer, path in enumerate(blocks)}
    return Lens(
        token, **found, texts=texts, answer=words, notices=notices_of(model), modules=modules
    )


def _settled(token: Result, final: torch.Tensor, attrs: Mapping[str, Any]) -> Result:
    """For each position the first row from which on the model's own token is the likeliest.

    Where the last row has another token, as that of one half's addition may, it is the number of
    rows: none.
    """
    first = token.isel(place=0)
    same = first.values == final.cpu().numpy()
    rows = first.sizes["row"]
    # Counted from the last row up: how many rows in one piece have the final token.
    run = same[::-1].cumprod(0).sum(0)
    settled = first.isel(row=0, drop=True).copy(data=rows - run)
    settled.name, settled.attrs = "settled", {**attrs, "title": "settled from row"}
    return settled
