"""The tensor viewer: two axes as a heat map, sliders for the others, tiles on demand."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import traitlets

from nnsight_magic.errors import BadInputError, GoneError
from nnsight_magic.views.data.array import PARTS, Array
from nnsight_magic.views.data.dense import as_tensor
from nnsight_magic.views.data.held import HELD
from nnsight_magic.views.data.labels import Labels, Vocabulary
from nnsight_magic.views.data.pooling import numbers
from nnsight_magic.views.data.roles import drawn_axes, infer_axes, with_words
from nnsight_magic.views.data.seen import Seen, axes_of
from nnsight_magic.views.data.tensor import STORED, TensorData, both, facts_of
from nnsight_magic.views.data.wire import About
from nnsight_magic.views.live.view import Answer, ShownText, View

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
        ordered: whether the columns are ordered by their norm.
        cell: the index path of the selected value, or empty.
        opened: whether the controls are shown, or only the picture.
        empty: what NaN stands for where it is no number that was computed, such as "not run"; it
            is drawn as nothing.
        spread: of bars, how far each may be off: standard errors, as many as there are bars.
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
    empty = traitlets.Unicode().tag(sync=True)
    spread = traitlets.List(traitlets.Float()).tag(sync=True)
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
        words: Mapping[str, Sequence[str]] | None = None,
        expression: str = "",
        weak: bool = False,
        stored: int = STORED,
        **state: Any,
    ) -> None:
        """A view of `tensor`.

        Args:
            tensor: what holds numbers, or the `Array` that reads them.
            axes: what the axes mean, where it cannot be inferred.
            tokens: the prompt's tokens, which label the token axes; of a batch a list for each of
                its rows, of which the one that is looked at holds.
            vocabulary: the text of a token id: a function, such as `tokenizer.decode`, or a list;
                it labels the axis of the vocabulary.
            sizes: the model's sizes by role, such as `{"head": 9, "feature": 576}`.
            words: for any axis by its role, a word for each of its places.
            expression: how the tensor is written; it is what the export copies.
            weak: never keeps the tensor alive; otherwise it is one of those shown last that are
                kept, a gigabyte of them.
            stored: how many values are stored with the view.
            state: any of the attributes, as they are to be at first.
        """
        if isinstance(tensor, Array):
            array = tensor
        else:
            if not weak:
                tensor = as_tensor(tensor)
                HELD.keep(tensor)
            array = Array(tensor, weak=True)
        if vocabulary is not None and not callable(vocabulary):
            sizes = {"vocabulary": len(vocabulary), **(sizes or {})}
        places = with_words(infer_axes(array.shape, axes, tokens, sizes), words or {})
        self.data = TensorData(array, Labels(places, vocabulary), stored)
        facts: About = {
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
            **self.data.store(state["drawn"], state["index"], state.get("part", "real")),
            **state,
        )

    @property
    def array(self) -> Array:
        """Reads the tensor."""
        return self.data.array

    @property
    def labels(self) -> Labels:
        """The words on the tensor's axes."""
        return self.data.labels

    @property
    def seen(self) -> Seen:
        """What is shown now, as data."""
        return Seen(
            self.data,
            self.title,
            self.expression,
            self.axes,
            self.drawn,
            self.index,
            self.window,
            self.part,
            self.ordered,
            self.limits,
            self.palette,
            self.scale,
            self.empty,
            tuple(self.spread),
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
            now = zip(self.axes, axes_of(self.seen), strict=True)
            self.axes = [{**given, "labels": shown["labels"]} for given, shown in now]

    def stored_in(self, budget: int) -> dict[str, Any]:
        """The same of what is drawn now, in another number of values, while the tensor is there."""
        try:
            return self.data.stored_in(list(self.drawn), list(self.index), self.part, budget)
        except GoneError:
            return {}

    def axes_with_words(self) -> list[dict[str, Any]]:
        """The axes as they are, with the words of every prompt of a batch."""
        known = self.labels.traits(whole=True)
        if len(self.axes) != len(known):
            return known
        rows = [{"rows": each["rows"], "along": each["along"]} for each in known]
        return [{**now, **more} for now, more in zip(self.axes, rows, strict=True)]

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
        rows, columns = (max(1, min(TILE, int(each))) for each in asked["size"])
        order = self.data.order(axes, index, part) if asked.get("ordered") else None
        window = [int(each) for each in asked["window"]] if asked.get("window") else None
        plane = self.array.plane(axes, index, window, (rows, columns), part, order)
        data = [plane.low.levels.tobytes(), both(plane).tobytes()]
        if order is not None and len(order) <= NAMED:
            data.append(order.astype(np.int32).tobytes())
        return facts_of(plane), data

    def _text(self, asked: dict[str, Any]) -> Answer:
        """One value exactly; with `ordered`, of the column at that place."""
        index = [int(each) for each in asked["index"]]
        if asked.get("ordered"):
            axes, at, part = _place(asked)
            index[axes[1]] = int(self.data.order(axes, at, part)[index[axes[1]]])
        words = self.labels.at(axes_of(self.seen), index)
        return {"text": self.array.text(index), "index": index, "words": words}, []

    def _stats(self, asked: dict[str, Any]) -> Answer:
        part, exact = str(asked.get("part", "real")), bool(asked.get("exact"))
        if exact:
            return {"stats": self.array.statistics(part, exact)}, []
        axes, index, part = _place(asked)
        return {"stats": self.data.statistics(part, axes, index)}, []

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
        from nnsight_magic.views.still.figure_code import figure_code

        return {"lines": figure_code(self.seen, self._variable())}, []

    def _variable(self) -> str:
        """The notebook's own name of the tensor, where it has one."""
        from IPython import get_ipython

        try:
            tensor = self.array.tensor
        except GoneError:
            return ""
        names = getattr(get_ipython(), "user_ns", {}).items()
        return next((n for n, v in list(names) if v is tensor and not n.startswith("_")), "")

    def _npy(self, asked: dict[str, Any]) -> Answer:
        tensor = self.array.tensor.detach()
        if self.array.bytes > DOWNLOAD:
            raise BadInputError(
                f"{self.array.bytes / 1e6:.0f} MB are too many for the browser; save it from a "
                f"cell: numpy.save('tensor.npy', {self.expression or 'tensor'}.numpy())"
            )
        values = tensor.resolve_conj().cpu().numpy() if tensor.is_complex() else numbers(tensor)
        file = io.BytesIO()
        np.save(file, values)
        return {}, [file.getvalue()]

    # -- from Python --------------------------------------------------------------------------

    def figure(self) -> Any:
        """What the view shows now, as a matplotlib figure."""
        from nnsight_magic.views.still.figure import figure

        return figure(self.seen)

    def refill(self, tensor: Any) -> None:
        """Shows another tensor of the same shape, such as one that has more of its values now.

        Raises:
            BadInputError: it is of another shape.
        """
        tensor = as_tensor(tensor)
        array = Array(tensor, weak=True)
        if tuple(array.shape) != tuple(self.array.shape):
            raise BadInputError(
                f"The view shows a tensor of shape {tuple(self.array.shape)}, and this is "
                f"{tuple(array.shape)}."
            )
        with contextlib.suppress(GoneError):
            HELD.release(self.array.tensor)
        HELD.keep(tensor)
        with self._lock:
            self.data = TensorData(array, self.labels, self.data.budget)
            traits = self.data.store(list(self.drawn), list(self.index), self.part)
        with self.hold_sync():
            for name, value in traits.items():
                setattr(self, name, value)

    def release(self) -> None:
        """Lets go of the tensor; the view goes on with what it stored."""
        with contextlib.suppress(GoneError):
            HELD.release(self.array.tensor)
        self.data.release()

    def text(self) -> str:
        return self.seen.in_words

    def on_terminal(self) -> str:
        from nnsight_magic.views.still.half_blocks import terminal_map

        try:
            drawn = terminal_map(
                self.array.tensor, self.labels.axes, self.limits, self.palette, self.empty
            )
        except GoneError:
            drawn = None
        return "\n".join([super().on_terminal(), *([drawn] if drawn else [])])

    def still(self) -> str:
        from nnsight_magic.views.still.tensor import html

        return html(self.seen)

    def still_png(self) -> bytes | None:
        from nnsight_magic.views.still.tensor import png

        return png(self.seen)


def _place(asked: dict[str, Any]) -> tuple[list[int], list[int], str]:
    try:
        axes = [int(each) for each in asked["drawn"]]
        index = [int(each) for each in asked["index"]]
    except (KeyError, TypeError, ValueError):
        raise BadInputError("a question without the axes and the place it is about") from None
    if len(axes) != 2:
        raise BadInputError(f"two axes are drawn, not {len(axes)}")
    return axes, index, str(asked.get("part", "real"))
