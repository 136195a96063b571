"""The direction in which two kinds of text differ.

`means`: what the states after one kind's last tokens have more than those after the other's, on
average (Marks & Tegmark 2023, arXiv:2310.06824; Turner et al. 2023, arXiv:2308.10248 take a single
pair). `principal`: the axis along which the pairs differ most, the first right singular vector of
their differences (Zou et al. 2023, arXiv:2310.01405), signed and scaled so that one unit is as far
along it as the means are apart.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from nnsight_magic.analyses.directions import SITE, Direction, kind_of
from nnsight_magic.analyses.prompt import model_words
from nnsight_magic.analyses.streaming import stream
from nnsight_magic.errors import BadInputError

METHODS = ("means", "principal")
KEYS = ("positive", "negative")


def direction(
    model: Any,
    pairs: Any,
    layer: int | Sequence[int],
    *,
    method: str = "means",
    at: str = "last",
    words: str = "",
) -> Direction:
    """What states of one kind of text have more than those of another, in the residual stream.

    Args:
        model: a `LanguageModel`.
        pairs: a list of `(positive, negative)` texts, or `{"positive": texts, "negative": texts}`,
            which need not be as many.
        layer: the block after which, or several.
        method: `"means"`, mean(positive) - mean(negative), or `"principal"`, the first principal
            axis of the pairs, each centred on its own middle; scaled alike.
        at: of each text the `"last"` token, or the `"mean"` of all but the first.
        words: what the direction is to be called.

    Returns:
        A direction with the mean length of the residual stream over the texts' tokens but the
        first, for relative strengths.

    Raises:
        BadInputError: there are no such pairs, no such block, or both kinds are the same.

    >>> from nnsight_magic import LanguageModel, analyses
    >>> model = LanguageModel("demo")
    >>> found = analyses.direction(model, [("I LOVE THE SEA", "I love the sea")], layer=8)
    >>> found.layers, tuple(found.vectors[8].shape)
    ([8], (576,))
    """
    positive, negative, paired = _sides(pairs)
    if method not in METHODS:
        raise BadInputError(f"There is no method {method!r}; there are {', '.join(METHODS)}.")
    if method == "principal" and not paired:
        raise BadInputError(
            "The principal axis is of pairs: give a list of (positive, negative), or as many texts "
            "of each kind, in the order of the pairs."
        )
    if at not in ("last", "mean"):
        raise BadInputError(f"at={at!r}: expected 'last' or 'mean'.")
    layers = [layer] if isinstance(layer, int) else list(layer)
    states, lengths = _states(model, [*positive, *negative], layers, at)
    vectors = {}
    for number, rows in states.items():
        one, two = rows[: len(positive)], rows[len(positive) :]
        vector = one.mean(0) - two.mean(0)
        if method == "principal":
            axis = torch.linalg.svd(one - two, full_matrices=False).Vh[0]
            vector = axis * (axis @ vector)
        if not bool(vector.abs().max() > 0):
            raise BadInputError(
                f"The states of both kinds are equal after block {number}: they differ in nothing "
                f"that stands before the {'last token' if at == 'last' else 'end'}."
            )
        vectors[number] = vector.float()
    name = model_words(model, "")["model"]
    return Direction(vectors, SITE, words, name, kind_of(model), lengths)


def _sides(pairs: Any) -> tuple[list[Any], list[Any], bool]:
    """The texts of both kinds, and whether they are pairs.

    Raises:
        BadInputError: there are none.
    """
    wanted = 'a list of (positive, negative), or {"positive": texts, "negative": texts}'
    if isinstance(pairs, Mapping):
        if set(pairs) != set(KEYS):
            raise BadInputError(
                f"Found a dict of {', '.join(map(repr, pairs))}; expected {wanted}."
            )
        positive, negative = ([*pairs[name]] for name in KEYS)
        if any(isinstance(pairs[name], str) for name in KEYS):
            raise BadInputError(f"Texts stand in a list; expected {wanted}.")
    else:
        try:
            both = [tuple(each) if not isinstance(each, str) else (each,) for each in pairs]
        except TypeError:
            raise BadInputError(f"Found {type(pairs).__name__}; expected {wanted}.") from None
        odd = [each for each in both if len(each) != 2]
        if odd:
            raise BadInputError(f"{odd[0]!r:.80} is no pair; expected {wanted}.")
        positive, negative = ([each[side] for each in both] for side in (0, 1))
    if not positive or not negative:
        raise BadInputError(
            f"There are {len(positive)} positive and {len(negative)} negative texts."
        )
    return positive, negative, len(positive) == len(negative)


def _states(
    model: Any, texts: list[Any], layers: list[int], at: str
) -> tuple[dict[int, torch.Tensor], dict[int, float]]:
    """By block the states `(texts, hidden)`, and the mean length of the residual stream."""
    with tempfile.TemporaryDirectory() as folder:
        store = stream(
            model, texts, folder, sites=SITE, layers=layers, at="all", dtype="float32",
            progress=False,
        )  # fmt: skip
        text = torch.from_numpy(store.rows["text"].to_numpy().copy())
        position = torch.from_numpy(store.rows["position"].to_numpy().copy())
        empty = sorted(set(range(len(texts))) - set(text.tolist()))
        if empty:
            raise BadInputError(f"{texts[empty[0]]!r} has no token, and so no state.")
        states, lengths = {}, {}
        for layer in store.layers:
            rows = store.load(layer=layer).double()
            own = [rows[text == number] for number in range(len(texts))]
            states[layer] = torch.stack([_state(each, at) for each in own])
            behind = rows[position > 0]
            lengths[layer] = float((behind if len(behind) else rows).norm(dim=-1).mean())
    return states, lengths


def _state(rows: torch.Tensor, at: str) -> torch.Tensor:
    """Of a text's states `(tokens, hidden)` the last, or the mean of all but the first."""
    if at == "last" or len(rows) == 1:
        return rows[-1]
    return rows[1:].mean(0)
