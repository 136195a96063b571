"""Tokens and what the model predicts after each of them: the tokens view, and the lens grid."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.strips import Guess, TokenGrid, TokenStrip
from nnsight_magic.views.data.wire import packed_json
from nnsight_magic.views.live.as_cell import Cells, cell_at
from nnsight_magic.views.live.view import Answer, ShownText, View


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
        packed = packed_json([strip.packed() for strip in self.strips])
        super().__init__(kind="tokens", title=title, packed=packed, **state)

    def text(self) -> str:
        from nnsight_magic.views.still.tokens import text

        return text(self.strips)

    def in_a_line(self) -> str:
        named = f"{self.title}: " if self.title else ""
        return named + (f"{len(self.strips)} prompts, " * (len(self.strips) > 1)) + self.text()

    def still(self) -> str:
        from nnsight_magic.views.still.tokens import html

        return html(self.strips, self.title, self.selection.token, self.coloured)


class GridView(View):
    """The logit lens and its kin: for each layer and position the likeliest tokens.

    Attributes:
        cell: row and position of the selected place, or empty.
        coloured: the name of the numbers that colour the cells; "" for the probability of the
            likeliest token.
        note: a sentence beside the title.
        modules: the path of each row's module, or ""; selecting a row selects it.
        can: `cell` where a place can be had as a cell.
    """

    title = ShownText().tag(sync=True)
    note = ShownText().tag(sync=True)
    coloured = traitlets.Unicode().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    cell = traitlets.List(traitlets.Int()).tag(sync=True)
    modules = traitlets.List(traitlets.Unicode()).tag(sync=True)
    can = traitlets.List(traitlets.Unicode()).tag(sync=True)

    def __init__(
        self,
        top: Sequence[Sequence[Sequence[Guess]]],
        tokens: Sequence[str],
        rows: Sequence[str] | None = None,
        title: str = "",
        *,
        numbers: Mapping[str, Sequence[Sequence[float]]] | None = None,
        answer: str = "",
        settled: Sequence[int] = (),
        cells: Cells | None = None,
        **state: Any,
    ) -> None:
        """`top[row][position]` are the likeliest tokens with their probabilities, best first.

        Args:
            numbers: others by their name, `(row, position)` each; those of the selected position
                stand beside the rows.
            answer: a token that is followed through the rows; its rank is the number `rank`.
            settled: for each position the row from which on its last token stays the likeliest.
            cells: the text of a cell that gives the place of a row and a position.
        """
        self._cells = cells
        state.setdefault("can", ["cell"] if cells else [])
        self.grid = TokenGrid.of(top, tokens, rows, numbers, answer, settled)
        self.strips = list(self.grid.strips)
        self.rows = [strip.name for strip in self.strips]
        super().__init__(kind="grid", title=title, packed=packed_json(self.grid.packed()), **state)

    @property
    def answers(self) -> dict[str, Callable[[dict[str, Any]], Answer]]:
        return {"cell": self._cell}

    def _cell(self, asked: dict[str, Any]) -> Answer:
        return cell_at(self._cells, asked.get("at"), (len(self.rows), len(self.grid.tokens)))

    def text(self) -> str:
        from nnsight_magic.views.still.grid import text

        return "\n".join([*([self.note] if self.note else []), text(self.grid, self.title)])

    def in_a_line(self) -> str:
        size = f"{len(self.strips)} rows × {len(self.grid.tokens)} positions"
        return f"{self.title}: {size}" if self.title else size

    def still(self) -> str:
        from nnsight_magic.views.still.grid import html

        position = self.cell[1] if len(self.cell) == 2 else -1
        return html(self.grid, self.title, self.note, position)


def tokens_view(strips: Any, title: str = "", **options: Any) -> TokensView:
    """Shows a `TokenStrip`, several of them, or a plain list of token texts."""
    if isinstance(strips, str):
        raise BadInputError("found a text; give its tokens, as a list of texts")
    if not isinstance(strips, TokenStrip):
        strips = list(strips)
        if strips and all(isinstance(each, str) for each in strips):
            strips = TokenStrip(strips)
    return TokensView(strips, title, **options)


def _show(strip: TokenStrip) -> None:
    TokensView(strip)._ipython_display_()


TokenStrip.show = _show  # a cell that ends in a strip shows it
