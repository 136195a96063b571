"""Attention of all heads: small multiples, one head large, and heads ranked by a score."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from nnsight_magic.errors import BadInputError, GoneError
from nnsight_magic.views.data.heads import SINK, Heads
from nnsight_magic.views.data.in_blocks import InBlocks
from nnsight_magic.views.data.levels import pack
from nnsight_magic.views.data.links import Links
from nnsight_magic.views.data.wire import packed_json
from nnsight_magic.views.live.as_cell import Cells, cell_at
from nnsight_magic.views.live.tensor import TensorView
from nnsight_magic.views.live.view import Answer, Selection, ShownText, View

STORED = 1 << 18  # values of the patterns that are stored, as bytes
AXES = ("layer", "head", "from", "to")


class HeadsView(View):
    """What the heads attend to.

    Attributes:
        score: the name of the score that heads are ranked by.
        at: the head that is large: the place of its block, and its number in it.
        chosen: heads whose mean the tokens show, as `at` each; without any the large one alone.
        large: the viewer of the patterns, from the attending token down to the one attended across.
        modules: the path of each block's attention, or none; selecting a head selects it.
        can: `cell` where a head can be had as a cell.
        selection.token: the token whose links are shown.
    """

    title = ShownText().tag(sync=True)
    note = ShownText().tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    small = traitlets.Bytes().tag(sync=True)
    score = traitlets.Unicode().tag(sync=True)
    at = traitlets.List(traitlets.Int(), minlen=2, maxlen=2, default_value=[0, 0]).tag(sync=True)
    chosen = traitlets.List(traitlets.List(traitlets.Int(), minlen=2, maxlen=2)).tag(sync=True)
    modules = traitlets.List(traitlets.Unicode()).tag(sync=True)
    can = traitlets.List(traitlets.Unicode()).tag(sync=True)
    large = traitlets.Instance(TensorView).tag(sync=True, **ipywidgets.widget_serialization)

    def __init__(
        self,
        small: np.ndarray,
        layers: Sequence[int],
        tokens: Sequence[str],
        scores: Mapping[str, np.ndarray],
        patterns: np.ndarray | InBlocks | None = None,
        title: str = "",
        *,
        sink: bool = False,
        cells: Cells | None = None,
        **state: Any,
    ) -> None:
        """A view of patterns.

        Args:
            small: `(blocks, heads, rows, columns)`, pooled to a size that many have room for.
            layers: the numbers of the blocks.
            tokens: the prompt's.
            scores: by their name, `(blocks, heads)` each.
            patterns: `(blocks, heads, from, to)`, or what reads them a block at a time; without
                them the pooled ones are drawn large.
            sink: whether the last column of every pattern is the weight on a sink.
            cells: the text of a cell that gives the pattern of a block's head, by their places.

        Raises:
            BadInputError: these do not fit each other.
        """
        self.heads = Heads(np.asarray(small), layers, tokens, scores, sink)
        self._cells = cells
        state.setdefault("can", ["cell"] if cells else [])
        state.setdefault("score", next(iter(scores), ""))
        if state["score"] and state["score"] not in scores:
            raise BadInputError(f"there is no score {state['score']!r} among {list(scores)}")
        whole = self.heads.small if patterns is None else patterns
        words = {"layer": [str(each) for each in layers], **self._words(whole.shape)}
        selection = state.pop("selection", None) or Selection()
        at = state.get("at", [0, 0])
        large = TensorView(
            whole if isinstance(whole, InBlocks) else np.ascontiguousarray(whole),
            "pattern",
            axes=AXES,
            words=words,
            stored=STORED,
            index=[*at, 0, 0],
            drawn=[2, 3],
            limits=[0.0, 1.0],
            palette="sequential",
            selection=selection,
        )
        super().__init__(
            kind="heads",
            title=title,
            packed=packed_json(self.heads.packed()),
            small=pack(self.heads.codes),
            large=large,
            selection=selection,
            **state,
        )
        self.links = Links(large.array)
        self.observe(self._enlarge, "at")
        large.observe(self._follow, "index")

    def _words(self, shape: Sequence[int]) -> dict[str, list[str]]:
        """The tokens at the places of the large pattern; of pooled ones the first of several."""
        tokens, places = self.heads.tokens, shape[2]
        each = -(-len(tokens) // max(1, places))
        words = [
            f"{k * each}… {tokens[k * each]}" if each > 1 else tokens[k] for k in range(places)
        ]
        return {"from": words, "to": [*words, SINK] if self.heads.sink else words}

    @traitlets.validate("at")
    def _check_at(self, proposal: Any) -> list[int]:
        at = list(proposal["value"])
        if not all(0 <= k < n for k, n in zip(at, self.heads.small.shape[:2], strict=True)):
            raise traitlets.TraitError(f"there is no head {at}: {self.heads.small.shape[:2]}")
        return at

    @traitlets.validate("chosen")
    def _check_chosen(self, proposal: Any) -> list[list[int]]:
        chosen = [list(each) for each in proposal["value"]]
        if chosen:
            try:
                self.heads.known(chosen)
            except BadInputError as error:
                raise traitlets.TraitError(error.message) from None
        return chosen

    @property
    def answers(self) -> dict[str, Callable[[dict[str, Any]], Answer]]:
        return {"links": self._links, "cell": self._cell}

    def _cell(self, asked: dict[str, Any]) -> Answer:
        return cell_at(self._cells, asked.get("at"), self.heads.small.shape[:2])

    def _links(self, asked: dict[str, Any]) -> Answer:
        """The weights of a token's row and of its column, float32."""
        row, column = self.links.of(self.heads.known(asked.get("heads")), int(asked["token"]))
        return {}, [row.tobytes(), column.tobytes()]

    def _enlarge(self, change: Any) -> None:
        if list(self.large.index[:2]) != list(change["new"]):
            self.large.index = [*change["new"], *self.large.index[2:]]

    def _follow(self, change: Any) -> None:
        if list(self.at) != list(change["new"][:2]):
            self.at = list(change["new"][:2])

    def text(self) -> str:
        from nnsight_magic.views.still.heads import text

        return text(self.heads, self.title, self.note, self.score)

    def in_a_line(self) -> str:
        return f"{self.title}: {self.heads.size}, {len(self.heads.tokens)} tokens"

    def still(self) -> str:
        from nnsight_magic.views.still.heads import html

        head = html(self.heads, self.title, self.note, self.score, self.at)
        return head + self.large.still() + self._links_still()

    def _links_still(self) -> str:
        """The links of the token that is selected, of patterns that are at hand."""
        from nnsight_magic.views.still.heads import links_html

        token, array = self.selection.token, self.large.array
        heads = [(each[0], each[1]) for each in self.chosen or [self.at]]
        if isinstance(array, InBlocks):
            heads = heads if all(array.is_at_hand(*each) for each in heads) else []
        if not heads or not 0 <= token < array.shape[2] == len(self.heads.tokens):
            return ""
        try:
            row, column = self.links.of(heads, token)
        except GoneError:
            return ""
        return links_html(self.heads, heads, token, row, column)
