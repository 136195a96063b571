"""What the heads attend to, and its forms: small multiples with one head large, a figure, text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from nnsight_magic.analyses.attention_blocks import Again, Head
from nnsight_magic.analyses.result import Along, Result, axes
from nnsight_magic.analyses.result_axes import as_numbers
from nnsight_magic.analyses.shows_itself import ShowsItself
from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.in_blocks import InBlocks
from nnsight_magic.views.data.roles import Axis
from nnsight_magic.views.data.words import number

if TYPE_CHECKING:
    import torch

    from nnsight_magic.analyses.cell_of_point import CellText
    from nnsight_magic.views.live.heads import HeadsView

SCORES, OF_REPEATED = ("previous", "first"), ("induction", "duplicate")
RANKED = 5  # heads of each score that are told in words


def check_score(name: str, *, repeated: bool) -> None:
    """Raises where heads have no score of that name.

    Args:
        repeated: whether they ran on repeated tokens.

    Raises:
        BadInputError: there is no such score.
    """
    there = SCORES + OF_REPEATED * repeated
    if name not in there:
        why = "; those of repeated tokens need induction=True" * (name in OF_REPEATED)
        raise BadInputError(f"There is no score {name!r}: there are {', '.join(there)}{why}.")


@dataclass(frozen=True, repr=False)
class Attention(ShowsItself):
    """What the heads of a model attend to, on one prompt.

    Attributes:
        scores: `(score, layer, head)`: the mean weight on the *previous* token, on the *first*; on
            repeated tokens also on the token behind the earlier occurrence (*induction*) and on
            that occurrence itself (*duplicate*), over the queries of the second copy.
        sinks: `(layer, head)`, the mean weight that a sink takes; `None` where there is none.
        patterns: `(layer, head, from, to)`; `None` where they are too many to be kept. Where heads
            have a sink it is the last place of `to`, -1.
        small: pooled patterns `(layers, heads, rows, columns)`, the greatest of several tokens.
        positions: the prompt's tokens.
        keys: what is attended to: the tokens, and a sink.
        notices: what the reader should know.
    """

    scores: Result
    sinks: Result | None
    patterns: Result | None
    small: np.ndarray = field(repr=False)
    positions: Along = field(repr=False)
    keys: Along = field(repr=False)
    notices: tuple[str, ...]
    _again: Again = field(repr=False)
    _labelled: Callable[[int, torch.Tensor], Result] = field(repr=False)
    _best: list[Head] = field(repr=False)
    _modules: list[str] = field(repr=False)

    @property
    def tokens(self) -> list[str]:
        """The prompt's tokens."""
        words = self.positions.words
        return [str(each) for each in (self.positions.places if words is None else words)]

    @property
    def names(self) -> list[str]:
        """What is scored; the one that the views begin with is the last but one on repeated
        tokens, *induction*, else *previous*."""
        return self.scores["score"].values.tolist()

    @property
    def chosen(self) -> str:
        return "induction" if "induction" in self.names else "previous"

    def ranked(self, score: str = "") -> list[tuple[int, int, float]]:
        """All heads by a score, the highest first: block, head, and the score.

        Raises:
            BadInputError: there is no such score.
        """
        name = score or self.chosen
        check_score(name, repeated=OF_REPEATED[0] in self.names)
        found = self.scores.sel(score=name)
        layers = found["layer"].values.tolist()
        flat = np.nan_to_num(found.values, nan=-1.0).ravel()
        heads = found.sizes["head"]
        order = (divmod(int(k), heads) for k in np.argsort(-flat, kind="stable") if flat[k] >= 0)
        return [(layers[row], head, float(found.values[row, head])) for row, head in order]

    def block(self, layer: int) -> Result:
        """The patterns of one block `(head, from, to)`; run again where they were not kept.

        Raises:
            BadInputError: the model gives other patterns now.
        """
        if self.patterns is not None:
            return self.patterns.sel(layer=layer)
        return self._labelled(layer, self._again(layer))

    def as_cell(self, *, layer: int, head: int) -> CellText:
        """A `%%trace` cell that gives the pattern of one head, `(from, to)`.

        Raises:
            BadInputError: there is no such head, or the prompt cannot be written on a line.
        """
        return _cell(self.scores, layer, head)

    # -- forms --------------------------------------------------------------------------------

    def view(self, *, score: str = "") -> HeadsView:
        """All heads as small multiples, one of them large, and heads ranked by a score.

        Args:
            score: the one that they are ranked by at first.
        """
        from nnsight_magic.views.live.heads import HeadsView

        name = score or self.chosen
        layer, head, _ = self.ranked(name)[0]
        layers, scores = self.scores["layer"].values.tolist(), self.scores
        return HeadsView(
            self.small,
            layers,
            self.tokens,
            {each: self.scores.sel(score=each).values for each in self.names} | self._sinks(),
            self._in_blocks(layers) if self.patterns is None else self.patterns.values,
            sink=self.sinks is not None,
            modules=self._modules,
            # Of the scores alone: a view does not keep the model alive, and this result does.
            cells=lambda block, head: _cell(scores, layers[block], head),
            title=str(self.scores.attrs["title"]),
            note="; ".join(self.notices),
            score=name,
            at=[layers.index(layer), head],
        )

    def _in_blocks(self, layers: list[int]) -> InBlocks:
        """The patterns as the view reads them, a block at a time."""
        heads, again = self.scores.sizes["head"], self._again.weakly()
        shape = (len(layers), heads, len(self.positions.places), len(self.keys.places))
        known = {(layers.index(each.layer), each.head): each.pattern for each in self._best}

        def read(block: int) -> torch.Tensor:
            if again.is_busy:
                raise BadInputError(
                    "The model is running in a cell; look again at this head when it has ended."
                )
            return again(layers[block])

        return InBlocks(shape, read, known)

    def _sinks(self) -> dict[str, np.ndarray]:
        return {} if self.sinks is None else {"sink": self.sinks.values}

    def figure(self, score: str = "", *, layer: int | None = None, head: int | None = None) -> Any:
        """A matplotlib figure of one score: blocks down, heads across.

        Args:
            score: the one that is drawn.
            layer: draw the patterns of this block's heads instead, in one scale.
            head: draw the pattern of this head of the block alone.

        Raises:
            BadInputError: there is no such score, block or head.
        """
        if layer is not None:
            return self._pattern_figure(layer, head)
        name = score or self.chosen
        self.ranked(name)
        found = self.scores.sel(score=name)
        found.attrs["title"] = f"weight on {name} token" if name != "induction" else "induction"
        return found.figure()

    def _pattern_figure(self, layer: int, head: int | None) -> Any:
        from nnsight_magic.views.still.head_figure import heads_figure

        if layer not in self.scores["layer"]:
            raise BadInputError(f"There are no patterns of a block {layer}.")
        block = self.block(layer)
        heads = block["head"].values.tolist()
        if head is not None and head not in heads:
            raise BadInputError(f"Block {layer} has {len(heads)} heads, so there is no {head}.")
        if head is None:
            return heads_figure(block.values, heads, self.tokens, f"attention of block {layer}")
        one = block.sel(head=head, drop=True)
        one.attrs["title"] = f"head {layer}.{head}"
        return one.figure(limits=[0.0, 1.0], palette="sequential")

    def text(self) -> str:
        """The heads that score highest, in words."""
        blocks, heads = self.scores.sizes["layer"], self.scores.sizes["head"]
        size = f"{blocks} block{'s' * (blocks != 1)} of {heads} heads"
        lines = [f"attention: {size}, {len(self.tokens)} tokens", *self.notices]
        for name in self.names:
            best = self.ranked(name)[:RANKED]
            told = ", ".join(f"{layer}.{head} {number(value)}" for layer, head, value in best)
            lines.append(f"{name:>9}  {told}")
        if self.sinks is not None:
            lines.append(f"{'sink':>9}  mean {number(float(self.sinks.mean()))}")
        drawn = self._map()
        return "\n".join([*lines, *([drawn] if drawn else [])])

    def _map(self) -> str | None:
        """In a terminal the score that the views begin with, blocks down and heads across."""
        from nnsight_magic.views.still.half_blocks import terminal_map

        found = self.scores.sel(score=self.chosen)
        layers = found["layer"].values.tolist()
        words = () if layers == list(range(len(layers))) else tuple(map(str, layers))
        along = [Axis("layer", len(layers), words), Axis("head", found.sizes["head"])]
        drawn = terminal_map(as_numbers(found), along, [0.0, 1.0], "sequential")
        return None if drawn is None else f"{self.chosen}:\n{drawn}"


def _cell(scores: Result, layer: int, head: int) -> CellText:
    from nnsight_magic.analyses.cell_of_point import cell_with, point_of
    from nnsight_magic.analyses.cell_of_reading import head_lines

    place = {"layer": layer, "head": head}
    point_of(axes(scores.isel(score=0, drop=True)), {}, place)
    return cell_with(scores.attrs, lambda recipe: head_lines(place))
