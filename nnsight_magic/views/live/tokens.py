"""Tokens and what the model predicts after each of them: the tokens view, and the lens grid."""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.words import brief, share
from nnsight_magic.views.live.view import ShownText, View

Guess = tuple[str, float]  # a token and its probability


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
        columns = {"top": self.top, "clean": self.clean, "kl": self.kl, **self.numbers}
        for name, column in columns.items():
            if len(column) not in (0, len(self.tokens)):
                raise BadInputError(
                    f"{name} has {len(column)} entries for {len(self.tokens)} tokens; there "
                    "must be one for each"
                )

    def _ipython_display_(self) -> None:
        """A cell that ends in a strip shows it."""
        TokensView(self)._ipython_display_()

    def packed(self) -> dict[str, Any]:
        """JSON: tokens that occur often stand once, numbers with four digits."""
        words: dict[str, int] = {}

        def number(token: str) -> int:
            return words.setdefault(token, len(words))

        def guesses(all_tops: Sequence[Sequence[Guess]]) -> list[list[float]]:
            return [[each for t, p in top for each in (number(t), share(p))] for top in all_tops]

        columns = {"KL": self.kl} if len(self.kl) else {}
        columns |= self.numbers
        return {
            "name": self.name,
            "tokens": [number(str(token)) for token in self.tokens],
            "top": guesses(self.top),
            "clean": guesses(self.clean),
            "numbers": {name: [brief(v) for v in values] for name, values in columns.items()},
            "generated": self.generated,
            "heads": list(self.heads),
            "words": list(words),
        }


def pack_json(value: Any) -> bytes:
    return zlib.compress(json.dumps(value, separators=(",", ":")).encode(), 6)


class TokensView(View):
    """Prompts as their tokens, with what is predicted after each.

    Attributes:
        coloured: the name of the numbers that colour the tokens, or ""; at first "KL", or where
            there is none the first of the `numbers`.
        strip: which prompt the selected token is in.
        selection.token: the position of the selected token.
    """

    title = ShownText().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    coloured = traitlets.Unicode().tag(sync=True)
    strip = traitlets.Int(0).tag(sync=True)

    def __init__(
        self, strips: TokenStrip | Iterable[TokenStrip], title: str = "", **state: Any
    ) -> None:
        self.strips = [strips] if isinstance(strips, TokenStrip) else list(strips)
        if not self.strips:
            raise BadInputError("there are no tokens to show")
        named = ["KL" for strip in self.strips if len(strip.kl)]
        named += [name for strip in self.strips for name in strip.numbers]
        state.setdefault("coloured", named[0] if named else "")
        packed = pack_json([strip.packed() for strip in self.strips])
        super().__init__(kind="tokens", title=title, packed=packed, **state)

    def text(self) -> str:
        from nnsight_magic.views.still.tokens import text

        return text(self.strips)

    def still(self) -> str:
        from nnsight_magic.views.still.tokens import html

        return html(self.strips, self.title, self.selection.token, self.coloured)


class GridView(View):
    """The logit lens and its kin: for each layer and position the likeliest tokens.

    Attributes:
        cell: row and position of the selected place, or empty.
    """

    title = ShownText().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    cell = traitlets.List(traitlets.Int()).tag(sync=True)

    def __init__(
        self,
        top: Sequence[Sequence[Sequence[Guess]]],
        tokens: Sequence[str],
        rows: Sequence[str] | None = None,
        title: str = "",
        **state: Any,
    ) -> None:
        """`top[row][position]` are the likeliest tokens with their probabilities, best first."""
        self.rows = (
            [str(each) for each in rows] if rows is not None else [*map(str, range(len(top)))]
        )
        if len(self.rows) != len(top):
            raise BadInputError(f"{len(self.rows)} names for {len(top)} rows")
        self.strips = [
            TokenStrip(tokens, name, line) for name, line in zip(self.rows, top, strict=True)
        ]
        words: dict[str, int] = {}
        for strip in self.strips:
            for each in (*strip.tokens, *(t for guesses in strip.top for t, _ in guesses)):
                words.setdefault(str(each), len(words))
        cells = [
            [[part for t, p in guesses for part in (words[t], share(p))] for guesses in strip.top]
            for strip in self.strips
        ]
        grid = {
            "tokens": [words[str(token)] for token in tokens],
            "rows": self.rows,
            "cells": cells,
            "words": list(words),
        }
        super().__init__(kind="grid", title=title, packed=pack_json(grid), **state)

    def text(self) -> str:
        from nnsight_magic.views.still.tokens import grid_text

        return grid_text(self)

    def still(self) -> str:
        from nnsight_magic.views.still.tokens import grid_html

        return grid_html(self)


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


def tokens_view(strips: Any, title: str = "", **options: Any) -> TokensView:
    """Shows a `TokenStrip`, several of them, or a plain list of token texts."""
    if isinstance(strips, str):
        raise BadInputError("found a text; give its tokens, as a list of texts")
    if not isinstance(strips, TokenStrip):
        strips = list(strips)
        if strips and all(isinstance(each, str) for each in strips):
            strips = TokenStrip(strips)
    return TokensView(strips, title, **options)
