"""What the logit lens saw, and its forms: a grid, a figure, text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsight_magic.analyses.lens_maps import LensMap
from nnsight_magic.analyses.result import Result, axes
from nnsight_magic.analyses.shows_itself import ShowsItself
from nnsight_magic.errors import BadInputError
from nnsight_magic.terminal import fitted
from nnsight_magic.views.data.strips import RANK, Guess, TokenGrid
from nnsight_magic.views.data.words import visible

if TYPE_CHECKING:
    from nnsight_magic.analyses.cell_of_point import CellText
    from nnsight_magic.views.live.tokens import GridView

WRITTEN = 600  # cells of a figure up to which their tokens are written
LETTERS = 7  # of a token in a cell of a figure


@dataclass(frozen=True, repr=False)
class Lens(ShowsItself):
    """What the lens saw.

    Attributes:
        token: ids of the likeliest tokens `(row, position, place)`, the likeliest first.
        probability: theirs, `(row, position, place)`.
        entropy: of each prediction `(row, position)`, in nats.
        settled: `(position,)`, the first row from which on the final token is the likeliest one.
        rank: of the answer `(row, position)`: how many logits are greater; `None` without answer.
        logprob: of the answer `(row, position)`, in nats; `None` without answer.
        texts: of every token id that occurs.
        answer: the answer in words, or "".
        notices: what the reader should know.
        modules: the paths of the blocks by their row.
    """

    token: Result
    probability: Result
    entropy: Result
    settled: Result
    rank: Result | None = None
    logprob: Result | None = None
    texts: Mapping[int, str] = field(default_factory=dict, repr=False)
    answer: str = ""
    notices: tuple[str, ...] = ()
    modules: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        return str(self.token.attrs["title"])

    @property
    def rows(self) -> list[str]:
        """The names of the rows: `input`, and the blocks by number."""
        return self.token["row"].values.tolist()

    @property
    def tokens(self) -> list[str]:
        """The prompt's tokens."""
        return self.token["position_text"].values.tolist()

    def dataset(self) -> Any:
        """All of it as one `xarray.Dataset`."""
        import xarray

        parts = [self.token, self.probability, self.entropy, self.settled, self.rank, self.logprob]
        return xarray.merge([each for each in parts if each is not None], compat="override")

    def as_cell(self, *, row: str | int, position: int) -> CellText:
        """A `%%trace` cell that gives the token and the numbers of one place of the grid.

        Args:
            row: its name: `"input"`, or a block's number.

        Raises:
            BadInputError: there is no such place, or the prompt cannot be written on a line.
        """
        from nnsight_magic.analyses.cell_of_point import cell_with, point_of
        from nnsight_magic.analyses.cell_of_reading import all_lens_lines

        along = axes(self.entropy)
        at = point_of(along, {}, {"row": str(row), "position": position})
        place = {axis.name: axis.places[k] for axis, k in zip(along, at, strict=True)}
        return cell_with(self.token.attrs, lambda recipe: all_lens_lines(recipe, place))

    # -- forms --------------------------------------------------------------------------------

    def view(self, *, settled: bool = False) -> GridView:
        """The lens grid: the likeliest token of each row and position.

        Args:
            settled: mark in each column the row from which on the final token stays the likeliest.
        """
        return _view(self, settled)

    def figure(self, of: str = "") -> Any:
        """A matplotlib figure of one of the numbers, the likeliest tokens written in its cells.

        Args:
            of: `"probability"`, `"entropy"`, `"rank"` or `"logprob"`; by default the answer's
                log-probability, or without an answer the likeliest token's probability.

        Raises:
            BadInputError: there is no such number.
        """
        return _figure(self, of)

    def text(self) -> str:
        """The grid in words, with the answer's best row."""
        return _text(self)


def through_maps(lens: Lens, maps: LensMap, rows: int) -> Lens:
    """The same with what its rows were read through said in its title.

    Args:
        rows: how many there would be without maps.
    """
    for each in (lens.token, lens.probability, lens.entropy, lens.settled, lens.rank, lens.logprob):
        if each is not None:
            each.attrs["through"] = maps.kind
    lens.token.attrs["title"] = maps.kind
    missing = rows - len(lens.rows)
    said = f"{missing} of {rows} rows have no map and are left out" if missing else ""
    return replace(lens, notices=(*lens.notices, *([said] if said else [])))


