"""What probes found, and its forms: accuracy by block beside the control, a figure, text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nnsight_magic.analyses.directions import Direction
from nnsight_magic.analyses.probe_weights import Weights
from nnsight_magic.analyses.result import Result
from nnsight_magic.analyses.shows_itself import ShowsItself
from nnsight_magic.errors import BadInputError
from nnsight_magic.views.data.chart import Chart, Level, Line

if TYPE_CHECKING:
    from nnsight_magic.views.live.chart import ChartView

SPREAD = (5, 95)  # percentiles of the control that are shown
CLASSES = 4  # that a title names


@dataclass(frozen=True, repr=False)
class Probe(ShowsItself):
    """How well a property is read off the states, block by block.

    Attributes:
        accuracy: the share of held-out rows whose class was told, `(layer,)`.
        auc: the area under the ROC curve of held-out rows, the mean over folds `(layer,)`; NaN
            where no fold has all classes held out.
        low, high: the 95 % interval of the accuracy, which counts groups `(layer,)`.
        control: the accuracy for labels dealt out at random, `(draw, layer)`.
        majority: the accuracy of always naming the commonest class.
        classes: their names.
        weights: what a probe of all rows learned, by block.
        notices: what the reader should know.
    """

    accuracy: Result
    auc: Result
    low: Result
    high: Result
    control: Result
    majority: float
    classes: tuple[str, ...]
    weights: Mapping[Any, Weights] = field(repr=False)
    notices: tuple[str, ...] = ()

    @property
    def axis(self) -> str:
        """`layer`, or `site` where states were given by name."""
        return str(self.accuracy.dims[0])

    @property
    def places(self) -> list[Any]:
        """The blocks, or the names of the states."""
        return self.accuracy[self.axis].values.tolist()

    @property
    def best(self) -> Any:
        """The block whose probe is the most accurate, the first of equals."""
        return self.places[int(self.accuracy.values.argmax())]

    @property
    def by_chance(self) -> float:
        """How often the control's own best block is as accurate as the best one here.

        `(1 + draws that are) / (1 + draws)`, the p-value of a permutation test whose statistic is
        the maximum over the blocks, so that many blocks do not make a find (Westfall & Young 1993).
        NaN without draws.
        """
        if not len(self.control):
            return float("nan")
        as_good = self.control.values.max(1) >= self.accuracy.values.max()
        return float((1 + as_good.sum()) / (1 + len(as_good)))

    @property
    def title(self) -> str:
        attrs = self.accuracy.attrs
        names = ", ".join(self.classes[:CLASSES]) + (", …" if len(self.classes) > CLASSES else "")
        of = f" of {attrs['site']}" if attrs["site"] else ""
        kind = "logistic" if attrs["method"] == "logistic" else "class means"
        return (
            f"probe{of}: {names} ({attrs['rows']:,} rows, {attrs['groups']:,} groups, "
            f"{attrs['folds']} folds, {kind})"
        )

    def direction(self, layer: Any = None, toward: str | None = None) -> Direction:
        """The direction in which a class is read off, of a probe of all rows.

        With `method="means"` it is the class's mean minus the others'. Of a logistic regression it
        is the normal of the plane between the classes, as long as their means are apart along it;
        so one unit moves the mean of the others as far as the class's own.

        Args:
            layer: the block; by default the most accurate one.
            toward: the class; of two by default the second.

        Raises:
            BadInputError: there is no such block or class, or there are several classes and none is
                named.
        """
        layer = self.best if layer is None else layer
        if layer not in self.weights:
            raise BadInputError(f"There is no probe of {layer!r}; there are {self.places}.")
        if toward is None and len(self.classes) > 2:
            raise BadInputError(f"Toward which class? There are {', '.join(self.classes)}.")
        name = self.classes[len(self.classes) - 1] if toward is None else str(toward)
        if name not in self.classes:
            raise BadInputError(f"There is no class {name!r}; there are {', '.join(self.classes)}.")
        if self.axis != "layer":
            raise BadInputError(
                "These states have names and no block numbers, so nothing says where their "
                "direction belongs; give a dict by block: {10: states}."
            )
        others = " or ".join(each for each in self.classes if each != name)
        vector = self.weights[layer].direction(self.classes.index(name))
        attrs = self.accuracy.attrs
        return Direction(
            {int(layer): torch.tensor(vector, dtype=torch.float32)},
            attrs["site"] or "resid_post",
            f"from {others} to {name}",
            attrs["model"],
        )

    def dataset(self) -> Any:
        """All numbers as one `xarray.Dataset`."""
        import xarray

        parts = [self.accuracy, self.auc, self.low, self.high, self.control]
        return xarray.merge(parts, compat="override")

    # -- forms --------------------------------------------------------------------------------

    def chart(self) -> Chart:
        """The numbers as a chart: accuracy with its interval, AUC, the control's spread."""
        lines = [
            Line("accuracy", _list(self.accuracy), "main", _list(self.low), _list(self.high)),
            Line("AUC", _list(self.auc), "second"),
        ]
        if len(self.control):
            low, high = np.percentile(self.control.values, SPREAD, axis=0)
            middle = self.control.values.mean(0).tolist()
            lines.append(Line("control", middle, "spread", low.tolist(), high.tolist()))
        return Chart(
            self.title,
            self.axis,
            [str(each) for each in self.places],
            lines,
            [Level("majority class", self.majority)],
            notes=[*self.notices, *self.in_words()],
            numbers=self.places if self.axis == "layer" else None,
        )

    def in_words(self) -> list[str]:
        """The best block, and the control's best."""
        at = int(self.accuracy.values.argmax())
        accuracy, low, high = (
            float(each.values[at]) for each in (self.accuracy, self.low, self.high)
        )
        auc = float(self.auc.values[at])
        area = "" if auc != auc else f", AUC {auc:.2f}"
        found = [
            f"best at {self.axis} {self.best}: accuracy {accuracy:.2f} (95 % interval {low:.2f} to "
            f"{high:.2f}, by groups){area}; the majority class alone {self.majority:.2f}"
        ]
        if not len(self.control):
            return [*found, "no control was drawn: nothing says what chance gives"]
        most = self.control.values.max(1)
        as_good = int((most >= accuracy).sum())
        of = f" of {len(self.places)} {self.axis}s" if len(self.places) > 1 else ""
        found.append(
            f"the control's own best{of}: {most.min():.2f} to {most.max():.2f}; as good in "
            f"{as_good} of {len(most)} draws (p = {self.by_chance:.2g})"
        )
        return found

    def view(self) -> ChartView:
        """The chart: accuracy by block with its interval, beside what chance gives."""
        from nnsight_magic.views.live.chart import ChartView

        return ChartView(self.chart())

    def figure(self) -> Any:
        """A matplotlib figure of the same."""
        from nnsight_magic.views.still.chart_figure import chart_figure

        return chart_figure(self.chart())

    def text(self) -> str:
        """Title, what follows in words, and a line for each block."""
        from nnsight_magic.terminal import width
        from nnsight_magic.views.still.chart import text

        return text(self.chart(), width())


def _list(result: Result) -> list[float]:
    return [float(each) for each in result.values]
