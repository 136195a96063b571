"""Tokens as values: prompts with what is predicted after each token, lens grids, steps of a
generation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, cast

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.wire import Flat, GridForm, StepForm, StripForm
from nnsight_magic.views.data.words import brief, share

Guess = tuple[str, float]  # a token and its probability
RANK = "rank"  # how many tokens are likelier than a grid's answer


class _Words:
    """Texts by number, each once."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, token: object) -> int:
        return self.numbers.setdefault(str(token), len(self.numbers))

    def flat(self, guesses: Sequence[Guess]) -> Flat:
        """Numbers and probabilities, one pair after another."""
        return [part for token, p in guesses for part in (self.number(token), share(p))]


@dataclass(frozen=True)
class TokenStrip:
    """One prompt, or one row of a batch.

    Attributes:
        tokens: the texts of the tokens, as the tokenizer decodes each.
        name: what the prompt goes by.
        top: for each position, the likeliest next tokens, the likeliest first.
        clean: the same without the cell's writes.
        kl: for each position, the divergence of the two predictions, in nats.
        numbers: any other numbers by their name, one for each position; a plain list goes by the
            name `number`.
        generated: how many tokens at the end were generated.
        heads: what `top` and `clean` go by.
    """

    tokens: Sequence[str]
    name: str = ""
    top: Sequence[Sequence[Guess]] = ()
    clean: Sequence[Sequence[Guess]] = ()
    kl: Sequence[float] = ()
    numbers: Mapping[str, Sequence[float]] | Sequence[float] = field(default_factory=dict)
    generated: int = 0
    heads: tuple[str, str] = ("with writes", "without")

    def __post_init__(self) -> None:
        if not isinstance(self.numbers, Mapping):
            object.__setattr__(self, "numbers", {"number": self.numbers})
        columns = {"top": self.top, "clean": self.clean, "kl": self.kl, **self.named}
        for name, column in columns.items():
            if len(column) not in (0, len(self.tokens)):
                raise BadInputError(
                    f"{name} has {len(column)} entries for {len(self.tokens)} tokens; there "
                    "must be one for each"
                )

    @property
    def named(self) -> Mapping[str, Sequence[float]]:
        """The numbers by their name, as they are from the beginning on."""
        return cast(Mapping[str, Sequence[float]], self.numbers)

    # What shows a strip that a cell ends in; the live views, a room above, put it here.
    show: ClassVar[Callable[[TokenStrip], None] | None] = None

    def _ipython_display_(self) -> None:
        if TokenStrip.show is None:
            raise NotImplementedError
        TokenStrip.show(self)

    def packed(self) -> StripForm:
        """JSON: tokens that occur often are written once, numbers with four digits."""
        words = _Words()
        columns: dict[str, Sequence[float]] = {"KL": self.kl} if len(self.kl) else {}
        columns |= self.named
        return {
            "name": self.name,
            "tokens": [words.number(token) for token in self.tokens],
            "top": [words.flat(top) for top in self.top],
            "clean": [words.flat(top) for top in self.clean],
            "numbers": {name: [brief(v) for v in values] for name, values in columns.items()},
            "generated": self.generated,
            "heads": list(self.heads),
            "words": list(words.numbers),
        }


def _number(value: float) -> float | None:
    """A count as it is, anything else in four digits."""
    return (
        int(value) if value == value and abs(value) < 1e9 and value == int(value) else brief(value)
    )


@dataclass(frozen=True)
class TokenGrid:
    """The logit lens and its kin: a strip for each layer, all over the same tokens.

    Attributes:
        tokens: the columns of all rows.
        strips: one a row; its name is the row's, its `top` what is likeliest at each position,
            and any numbers of each position.
        answer: a token that is followed through the rows: its rank is among the numbers by the
            name `RANK`.
        settled: for each position the row from which on its last token stays the likeliest.
    """

    tokens: tuple[str, ...]
    strips: tuple[TokenStrip, ...]
    answer: str = ""
    settled: tuple[int, ...] = ()

    @classmethod
    def of(
        cls,
        top: Sequence[Sequence[Sequence[Guess]]],
        tokens: Sequence[str],
        rows: Sequence[str] | None = None,
        numbers: Mapping[str, Sequence[Sequence[float]]] | None = None,
        answer: str = "",
        settled: Sequence[int] = (),
    ) -> TokenGrid:
        """`top[row][position]` are the likeliest tokens with their probabilities, best first.

        Args:
            numbers: others by their name, `(row, position)` each.

        Raises:
            BadInputError: rows and their names, or positions and tokens, differ in number.
        """
        names = [str(each) for each in rows] if rows is not None else [*map(str, range(len(top)))]
        if len(names) != len(top):
            raise BadInputError(f"{len(names)} names for {len(top)} rows")
        for name, values in (numbers or {}).items():
            if len(values) != len(top):
                raise BadInputError(f"{name} has {len(values)} rows for {len(top)} rows of tokens")
        if len(settled) not in (0, len(tokens)):
            raise BadInputError(f"{len(settled)} settled rows for {len(tokens)} positions")
        strips = (
            TokenStrip(tokens, name, each, numbers={n: v[k] for n, v in (numbers or {}).items()})
            for k, (name, each) in enumerate(zip(names, top, strict=True))
        )
        return cls(tuple(tokens), tuple(strips), answer, tuple(settled))

    def first_at(self, row: int, position: int) -> bool:
        """Whether the answer is the likeliest token there."""
        ranks = self.strips[row].named.get(RANK, ())
        return bool(len(ranks)) and ranks[position] == 0

    def packed(self) -> GridForm:
        words = _Words()
        form: GridForm = {
            "tokens": [words.number(token) for token in self.tokens],
            "rows": [strip.name for strip in self.strips],
            "cells": [[words.flat(guesses) for guesses in strip.top] for strip in self.strips],
            "words": list(words.numbers),
        }
        names = self.strips[0].named if self.strips else ()
        if names:
            form["numbers"] = {
                name: [[_number(value) for value in strip.named[name]] for strip in self.strips]
                for name in names
            }
        if self.answer:
            form["answer"] = self.answer
        if self.settled:
            form["settled"] = list(self.settled)
        return form


@dataclass(frozen=True)
class Step:
    """One generated token.

    Attributes:
        token: its text.
        p: its probability.
        candidates: the likeliest tokens at this step with their probabilities.
        saved: names of the tensors that were saved at this step.
    """

    token: str
    p: float | None = None
    candidates: Sequence[Guess] = ()
    saved: Sequence[str] = ()

    def packed(self) -> StepForm:
        flat = [part for token, p in self.candidates for part in (str(token), share(p))]
        return [self.token, None if self.p is None else share(self.p), flat, list(self.saved)]


def likeliest(logits: Any, decode: Callable[[list[int]], str], count: int = 5) -> list[list[Guess]]:
    """The likeliest next tokens at each position, the likeliest first.

    `logits` is `(tokens, vocabulary)`, or `(1, tokens, vocabulary)`; `decode` makes a text of
    token ids, as a tokenizer's does.
    """
    if logits.ndim == 3 and logits.shape[0] == 1:
        logits = logits[0]
    if logits.ndim != 2:
        raise BadInputError(
            f"logits of shape {tuple(logits.shape)}; (tokens, vocabulary) is needed, one prompt"
        )
    best = logits.detach().float().softmax(-1).topk(min(count, logits.shape[-1]))
    return [
        [(decode([token]), p) for token, p in zip(ids, ps, strict=True)]
        for ids, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
    ]
