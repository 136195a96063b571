"""The tensor viewer: two axes as a heat map, sliders for the others, tiles on demand."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import traitlets

from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.array import PARTS, Array, Ends, GoneError, Plane
from nnsight_magic.views.data.colouring import all_seen, automatic, marks_of, standing_out
from nnsight_magic.views.data.containers import holds_tensors
from nnsight_magic.views.data.dense import as_tensor
from nnsight_magic.views.data.held import HELD
from nnsight_magic.views.data.labels import Labels, Vocabulary
from nnsight_magic.views.data.levels import MINUS_INFINITY, NAN, PLUS_INFINITY, Coded, encode, pack
from nnsight_magic.views.data.pooling import numbers
from nnsight_magic.views.data.roles import drawn_axes, infer_axes
from nnsight_magic.views.data.seen import axes_of
from nnsight_magic.views.live.view import Answer, ShownText, View

if TYPE_CHECKING:
    from nnsight_magic.views.data.seen import Place

# What a view stores of its tensor, in values: all of a small one, else one pooled plane of half as
# many pairs.
STORED = 1 << 16
PALETTES = ("auto", "diverging", "sequential", "grey")
TILE = 512  # numbers a side that one answer may have
DOWNLOAD = 1 << 26  # bytes
NAMED = 1 << 14  # columns whose places in an order are sent with it
MARGIN = 1024  # places along an axis for which row and column statistics are sent


class TensorView(View):
    """A tensor in the notebook. What is drawn is state: set it from Python, or read it.

    Attributes:
        drawn: the axis drawn down and the one drawn across, -1 for none.
        index: the place on every axis; used on those that are not drawn.
        window: (top, bottom, left, right) in values, or empty for all.
        limits: the values at the ends of the colour scale, or empty for robust ones.
        palette: one of `PALETTES`.
        part: of a complex tensor, one of "real", "imag", "abs", "angle".
        ordered: whether the columns stand by their norm.
        cell: the index path of the selected value, or empty.
        opened: whether the controls are shown, or only the picture.
        scale: ends and marks that colours go by instead of the tensor's own `stats`.
        module: the path of the module that the tensor is of; selecting one marks the other.
    """

    title = ShownText().tag(sync=True)
    expression = traitlets.Unicode().tag(sync=True)
    about = traitlets.Dict().tag(sync=True)
    axes = traitlets.List(traitlets.Dict()).tag(sync=True)
    stats = traitlets.Dict().tag(sync=True)
    scale = traitlets.Dict().tag(sync=True)
    module = traitlets.Unicode().tag(sync=True)
    notice = traitlets.Unicode().tag(sync=True)
    stored = traitlets.Dict().tag(sync=True)
    levels = traitlets.Bytes().tag(sync=True)
    codes = traitlets.Bytes().tag(sync=True)

    drawn = traitlets.List(traitlets.Int(), minlen=2, maxlen=2, default_value=[-1, -1]).tag(
        sync=True
    )
    index = traitlets.List(traitlets.Int()).tag(sync=True)
    window = traitlets.List(traitlets.Int()).tag(sync=True)
    limits = traitlets.List(traitlets.Float()).tag(sync=True)
    palette = traitlets.Enum(PALETTES, "auto").tag(sync=True)
    part = traitlets.Enum(PARTS, "real").tag(sync=True)
    ordered = traitlets.Bool(False).tag(sync=True)
    cell = traitlets.List(traitlets.Int()).tag(sync=True)
    opened = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        tensor: Any,
        title: str = "",
        *,
        axes: Sequence[str] | None = None,
        tokens: Sequence[str] | Sequence[Sequence[str]] | None = None,
        vocabulary: Vocabulary | None = None,
        sizes: Mapping[str, int] | None = None,
        expression: str = "",
        weak: bool = False,
        stored: int = STORED,
        **state: Any,
    ) -> None:
        """A view of `tensor`.

        Args:
            axes: what the axes stand for, where it cannot be inferred.
            tokens: the prompt's tokens, which label the token axes; of a batch a list for each of
                its rows, of which the one that is looked at holds.
            vocabulary: the text of a token id: a function, such as `tokenizer.decode`, or a list;
                it labels the axis of the vocabulary.
            sizes: the model's sizes by role, such as `{"head": 9, "feature": 576}`.
            expression: how the tensor is written; it is what the export copies.
            weak: never keeps the tensor alive; otherwise it is one of those shown last that are
                kept, a gigabyte of them.
            stored: how many values are stored with the view.
            state: any of the attributes, as they are to be at first.
        """
        if not weak:
            tensor = as_tensor(tensor)
            HELD.keep(tensor)
        array = self.array = Array(tensor, weak=True)
        if vocabulary is not None and not callable(vocabulary):
            sizes = {"vocabulary": len(vocabulary), **(sizes or {})}
        places = infer_axes(array.shape, axes, tokens, sizes)
        self.labels = Labels(places, vocabulary)
        self._orders: dict[tuple, np.ndarray] = {}
        self._budget = stored
        facts = {
            "shape": list(array.shape),
            "dtype": array.dtype,
            "device": array.device,
            "bytes": array.bytes,
            "size": array.size,
            "complex": array.complex,
            "integer": array.integer,
        }
        state.setdefault("drawn", list(drawn_axes(places)))
        state.setdefault("index", [0] * len(places))
        super().__init__(
            kind="tensor",
            title=title,
            expression=expression or title,
            about=facts,
            axes=self.labels.traits(),
            **self._stored(state["drawn"], state["index"], stored, state.get("part", "real")),
            **state,
        )

    @traitlets.validate("limits")
    def _check_limits(self, proposal: Any) -> list[float]:
        """Colours end at numbers, and no message can carry others."""
        limits = list(proposal["value"])
        if not all(map(math.isfinite, limits)):
            raise traitlets.TraitError(f"limits are two finite numbers, or none; found {limits}")
        return limits

    @traitlets.observe("index", "drawn")
    def _relabel(self, _: Any = None) -> None:
        """The words on the axes are those of the prompt that is looked at."""
        if any(axis.rows for axis in self.labels.axes) and len(self.axes) == len(self.array.shape):
            now = zip(self.axes, axes_of(self), strict=True)
            self.axes = [{**given, "labels": shown["labels"]} for given, shown in now]

    def _stored(self, drawn: list[int], index: list[int], budget: int, part: str) -> dict[str, Any]:
        """The traits that hold the image which comes first and stays in a saved notebook."""
        traits, self._first = self._store(drawn, index, budget, part)
        return traits

    def stored_in(self, budget: int) -> dict[str, Any]:
        """The same of what is drawn now, in another number of values, while the tensor is there."""
        try:
            return self._store(list(self.drawn), list(self.index), budget, self.part)[0]
        except GoneError:
            return {}

    def axes_with_words(self) -> list[dict[str, Any]]:
        """The axes as they are, with the words of every prompt of a batch."""
        known = self.labels.traits(whole=True)
        if len(self.axes) != len(known):
            return known
        rows = [{"rows": each["rows"], "along": each["along"]} for each in known]
        return [{**now, **more} for now, more in zip(self.axes, rows, strict=True)]

    def _store(
        self, drawn: list[int], index: list[int], budget: int, part: str
    ) -> tuple[dict[str, Any], tuple[Coded, Coded | None] | None]:
        """Statistics and codes as traits hold them, and the codes as they are."""
        array = self.array
        if not array.size:
            return {"stats": {"count": 0}, "stored": {"form": "empty"}}, None
        drawn, index = self._sound(drawn, index)
        form: dict[str, Any] = {"part": part, "axes": drawn}
        if not budget:
            stats = self.statistics(part, drawn, index)
            return {"stats": stats, "stored": {"form": "none", **form}}, None
        first: tuple[Coded, Coded | None]
        if array.size <= budget:
            coded = encode(numbers(array.real(part)))
            stats = self.statistics(part, drawn, index)
            form |= {"form": "whole"}
            first, codes = (coded, None), coded.codes
        else:
            plane = self._pooled(drawn, index, part, budget // 2)
            stats = self.statistics(part, drawn, index, plane)
            form |= {"form": "plane", **_facts(plane), "drawn": drawn, "index": index}
            first, coded, codes = (plane.low, plane.high), plane.low, _both(plane)
            _widen(stats, plane)
        traits = {"stats": stats, "stored": form}
        return traits | {"levels": pack(coded.levels), "codes": pack(codes)}, first

    def _sound(self, drawn: list[int], index: list[int]) -> tuple[list[int], list[int]]:
        """The state that a new view is given; what cannot be drawn is refused."""
        self.array._picked(drawn, index)
        return drawn, index

    def statistics(
        self, part: str, drawn: list[int], index: list[int], plane: Plane | None = None
    ) -> dict[str, Any]:
        """Those of the array, and what colours need to know of the planes along `drawn`.

        `plane` is the one at `index`, where it is at hand.
        """
        stats = self.array.statistics(part)
        size = [self.array.shape[axis] if axis >= 0 else 1 for axis in drawn]
        if "min" not in stats or all_seen(size):
            return stats
        limits, palette = automatic(stats, (1, 1))
        pairs = [(plane.low.values, (plane.high or plane.low).values)] if plane else []
        pairs += [
            (ends.low, ends.high)
            for ends in self.array.some_planes(drawn, index, part, without=plane is not None)
        ]
        values = [standing_out(*pair, limits, palette).ravel() for pair in pairs]
        return stats | {"drawn": marks_of(np.concatenate(values))}

    def first_ends(self, place: Place) -> Ends | None:
        """What was stored of a place, as the page has it; `None` where that was not stored."""
        form = self.stored.get("form")
        if form not in ("whole", "plane") or self.stored["part"] != place.part:
            return None
        low, high = self._first
        if form == "whole":
            values = low.values
            if values.ndim:
                picked = self.array._picked(place.drawn, place.index)
                values = values[picked]
                if values.ndim == 2 and place.drawn[0] > place.drawn[1]:
                    values = values.T
            values = values.reshape(place.size)
            if place.order is not None:
                values = values[:, place.order]
            return Ends(values, values, (0, place.size[0], 0, place.size[1]), (1, 1))
        same = all(
            at == there
            for axis, (at, there) in enumerate(zip(place.index, self.stored["index"], strict=True))
            if axis not in place.drawn
        )
        if not same or list(place.drawn) != self.stored["drawn"] or place.order is not None:
            return None
        values = low.values
        window, block = tuple(self.stored["window"]), tuple(self.stored["block"])
        return Ends(values, values if high is None else high.values, window, block)

    def _pooled(self, drawn: list[int], index: list[int], part: str, budget: int) -> Plane:
        """One plane in at most `budget` pairs of numbers, shaped as the plane is."""
        height = self.array.shape[drawn[0]] if drawn[0] >= 0 else 1
        rows = min(height, math.isqrt(budget))
        return self.array.plane(drawn, index, size=(rows, budget // max(1, rows)), part=part)

    # -- questions from the browser -----------------------------------------------------------

    @property
    def answers(self) -> dict[str, Callable[[dict[str, Any]], Answer]]:
        return {
            "plane": self._plane,
            "text": self._text,
            "stats": self._stats,
            "margins": self._margins,
            "npy": self._npy,
            "lines": self._lines,
        }

    def _plane(self, asked: dict[str, Any]) -> Answer:
        axes, index, part = _place(asked)
        size = tuple(max(1, min(TILE, int(each))) for each in asked["size"])
        order = self.order(axes, index, part) if asked.get("ordered") else None
        window = [int(each) for each in asked["window"]] if asked.get("window") else None
        plane = self.array.plane(axes, index, window, size, part, order)
        data = [plane.low.levels.tobytes(), _both(plane).tobytes()]
        if order is not None and len(order) <= NAMED:
            data.append(order.astype(np.int32).tobytes())
        return _facts(plane), data

    def order(self, axes: list[int], index: list[int], part: str) -> np.ndarray:
        """The columns of a plane by their norm, as last asked for."""
        key = (*axes, *index, part)
        if key not in self._orders:
            self._orders = {key: self.array.order(axes, index, part)}
        return self._orders[key]

    def _text(self, asked: dict[str, Any]) -> Answer:
        """One value exactly; with `ordered`, of the column that stands at that place."""
        index = [int(each) for each in asked["index"]]
        if asked.get("ordered"):
            axes, at, part = _place(asked)
            index[axes[1]] = int(self.order(axes, at, part)[index[axes[1]]])
        words = self.labels.at(axes_of(self), index)
        return {"text": self.array.text(index), "index": index, "words": words}, []

    def _stats(self, asked: dict[str, Any]) -> Answer:
        part, exact = str(asked.get("part", "real")), bool(asked.get("exact"))
        if exact:
            return {"stats": self.array.statistics(part, exact)}, []
        axes, index, part = _place(asked)
        return {"stats": self.statistics(part, axes, index)}, []

    def _margins(self, asked: dict[str, Any]) -> Answer:
        """Mean and norm of every row and column of the drawn plane, float32."""
        axes, index, part = _place(asked)
        plane = self.array.slice(axes, index, part)
        if not plane.numel():
            raise BadInputError("no values: an axis has length 0")
        if max(plane.shape) > MARGIN * 64 or plane.numel() > 1 << 26:
            raise BadInputError("too large for row and column statistics; slice it first")
        values = numbers(plane).astype(np.float64)
        answers = []
        for axis in (1, 0):
            with np.errstate(all="ignore"):
                answers.append(values.mean(axis).astype(np.float32).tobytes())
                norms = np.sqrt((values * values).sum(axis))
                answers.append(norms.astype(np.float32).tobytes())
        return {}, answers

    def _lines(self, _: dict[str, Any]) -> Answer:
        from nnsight_magic.views.still.lines import lines_of

        return {"lines": lines_of(self)}, []

    def _npy(self, asked: dict[str, Any]) -> Answer:
        if self.array.bytes > DOWNLOAD:
            raise BadInputError(
                f"{self.array.bytes / 1e6:.0f} MB are too many for the browser; save it from a "
                f"cell: numpy.save('tensor.npy', {self.expression or 'tensor'}.numpy())"
            )
        tensor = self.array.tensor.detach()
        values = tensor.resolve_conj().cpu().numpy() if tensor.is_complex() else numbers(tensor)
        file = io.BytesIO()
        np.save(file, values)
        return {}, [file.getvalue()]

    # -- from Python --------------------------------------------------------------------------

    @property
    def cells(self) -> int:
        """How many blocks a still picture may have: as many as are stored."""
        return self._budget if self.array.size <= self._budget else self._budget // 2

    def figure(self) -> Any:
        """What the view shows now, as a matplotlib figure."""
        from nnsight_magic.views.still.figure import figure

        return figure(self)

    def release(self) -> None:
        """Lets go of the tensor; the view goes on with what it stored."""
        with contextlib.suppress(GoneError):
            HELD.release(self.array.tensor)
        self.array.release()
        self._orders.clear()

    def text(self) -> str:
        shape = str(tuple(self.array.shape))
        kind = f"{self.array.dtype}, {self.array.device}"
        return f"{self.title or 'tensor'} {shape} {kind}"

    def still(self) -> str:
        from nnsight_magic.views.still.tensor import html

        return html(self)

    def still_png(self) -> bytes | None:
        from nnsight_magic.views.still.tensor import png

        return png(self)


def _place(asked: dict[str, Any]) -> tuple[list[int], list[int], str]:
    try:
        axes = [int(each) for each in asked["drawn"]]
        index = [int(each) for each in asked["index"]]
    except (KeyError, TypeError, ValueError):
        raise BadInputError("a question without the axes and the place it is about") from None
    if len(axes) != 2:
        raise BadInputError(f"two axes are drawn, not {len(axes)}")
    return axes, index, str(asked.get("part", "real"))


def _both(plane: Plane) -> np.ndarray:
    """The codes of the least values, and behind them those of the greatest."""
    if plane.high is None:
        return plane.low.codes
    return np.stack([plane.low.codes, plane.high.codes])


def _widen(stats: dict[str, Any], plane: Plane) -> None:
    """Adds what the plane shows and a sample may have missed: ends, and that there are NaN."""
    if len(plane.low.levels) and "min" in stats:
        stats["min"] = min(stats["min"], float(plane.low.levels[0]))
        stats["max"] = max(stats["max"], float(plane.low.levels[-1]))
    codes = _both(plane)
    for name, marks in (("nan", (NAN,)), ("inf", (PLUS_INFINITY, MINUS_INFINITY))):
        if np.isin(codes, marks).any():
            stats["some"] = [*stats.get("some", ()), name]


def _facts(plane: Plane) -> dict[str, Any]:
    rows, columns = plane.low.codes.shape
    return {
        "rows": rows,
        "columns": columns,
        "window": list(plane.window),
        "block": list(plane.block),
        "pair": plane.high is not None,
        "sampled": plane.sampled,
    }


def show(tensor: Any, title: str = "", **options: Any) -> View:
    """A viewer of any tensor or array; see `TensorView` for what can be given.

    Of a dict, list or tuple with tensors of several shapes in it each is shown by its name.

    >>> show([[1.0, 2.0], [3.0, 4.0]], "numbers", axes=("token", "feature")).text()
    'numbers (2, 2) float64, cpu'
    """
    if holds_tensors(tensor):
        from nnsight_magic.views.live.several import several

        return several(tensor, title, **options)
    return TensorView(tensor, title, **options)
