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

    # What shows a strip that a cell ends in; the live views, which stand above, put it here.
    show: ClassVar[Callable[[TokenStrip], None] | None] = None

    def _ipython_display_(self) -> None:
        if TokenStrip.show is None:
            raise NotImplementedError
        TokenStrip.show(self)

    def packed(self) -> StripForm:
        """JSON: tokens that occur often stand once, numbers with four digits."""
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


@dataclass(frozen=True)
class TokenGrid:
    """The logit lens and its kin: a strip for each layer, all over the same tokens.

    Attributes:
        tokens: what all rows stand over.
        strips: one a row; its name is the row's, its `top` what is likeliest at each position.
    """

    tokens: tuple[str, ...]
    strips: tuple[TokenStrip, ...]

    @classmethod
    def of(
        cls,
        top: Sequence[Sequence[Sequence[Guess]]],
        tokens: Sequence[str],
        rows: Sequence[str] | None = None,
    ) -> TokenGrid:
        """`top[row][position]` are the likeliest tokens with their probabilities, best first.

        Raises:
            BadInputError: rows and their names, or positions and tokens, differ in number.
        """
        names = [str(each) for each in rows] if rows is not None else [*map(str, range(len(top)))]
        if len(names) != len(top):
            raise BadInputError(f"{len(names)} names for {len(top)} rows")
        strips = (TokenStrip(tokens, *each) for each in zip(names, top, strict=True))
        return cls(tuple(tokens), tuple(strips))

    def packed(self) -> GridForm:
        words = _Words()
        return {
            "tokens": [words.number(token) for token in self.tokens],
            "rows": [strip.name for strip in self.strips],
            "cells": [[words.flat(guesses) for guesses in strip.top] for strip in self.strips],
            "words": list(words.numbers),
        }


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
