"""One number of a lens or of attention as the body of a cell: what was only read is read again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nnsight_magic.errors import BadInputError

Recipe = Mapping[str, Any]
Point = Mapping[str, Any]


def lens_lines(recipe: Recipe, point: Point, name: str, value: float) -> list[str]:
    """The lines behind a cell's first that give one number of a lens.

    Args:
        name: of the number, `logprob_here`.

    Raises:
        BadInputError: the number is none of one row.
    """
    if "row" not in point:
        raise BadInputError(
            "There is no cell for this point: from which row on a token is settled is read off all "
            "rows."
        )
    read = _read(recipe, point)[name.removesuffix("_here")]
    return [*_row(recipe, str(point["row"])), f"{name} = {read}"]


def all_lens_lines(recipe: Recipe, point: Point) -> list[str]:
    """The same of all numbers of a place of the grid, `token_here` to `logprob_here`."""
    read = {name: each for name, each in _read(recipe, point).items() if name in recipe["numbers"]}
    lines = [f"{name}_here = {each}" for name, each in read.items()]
    return [*_row(recipe, str(point["row"])), *lines]


def _read(recipe: Recipe, point: Point) -> dict[str, str]:
    """How each number is read off the logits."""
    wide = "" if recipe["metric"]["wide"] else ".float()"
    logits = f"logits[0, {point['position']}]"
    shares = f"{logits}{wide}.log_softmax(-1)"
    answer = repr(recipe["metric"]["answer"][0]) if recipe["metric"]["answer"] else ""
    place = point.get("place", 0)
    best = f"{shares}.topk({place + 1})"
    return {
        "token": f"{best}.indices[{place}]",
        "probability": f"{best}.values[{place}].exp()",
        "entropy": f"-({shares}.exp() * {shares}).nansum()",
        "rank": f"({logits} > {logits}[{answer}]).sum()",
        "logprob": f"{shares}[{answer}]",
    }


def _row(recipe: Recipe, row: str) -> list[str]:
    """The lines that put a row's vectors in the place of the last block's output."""
    blocks, of = recipe["blocks"], recipe["of"]
    last = f"layers[{blocks - 1}].resid_post"
    if of != "resid":
        return [f"_row = layers[{row}].{of}.added", f"{last} = _row"]
    if row == str(blocks - 1):
        return []
    there = "layers[0].resid_pre" if row == "input" else f"layers[{row}].resid_post"
    if "through" not in recipe:
        return [f"_row = {there}", f"{last} = _row"]
    return [
        "from nnsight_magic import analyses",
        f"_map = analyses.load_lens_map({recipe['through']!r})",
        f"_row = _map({row!r}, {there})",
        f"{last} = _row",
    ]


def attention_lines(recipe: Recipe, point: Point, name: str, value: float) -> list[str]:
    """The lines behind a cell's first that give a weight, or a head's score.

    Raises:
        BadInputError: never; the arguments are those of `lens_lines`.
    """
    head = _head(point)
    repeated = recipe["repeated"]
    if "from" in point:
        at = f"{head}[{point['from']}]"
        sink = recipe["sink"] and point["to"] == -1
        return [f"{name} = 1 - {at}.sum()" if sink else f"{name} = {at}[{point['to']}]"]
    if "score" not in point:
        return [f"{name} = 1 - {head}.sum(-1).mean()"]
    read = {
        "previous": "_pattern.diagonal(-1).mean()",
        "first": "_pattern[1:, 0].mean()",
        "induction": f"_pattern.diagonal({1 - repeated})[-{repeated}:].mean()",
        "duplicate": f"_pattern.diagonal(-{repeated})[-{repeated}:].mean()",
    }[str(point["score"])]
    return [f"_pattern = {head}", f"{name} = {read}"]


def head_lines(point: Point) -> list[str]:
    """The line that gives the pattern of a head, `(from, to)`; a sink is no part of it."""
    return [f"pattern_here = {_head(point)}"]


def _head(point: Point) -> str:
    return f"layers[{point['layer']}].attn.pattern[0, {point['head']}]"
