"""From any iterable of texts to batches: windows of so many texts, sorted by length within each.

A window is all that is in memory of the texts at a time. Sorting keeps padding low: texts of a
batch are nearly of one length. Windows, batches and what they hold follow from the texts and the
options alone, so a run that was cut off finds the same ones again, and so does another process.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from nnsight_magic.errors import BadInputError

WINDOW = 512  # texts
PADDING = 0.1  # as a part of the texts' own tokens, at most


@dataclass(frozen=True)
class Window:
    """Texts that follow one another.

    Attributes:
        number: of the window.
        first: the number of its first text.
        texts: each a text, or token ids.
    """

    number: int
    first: int
    texts: Sequence[str | list[int]]

    @property
    def digest(self) -> str:
        """What tells these texts from others."""
        told = hashlib.blake2b(digest_size=16)
        for text in self.texts:
            data = text.encode() if isinstance(text, str) else json.dumps(text).encode()
            told.update(f"{type(text).__name__} {len(data)} ".encode())
            told.update(data)
        return told.hexdigest()


@dataclass(frozen=True)
class Batch:
    """Texts that are run together.

    Attributes:
        texts: their numbers.
        ids: of each, its tokens.
    """

    texts: list[int]
    ids: list[list[int]]

    def padded(self) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Ids `(batch, tokens)`, padding behind them, and the mask; none where nothing is padded.

        Behind, since no token of a text then has another place than alone.
        """
        longest = max(map(len, self.ids))
        ids = torch.zeros(len(self.ids), longest, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for row, own in enumerate(self.ids):
            ids[row, : len(own)] = torch.tensor(own)
            mask[row, : len(own)] = 1
        return ids, None if bool(mask.all()) else mask


def windows(
    texts: Iterable[Any], column: str = "text", size: int | None = None
) -> Iterator[Window]:
    """The texts, so many at a time.

    Args:
        texts: texts or lists of token ids; a `Path` of a file with one text a line; or rows of a
            data set, dicts that have `column`.
        size: texts in a window; `WINDOW` by default.

    Raises:
        BadInputError: something is no text; the message says which.
    """
    source, first = iter(_each(texts, column)), 0
    number = 0
    while several := list(islice(source, size or WINDOW)):
        yield Window(number, first, several)
        first += len(several)
        number += 1


def batches(ids: Sequence[list[int]], numbers: Sequence[int], batch_tokens: int) -> Iterator[Batch]:
    """Tokenized texts as batches of at most so many tokens, padding counted; longest first.

    A tenth of a batch is padding at most. What does not fit into memory shows at the beginning,
    and not after an hour.
    """
    order = sorted(range(len(ids)), key=lambda k: (-len(ids[k]), k))
    at = 0
    while at < len(order):
        longest, end, real = len(ids[order[at]]), at, 0
        while end < len(order):
            real += len(ids[order[end]])
            whole = longest * (end + 1 - at)
            if end > at and (whole > batch_tokens or whole > real * (1 + PADDING)):
                break
            end += 1
        chosen = order[at:end]
        yield Batch([numbers[k] for k in chosen], [ids[k] for k in chosen])
        at = end


def tokenized(model: Any, window: Window, max_tokens: int | None) -> tuple[list[list[int]], int]:
    """The tokens of each text, with the special ones that the tokenizer adds; how many were cut.

    Raises:
        BadInputError: the model has no tokenizer, and a text is no list of ids.
    """
    tokenizer = getattr(model, "tokenizer", None)
    strings = [text for text in window.texts if isinstance(text, str)]
    if strings and tokenizer is None:
        raise BadInputError(
            "Texts were given, but this model has no tokenizer.\n"
            "Give lists of token ids, or a tokenizer: LanguageModel(model, tokenizer=…)."
        )
    found = iter(tokenizer(strings, verbose=False).input_ids if tokenizer and strings else ())
    ids = [next(found) if isinstance(text, str) else list(text) for text in window.texts]
    if max_tokens is None:
        return ids, 0
    return [each[:max_tokens] for each in ids], sum(len(each) > max_tokens for each in ids)


def _each(texts: Iterable[Any], column: str) -> Iterator[str | list[int]]:
    if isinstance(texts, str):
        raise BadInputError(
            "A text was given where texts are expected: give a list, [text], or the Path of a "
            "file with one text a line."
        )
    if isinstance(texts, Path):
        with texts.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines):
                yield _checked(line.rstrip("\r\n"), number)
        return
    for number, text in enumerate(texts):
        yield _checked(_of_row(text, number, column), number)


def _of_row(row: Any, number: int, column: str) -> Any:
    if not isinstance(row, dict):
        return row
    if column not in row:
        raise BadInputError(
            f"Row {number} has no column {column!r}: it has {', '.join(map(repr, row))}.\n"
            "Say which is the text: column=…."
        )
    return row[column]


def _checked(text: Any, number: int) -> str | list[int]:
    """A text that a tokenizer takes, or ids as a list.

    Raises:
        BadInputError: it is neither.
    """
    if isinstance(text, str):
        try:
            text.encode()
        except UnicodeEncodeError:
            raise BadInputError(
                f"Text {number} has half of a character (a lone surrogate), which no tokenizer "
                "takes.\nIt comes from text that was decoded wrongly: text.encode(errors='replace')"
            ) from None
        return text
    ids = text.tolist() if hasattr(text, "tolist") else text
    if isinstance(ids, list | tuple) and all(type(each) is int for each in ids):
        return list(ids)
    raise BadInputError(
        f"Text {number} is a {type(text).__name__}, {str(text)[:40]!r}; expected a text or a list "
        "of token ids."
    )
