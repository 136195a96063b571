"""Which tokens of a text are kept: the last, all, chosen ones, or their mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch

from nnsight_magic.analyses.text_windows import Batch
from nnsight_magic.errors import BadInputError

At = Literal["last", "all", "mean"] | int | Sequence[int]
_WORDS = ("last", "all", "mean")
MEAN = -1  # the position of a mean, which is of no one token


def checked_at(at: Any) -> str | list[int]:
    """What was asked for, as plain data.

    Raises:
        BadInputError: it is neither a word that is known nor positions.
    """
    if isinstance(at, str) and at in _WORDS:
        return at
    chosen = [at] if type(at) is int else at
    if isinstance(chosen, list | tuple | range) and chosen and all(type(k) is int for k in chosen):
        return list(chosen)
    raise BadInputError(
        f"at={at!r} is no choice of tokens; expected 'last', 'all', 'mean', a position or a list "
        "of positions, which count from the end where they are negative."
    )


def places_of(at: str | list[int], length: int, text: int) -> list[int]:
    """The positions that are kept of a text of so many tokens; `MEAN` for their mean.

    Raises:
        BadInputError: a position is not in the text.
    """
    if not length:
        return []
    if at == "mean":
        return [MEAN]
    if isinstance(at, str):
        return [length - 1] if at == "last" else list(range(length))
    for position in at:
        if not -length <= position < length:
            raise BadInputError(
                f"Text {text} has {length} tokens and no position {position}.\n"
                "Leave out the texts that are too short, or keep at='all'."
            )
    return [position % length for position in at]


def keeper(at: str | list[int], batch: Batch) -> Callable[[Any], torch.Tensor]:
    """Takes the rows of a batch out of a value `(batch, tokens, …)`: `(rows, …)`.

    The mean is over a text's tokens without the first, whose vector is of another length in many
    models (Sun et al. 2024, arXiv:2402.17762); of a text of one token it is that one.
    """
    lengths = [len(ids) for ids in batch.ids]
    if at == "mean":
        spans = [slice(min(1, length - 1), length) for length in lengths]
        return lambda value: torch.stack(
            [value.value[row, span].float().mean(0) for row, span in enumerate(spans)]
        ).to(value.dtype)
    where = [
        (row, position)
        for row, (length, text) in enumerate(zip(lengths, batch.texts, strict=True))
        for position in places_of(at, length, text)
    ]
    rows, columns = (torch.tensor(each, dtype=torch.long) for each in zip(*where, strict=True))
    return lambda value: value[rows.to(value.device), columns.to(value.device)].value


def columns_of(at: str | list[int], batch: Batch) -> dict[str, list[int]]:
    """What each row of a batch is: its text, its position and its token.

    A mean has the position -1 and the token of its text's end.
    """
    text, position, token = [], [], []
    for number, ids in zip(batch.texts, batch.ids, strict=True):
        for place in places_of(at, len(ids), number):
            text.append(number)
            position.append(place)
            token.append(ids[place])
    return {"text": text, "position": position, "token": token}
