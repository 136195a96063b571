"""Lines over places: a chart that says what stands at the place that is pointed at."""

from __future__ import annotations

import io
from typing import Any

import traitlets

from nnsight_magic.views.data.chart import Chart
from nnsight_magic.views.data.wire import packed_json
from nnsight_magic.views.live.view import Selection, ShownText, View


class ChartView(View):
    """A chart.

    Attributes:
        title: what is shown.
        notices: what is said above it.
        packed: the chart, as `Chart` packs it.
        place: the place that is selected, or -1.
    """

    title = ShownText().tag(sync=True)
    notices = traitlets.List(ShownText()).tag(sync=True)
    packed = traitlets.Bytes().tag(sync=True)
    place = traitlets.Int(-1).tag(sync=True)

    def __init__(self, chart: Chart, *, selection: Selection | None = None) -> None:
        """A view of a chart.

        Args:
            chart: what is drawn.
            selection: what other views share with this one.
        """
        self.chart = chart
        super().__init__(
            kind="chart",
            title=chart.title,
            notices=list(chart.notes),
            packed=packed_json(chart.packed()),
            selection=selection,
        )

    def text(self) -> str:
        from nnsight_magic.views.still.chart import text

        return text(self.chart)

    def on_terminal(self) -> str:
        from nnsight_magic.printable import printable
        from nnsight_magic.terminal import width
        from nnsight_magic.views.still.chart import text

        return printable(text(self.chart, width()))

    def in_a_line(self) -> str:
        return self.title

    def figure(self) -> Any:
        """The chart as a matplotlib figure."""
        from nnsight_magic.views.still.chart_figure import chart_figure

        return chart_figure(self.chart)

    def still(self) -> str:
        from nnsight_magic.views.still.chart import html

        return html(self.chart, self.place)

    def still_png(self) -> bytes | None:
        file = io.BytesIO()
        self.figure().savefig(file, format="png")
        return file.getvalue()