def _view(lens: Lens, settled: bool) -> GridView:
    """The lens grid, live."""
    from nnsight_magic.views.live.tokens import GridView

    return GridView(
        guesses(lens),
        lens.tokens,
        lens.rows,
        lens.title,
        numbers=_beside(lens),
        answer=lens.answer,
        settled=lens.settled.values.tolist() if settled else (),
        modules=[lens.modules.get(row, "") for row in lens.rows],
        cells=lambda row, position: lens.as_cell(row=lens.rows[row], position=position),
        note="; ".join([*lens.notices, *answer_in_words(lens)]),
    )


def _text(lens: Lens) -> str:
    """The grid as lines, and in words where the answer stands."""
    from nnsight_magic.views.still.grid import text

    grid = TokenGrid.of(guesses(lens), lens.tokens, lens.rows, _beside(lens), lens.answer)
    said = fitted("\n".join([lens.title, *lens.notices, *answer_in_words(lens)]))
    return f"{said}\n{text(grid)}"


def _beside(lens: Lens) -> dict[str, list[list[float]]]:
    """The numbers of each place beside the likeliest tokens."""
    found = {"entropy": lens.entropy, RANK: lens.rank, "log p": lens.logprob}
    return {name: each.values.tolist() for name, each in found.items() if each is not None}


def guesses(lens: Lens) -> list[list[list[Guess]]]:
    """For each row and position the likeliest tokens with their probabilities."""
    ids, shares = lens.token.values.tolist(), lens.probability.values.tolist()
    return [
        [
            [(lens.texts[each], p) for each, p in zip(*cell, strict=True)]
            for cell in zip(*row, strict=True)
        ]
        for row in zip(ids, shares, strict=True)
    ]


def answer_in_words(lens: Lens) -> list[str]:
    """Where the answer is first, or how near it comes, after the last token."""
    if lens.rank is None:
        return []
    ranks = lens.rank.values[:, -1]
    token = repr(lens.tokens[-1])
    best = int(ranks.min())
    row = lens.rows[int(ranks.argmin())]
    if best:
        return [f"after {token} {lens.answer} comes nearest in row {row}: rank {best}"]
    if (ranks[int(ranks.argmin()) :] == 0).all():
        return [f"after {token} {lens.answer} is the likeliest from row {row} on"]
    rows = ", ".join(lens.rows[int(k)] for k in (ranks == 0).nonzero()[0])
    return [f"after {token} {lens.answer} is the likeliest in rows {rows}"]


def _figure(lens: Lens, of: str) -> Any:
    """One number as a heat map with the likeliest tokens in its cells."""
    chosen = _numbers(lens, of or ("logprob" if lens.logprob is not None else "probability"))
    sheet = chosen.figure()
    if chosen.size <= WRITTEN:
        _write_tokens(lens, sheet.axes[0])
    return sheet


def _numbers(lens: Lens, of: str) -> Result:
    known = {
        "probability": lens.probability.isel(place=0, drop=True),
        "entropy": lens.entropy,
        "rank": lens.rank,
        "logprob": lens.logprob,
    }
    found = known.get(of)
    if found is None:
        there = ", ".join(name for name, each in known.items() if each is not None)
        why = "; rank and logprob need an answer" if of in known else ""
        raise BadInputError(f"There is no number {of!r} here: there are {there}{why}.")
    return found


def _write_tokens(lens: Lens, axes: Any) -> None:
    """Writes the likeliest token into each cell, black or white as reads better on its colour."""
    shown = axes.images[0]
    colours = shown.cmap(shown.norm(np.asarray(shown.get_array())))
    best = lens.token.isel(place=0).values.tolist()
    for row, ids in enumerate(best):
        for column, each in enumerate(ids):
            light = colours[row, column, :3] @ (0.299, 0.587, 0.114) > 0.5
            word = visible(lens.texts[each])[:LETTERS].replace("$", r"\$")
            axes.text(
                column, row, word, ha="center", va="center", fontsize=5,
                color="black" if light else "white", clip_on=True,
            )  # fmt: skip
